"""A linear probe: mean states of an encoder as it came, several layers of it, beside the length; a head per prompt.

What fine-tuning forgets of spelling and syntax is still there in the lower layers, so it errs elsewhere than `encoder`.
"""

import torch
from torch import Tensor
from transformers import AutoModel

from training.models.encoder import backbone_config
from training.models.parts import PromptHeads, TargetScale, length_feature, masked_mean
from training.models.scorer import TokenScorer
from training.models.spec import ProbeShape


class ProbeScorer(TokenScorer):
    """Reads token ids and scores standardized mean states."""

    state_mean: Tensor
    state_deviation: Tensor

    def __init__(self, num_prompts: int, shape: ProbeShape) -> None:
        super().__init__()
        self.pooled_layers = shape.pooled_layers
        config = backbone_config({**shape.backbone, "num_hidden_layers": max(shape.pooled_layers)})
        self.backbone = AutoModel.from_config(config, dtype=torch.float32)
        if getattr(self.backbone, "pooler", None) is not None:
            self.backbone.pooler = None
        size = len(shape.pooled_layers) * config.hidden_size + 1
        self.register_buffer("state_mean", torch.zeros(size))
        self.register_buffer("state_deviation", torch.ones(size))
        self.heads = PromptHeads(num_prompts, size)
        self.target = TargetScale(num_prompts)
        # Heads are solved in closed form (`training.probe`), never by a gradient.
        self.requires_grad_(False)

    def set_state_scale(self, pooled: Tensor, length_share: float) -> None:
        """Take mean and deviation from the train essays, (N, D); the length then makes this share of a squared row."""
        deviation = pooled.std(dim=0, correction=0)
        self.state_mean.copy_(pooled.mean(dim=0))
        self.state_deviation.copy_(torch.where(deviation > 0, deviation, torch.inf))
        self.state_deviation[-1] /= ((pooled.shape[1] - 1) * length_share / (1 - length_share)) ** 0.5 or 1e-6

    def pooled(self, input_ids: Tensor, attention_mask: Tensor, num_tokens: Tensor, prompt_index: Tensor) -> Tensor:
        """The mean state of each layer that is read, and the length, (B, D)."""
        states = self.backbone(input_ids, attention_mask, output_hidden_states=True).hidden_states
        means = [masked_mean(states[layer], attention_mask) for layer in self.pooled_layers]
        return torch.cat([*means, length_feature(num_tokens)], dim=-1)

    def standardized(self, pooled: Tensor) -> Tensor:
        """What the heads see, (B, D), from pooled states (B, D)."""
        return (pooled.float() - self.state_mean) / self.state_deviation

    def scored(self, pooled: Tensor, prompt_index: Tensor) -> Tensor:
        """`raw_unit_score` (B,) from pooled states (B, D)."""
        return super().scored(self.standardized(pooled), prompt_index)
