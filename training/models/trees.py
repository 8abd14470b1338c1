"""Boosted regression trees over surface features and principal components of character n-grams, a forest per prompt.

A walk down a tree is a chain of look-ups in flat tables, so that one graph walks all trees of an essay side by side.
Comparisons are made in float64: a component must not fall on the other side of a split because another runtime, or
padding, summed it in another order.
"""

import torch
from torch import Tensor, nn

from essays.features import NUM_FEATURES
from training.models.parts import TargetScale
from training.models.spec import TreesShape


class TreesScorer(nn.Module):
    """Projects the n-grams that occur, and lets every tree of the prompt add its leaf's value."""

    loadings: Tensor
    projected_mean: Tensor
    known_buckets: Tensor
    split_inputs: Tensor
    thresholds: Tensor
    next_nodes: Tensor
    leaf_values: Tensor
    bias: Tensor

    def __init__(self, num_prompts: int, num_buckets: int, shape: TreesShape) -> None:
        super().__init__()
        # Buffers, not parameters: filled by `training.trees`, never by a gradient.
        self.num_prompts, self.shape = num_prompts, shape
        nodes = num_prompts * shape.num_trees * shape.num_nodes
        self.register_buffer("loadings", torch.zeros((num_buckets + 1) * num_prompts, shape.num_components))
        self.register_buffer("projected_mean", torch.zeros(num_prompts, shape.num_components, dtype=torch.float64))
        self.register_buffer("known_buckets", torch.zeros((num_buckets + 1) * num_prompts))
        self.register_buffer("split_inputs", torch.zeros(nodes, dtype=torch.int64))
        self.register_buffer("thresholds", torch.zeros(nodes, dtype=torch.float64))
        # Where to go when the input is above the threshold, and when it is not; a leaf leads to itself.
        self.register_buffer("next_nodes", torch.arange(nodes).repeat_interleave(2))
        self.register_buffer("leaf_values", torch.zeros(nodes))
        self.register_buffer("bias", torch.zeros(num_prompts))
        self.target = TargetScale(num_prompts)

    @property
    def num_inputs(self) -> int:
        """What a split may ask for: surface features, then components."""
        return NUM_FEATURES + self.shape.num_components

    def split_values(self, ngram_ids: Tensor, features: Tensor, prompt_index: Tensor) -> Tensor:
        """What the trees ask for, (B, F + C) float64: surface features, and components of the n-grams that occur."""
        # Flat tables, a row of prompts for each bucket; bucket 0, the padding, is all zeros.
        places = ngram_ids * self.num_prompts + prompt_index.unsqueeze(1)  # (B, T)
        length = self.known_buckets[places].double().sum(dim=1, keepdim=True).clamp(min=1.0).sqrt()  # (B, 1)
        projected = self.loadings[places].double().sum(dim=1) / length  # (B, C)
        return torch.cat([features.double(), projected - self.projected_mean[prompt_index]], dim=1)

    def forward(self, ngram_ids: Tensor, features: Tensor, prompt_index: Tensor) -> Tensor:
        """`raw_unit_score` (B,) from ids (B, T), features (B, F) and prompt (B,)."""
        values = self.split_values(ngram_ids, features, prompt_index)
        roots = torch.arange(self.shape.num_trees, device=values.device) * self.shape.num_nodes  # (trees,)
        node = roots + (prompt_index * self.shape.num_trees * self.shape.num_nodes).unsqueeze(1)  # (B, trees)
        for _ in range(self.shape.depth):
            asked = torch.gather(values, 1, self.split_inputs[node])  # (B, trees)
            node = self.next_nodes[2 * node + (asked <= self.thresholds[node]).long()]
        standard_scores = self.leaf_values[node].sum(dim=1) + self.bias[prompt_index]
        return self.target(standard_scores, prompt_index)
