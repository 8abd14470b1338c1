"""What several models share: the way from a standard score to a unit score, and pooling that padding cannot touch."""

import torch
from torch import Tensor, nn

# Log of a middling essay's number of tokens: near it the feature is 0.
_MIDDLING_LENGTH = 6.0


class TargetScale(nn.Module):
    """Standard scores (mean 0, deviation 1 on a prompt's train essays) to unit scores, and back.

    Prompts differ in mean and spread of unit scores; a loss on standard scores weighs them alike.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, num_prompts: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(num_prompts))
        self.register_buffer("deviation", torch.ones(num_prompts))

    def forward(self, standard_scores: Tensor, prompt_index: Tensor) -> Tensor:
        """Unit scores, (B,), from standard scores, (B,)."""
        return self.mean[prompt_index] + self.deviation[prompt_index] * standard_scores

    def standardize(self, unit_scores: Tensor, prompt_index: Tensor) -> Tensor:
        """Standard scores, (B,), from unit scores, (B,)."""
        return (unit_scores - self.mean[prompt_index]) / self.deviation[prompt_index]


class PromptHeads(nn.Module):
    """A linear head for each prompt, from a pooled state to a standard score."""

    def __init__(self, num_prompts: int, size: int) -> None:
        super().__init__()
        # Zero: a fresh model answers each prompt's mean, so the first steps move the heads, not the encoder.
        self.weight = nn.Parameter(torch.zeros(num_prompts, size))
        self.bias = nn.Parameter(torch.zeros(num_prompts))

    def forward(self, pooled: Tensor, prompt_index: Tensor) -> Tensor:
        """Standard scores, (B,), from pooled states, (B, H)."""
        return (pooled * self.weight[prompt_index]).sum(dim=-1) + self.bias[prompt_index]


def length_feature(num_tokens: Tensor) -> Tensor:
    """How far an essay's length is from a middling one's, in logarithms, (B, 1) float32.

    Means and maxima of states forget how much was written, and that is a good part of a holistic score.
    """
    return num_tokens.clamp(min=1).float().log().unsqueeze(-1) - _MIDDLING_LENGTH


def masked_mean(states: Tensor, attention_mask: Tensor) -> Tensor:
    """Mean over real tokens, (B, H), from states (B, T, H) and a mask (B, T)."""
    weights = attention_mask.unsqueeze(-1).to(states.dtype)  # (B, T, 1)
    return (states * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1.0)
