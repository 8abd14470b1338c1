"""Trees with one split each, for tests that want a forest without growing one."""

import torch

from training.models.trees import TreesScorer

_HIGHEST_THRESHOLD = 4.0


def plant_trees(scorer: TreesScorer, generator: torch.Generator) -> None:
    """A split at every root on an input and a threshold that were drawn; the padding's row says nothing."""
    shape, prompts = scorer.shape, scorer.num_prompts
    scorer.known_buckets[:prompts] = 0
    scorer.loadings[:prompts] = 0
    roots = torch.arange(prompts * shape.num_trees) * shape.num_nodes
    scorer.split_inputs[roots] = torch.randint(scorer.num_inputs, roots.shape, generator=generator)
    drawn = torch.rand(roots.shape, generator=generator, dtype=torch.float64)
    scorer.thresholds[roots] = drawn * _HIGHEST_THRESHOLD
    # A prompt's first tree asks for the number of words, its fourth root: five words or fewer go left.
    scorer.split_inputs[roots[:: shape.num_trees]], scorer.thresholds[roots[:: shape.num_trees]] = 0, 1.5
    scorer.next_nodes[2 * roots] = roots + 1
    scorer.next_nodes[2 * roots + 1] = roots + 2
