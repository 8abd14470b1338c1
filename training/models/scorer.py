"""What every model that learns by gradients has, whatever it reads with."""

from typing import Any

from torch import Tensor, nn

from training.models.parts import PromptHeads, TargetScale


class Scorer(nn.Module):
    """Makes one pooled state per essay; a linear head per prompt scores it."""

    heads: PromptHeads
    target: TargetScale
    has_frozen_base: bool = False
    """Whether most of it is pretrained weights that do not learn, and that no checkpoint need hold."""

    def left_out(self) -> frozenset[str]:
        """Names of the weights that a checkpoint of learning leaves out."""
        frozen = (name for name, weight in self.named_parameters() if not weight.requires_grad)
        return frozenset(frozen if self.has_frozen_base else ())

    def pooled(self, *args: Any, **kwargs: Any) -> Tensor:
        """What the heads see of each essay, (B, H), from the inputs of `forward`."""
        raise NotImplementedError

    def scored(self, pooled: Tensor, prompt_index: Tensor) -> Tensor:
        """`raw_unit_score` (B,) from pooled states (B, H)."""
        return self.target(self.heads(pooled.float(), prompt_index), prompt_index)


class TokenScorer(Scorer):
    """A scorer that reads token ids."""

    def pooled(self, input_ids: Tensor, attention_mask: Tensor, num_tokens: Tensor, prompt_index: Tensor) -> Tensor:
        """What the heads see of each essay, (B, H)."""
        raise NotImplementedError

    def forward(self, input_ids: Tensor, attention_mask: Tensor, num_tokens: Tensor, prompt_index: Tensor) -> Tensor:
        """`raw_unit_score` (B,) from ids and mask (B, T), the whole essay's tokens (B,) and prompt (B,)."""
        return self.scored(self.pooled(input_ids, attention_mask, num_tokens, prompt_index), prompt_index)
