"""The floor that every other model must beat: hashed character n-grams, linear, and surface features, quadratic.

With presence of n-grams divided by the root of their number, the weights are those of the string kernel's ridge
regression (Cozma et al., 2018), written out over hash buckets so that serving needs no train essays. The features'
part is a polynomial kernel of degree 2 in the same way: a weight for each feature and for each product of two.
"""

import torch
from torch import Tensor, nn

from essays.features import NUM_FEATURES
from training.models.parts import TargetScale

FEATURE_CLIP = 3.0
"""Largest distance of a feature from its mean that counts, in standard deviations."""


class LexicalScorer(nn.Module):
    """Looks up a weight per n-gram and adds weighted surface features and weighted products of two of them."""

    ngram_weights: Tensor
    bucket_weights: Tensor
    feature_weights: Tensor
    product_weights: Tensor
    feature_mean: Tensor
    feature_deviation: Tensor
    bias: Tensor

    def __init__(self, num_prompts: int, num_buckets: int) -> None:
        super().__init__()
        # Buffers, not parameters: solved in closed form (`training.lexical`), never by a gradient.
        self.num_prompts = num_prompts
        self.register_buffer("ngram_weights", torch.zeros((num_buckets + 1) * num_prompts))
        self.register_buffer("bucket_weights", torch.zeros(num_buckets + 1))
        self.register_buffer("feature_weights", torch.zeros(num_prompts, NUM_FEATURES))
        self.register_buffer("product_weights", torch.zeros(num_prompts, NUM_FEATURES, NUM_FEATURES))
        self.register_buffer("feature_mean", torch.zeros(NUM_FEATURES))
        self.register_buffer("feature_deviation", torch.ones(NUM_FEATURES))
        self.register_buffer("bias", torch.zeros(num_prompts))
        self.target = TargetScale(num_prompts)

    def set_feature_scale(self, features: Tensor) -> None:
        """Take mean and deviation from the train essays' features, (N, F); a constant feature then counts nothing."""
        self.feature_mean.copy_(features.mean(dim=0))
        deviation = features.std(dim=0, correction=0)
        self.feature_deviation.copy_(torch.where(deviation > 0, deviation, torch.inf))

    def standardized(self, features: Tensor) -> Tensor:
        """Standardized features, (B, F), clipped: an odd essay must not be scored by one wild number."""
        return ((features - self.feature_mean) / self.feature_deviation).clamp(-FEATURE_CLIP, FEATURE_CLIP)

    def forward(self, ngram_ids: Tensor, features: Tensor, prompt_index: Tensor) -> Tensor:
        """`raw_unit_score` (B,) from ids (B, T), features (B, F) and prompt (B,)."""
        # One flat table, a row of prompts for each bucket; row 0, the padding, is all zeros.
        places = ngram_ids * self.num_prompts + prompt_index.unsqueeze(1)  # (B, T)
        weighted = self.ngram_weights[places].sum(dim=1)  # (B,)
        length = self.bucket_weights[ngram_ids].sum(dim=1).clamp(min=1e-6).sqrt()  # (B,)
        seen = self.standardized(features)  # (B, F)
        products = (seen.unsqueeze(1) @ self.product_weights[prompt_index]).squeeze(1)  # (B, F)
        from_features = (seen * (self.feature_weights[prompt_index] + products)).sum(dim=1)
        return self.target(weighted / length + from_features + self.bias[prompt_index], prompt_index)
