"""As `training.upper_layers`, for decoders: the layers with adapters, apart from those below, whose states are kept."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from training.models.decoder import DecoderScorer, read, summary
from training.models.scorer import Scorer
from training.upper_layers import layer_list, with_part

# Halves and whole compute the same sums in the same order; what differs is rounding, on states of some tens.
_SAME = 1e-2


class LowerDecoderLayers(nn.Module):
    """Embeddings and the lowest layers: ids (B, T) to states (B, T, H) float32, before any norm."""

    def __init__(self, whole: DecoderScorer, num_layers: int) -> None:
        super().__init__()
        self.in_bf16 = False
        """Whether matrix products are in bf16, as in learning: nearly twice as fast."""
        name, layers = layer_list(whole.backbone)
        self.backbone = with_part(with_part(whole.backbone, name, layers[:num_layers]), "norm", nn.Identity())

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """States above the lowest layers, (B, T, H)."""
        with torch.autocast(input_ids.device.type, torch.bfloat16, enabled=self.in_bf16):
            return read(self.backbone, attention_mask, input_ids=input_ids).float()


class UpperDecoderScorer(Scorer):
    """The other layers and the heads: states (B, T, H) to a unit score."""

    has_frozen_base = True

    def __init__(self, whole: DecoderScorer, num_frozen: int) -> None:
        super().__init__()
        name, layers = layer_list(whole.backbone)
        self.backbone = with_part(whole.backbone, name, layers[num_frozen:])
        self.heads, self.target = whole.heads, whole.target

    def pooled(self, states: Tensor, attention_mask: Tensor, num_tokens: Tensor, prompt_index: Tensor) -> Tensor:
        """As `DecoderScorer.pooled`, (B, H + 1)."""
        return summary(read(self.backbone, attention_mask, inputs_embeds=states), attention_mask, num_tokens)

    def forward(self, states: Tensor, attention_mask: Tensor, num_tokens: Tensor, prompt_index: Tensor) -> Tensor:
        """`raw_unit_score` (B,)."""
        return self.scored(self.pooled(states, attention_mask, num_tokens, prompt_index), prompt_index)


def can_cut_decoder(whole: DecoderScorer, num_frozen: int, inputs: Mapping[str, Tensor]) -> bool:
    """Whether both halves in a row do what the whole does; GPT-2, with positions added below its layers, does not."""
    if not hasattr(whole.backbone, "norm"):
        return False
    rest = {name: value for name, value in inputs.items() if name != "input_ids"}
    with torch.inference_mode():
        states = LowerDecoderLayers(whole, num_frozen)(inputs["input_ids"], inputs["attention_mask"])
        cut = UpperDecoderScorer(whole, num_frozen).pooled(states, **rest)
        return bool((cut - whole.pooled(**inputs)).abs().max() < _SAME)
