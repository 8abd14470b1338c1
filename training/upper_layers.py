"""The layers of an encoder that learn, apart from the frozen ones below them, whose states are the same in every epoch.

Both halves share their weights with the whole: what is learned here is learned there.
"""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from training.models.encoder import EncoderScorer, summary
from training.models.scorer import Scorer

# Halves and whole compute the same sums in the same order; what differs is rounding.
_SAME = 1e-4


class LowerLayers(nn.Module):
    """Embeddings and the lowest layers: ids (B, T) to states (B, T, H)."""

    def __init__(self, whole: EncoderScorer, num_layers: int) -> None:
        super().__init__()
        name, layers = layer_list(whole.backbone)
        self.backbone = with_part(whole.backbone, name, layers[:num_layers])

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """States above the lowest layers, (B, T, H)."""
        states: Tensor = self.backbone(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return states


class UpperScorer(Scorer):
    """The other layers and the heads: states (B, T, H) to a unit score."""

    def __init__(self, whole: EncoderScorer, num_frozen: int) -> None:
        super().__init__()
        name, layers = layer_list(whole.backbone)
        self.backbone = with_part(with_part(whole.backbone, name, layers[num_frozen:]), "embeddings", _Given())
        self.heads, self.target = whole.heads, whole.target

    def pooled(self, states: Tensor, attention_mask: Tensor, num_tokens: Tensor, prompt_index: Tensor) -> Tensor:
        """As `EncoderScorer.pooled`, (B, 2H + 1)."""
        read = self.backbone(inputs_embeds=states, attention_mask=attention_mask).last_hidden_state
        return summary(read, attention_mask, num_tokens)

    def forward(self, states: Tensor, attention_mask: Tensor, num_tokens: Tensor, prompt_index: Tensor) -> Tensor:
        """`raw_unit_score` (B,)."""
        return self.scored(self.pooled(states, attention_mask, num_tokens, prompt_index), prompt_index)


class _Given(nn.Module):
    """Stands where embeddings were: the states come in ready."""

    def forward(self, *given: Any, **named: Any) -> Tensor:
        states: Tensor = next(
            value for value in (*given, *named.values()) if torch.is_tensor(value) and value.is_floating_point()
        )
        return states


def can_be_cut(whole: EncoderScorer, num_frozen: int, inputs: Mapping[str, Tensor]) -> bool:
    """Whether both halves in a row do what the whole does; architectures with more than layers in a row do not."""
    if not hasattr(whole.backbone, "embeddings"):
        return False
    rest = {name: value for name, value in inputs.items() if name != "input_ids"}
    with torch.inference_mode():
        states = LowerLayers(whole, num_frozen)(inputs["input_ids"], inputs["attention_mask"])
        cut = UpperScorer(whole, num_frozen).pooled(states, **rest)
        return bool((cut - whole.pooled(**inputs)).abs().max() < _SAME)


def layer_list(backbone: nn.Module) -> tuple[str, nn.ModuleList]:
    """A transformer's layers, lowest first, and the name of their list."""
    return next((name, part) for name, part in backbone.named_modules() if isinstance(part, nn.ModuleList))


def with_part(module: nn.Module, name: str, part: nn.Module) -> nn.Module:
    """A module that has `part` at the dotted `name` and shares everything else with `module`, which stays as it is."""
    first, _, rest = name.partition(".")
    twin = copy.copy(module)
    twin._modules = dict(module._modules)
    child = module._modules[first]
    assert child is not None
    twin._modules[first] = with_part(child, rest, part) if rest else part
    return twin
