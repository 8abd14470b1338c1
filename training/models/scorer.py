"""What every model that learns by gradients has, whatever it reads with."""

from torch import Tensor, nn

from training.models.parts import PromptHeads, TargetScale


class TokenScorer(nn.Module):
    """Reads ids into one pooled state per essay; a linear head per prompt scores it."""

    heads: PromptHeads
    target: TargetScale

    def pooled(self, input_ids: Tensor, attention_mask: Tensor, prompt_index: Tensor) -> Tensor:
        """What the heads see of each essay, (B, H)."""
        raise NotImplementedError

    def forward(self, input_ids: Tensor, attention_mask: Tensor, prompt_index: Tensor) -> Tensor:
        """`raw_unit_score` (B,) from ids and mask (B, T) and prompt (B,)."""
        pooled = self.pooled(input_ids, attention_mask, prompt_index).float()
        return self.target(self.heads(pooled, prompt_index), prompt_index)
