"""Grows the forests of `TreesScorer`: per prompt, principal components of its n-grams, then gradient boosting.

Boosting is scikit-learn's, each step on a share of essays and inputs; several forests that differ in nothing but the
seed are averaged. Nothing is chosen on dev: the settings hold for every prompt.
"""

from collections.abc import Callable, Sequence

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.tree import DecisionTreeRegressor

from essays.console import Progress
from essays.encoding import EncodedEssay, Encoder
from training.batches import Part, as_tensors
from training.config import TreesConfig
from training.history import EpochRow
from training.lexical import presence_rows, products
from training.models.trees import TreesScorer
from training.objective import matched_qwk

_BATCH = 64
_SMALLEST_VARIANCE = 1e-12


def fit_trees(
    scorer: TreesScorer, encoder: Encoder, train: Part, dev: Part, config: TreesConfig, seed: int
) -> list[EpochRow]:
    """Fill the scorer's tables for every prompt; one row, since boosting is no pass over the essays."""
    prompts = train.prompt_index()
    unit_scores = torch.from_numpy(train.unit_scores)
    wanted = scorer.target.standardize(unit_scores, torch.from_numpy(prompts)).numpy().astype(np.float64)
    progress = Progress("boosted trees: prompts", scorer.num_prompts)
    errors = np.empty(len(train))
    for prompt in range(scorer.num_prompts):
        chosen = np.flatnonzero(prompts == prompt)
        essays = [train.encoded[place] for place in chosen]
        set_components(scorer, prompt, presence_rows(essays, config.ngrams.num_buckets), config.rarest)
        values = split_values(scorer, encoder, essays)
        mean = float(wanted[chosen].mean())
        forests = [boost(values, wanted[chosen] - mean, config, seed + repeat) for repeat in range(config.num_repeats)]
        set_forest(scorer, prompt, [tree for forest in forests for tree in forest.estimators_[:, 0]], mean, config)
        predicted = np.mean([forest.predict(values) for forest in forests], axis=0) + mean
        errors[chosen] = np.square(predicted - wanted[chosen])
        progress.update(prompt + 1)
    qwk = matched_qwk(_raw_scores(scorer, encoder, dev), dev.human_scores, dev.prompt_ids)
    loss = float(errors.mean())
    return [EpochRow(epoch=1, loss=loss, dev_qwk=qwk, learning_rate=0, essays_per_s=0, duration_s=0)]


def set_components(scorer: TreesScorer, prompt: int, presence: sp.csr_array, rarest: int) -> None:
    """Take the principal components of a prompt's train essays from their n-grams, (n, num_buckets + 1).

    Solved over essays, of which there are fewer than n-grams; fewer essays than components leave the rest at zero.
    """
    known = (presence.sum(axis=0) >= rarest).astype(np.float64)
    rows = (presence @ sp.diags_array(known)).tocsr()
    rows = (sp.diags_array(1 / np.sqrt(np.maximum(rows.sum(axis=1), 1))) @ rows).tocsr()
    kernel = products(rows)
    around = kernel - kernel.mean(axis=0)[None, :] - kernel.mean(axis=1)[:, None] + kernel.mean()
    values, vectors = np.linalg.eigh(around)
    number = min(scorer.shape.num_components, len(values) - 1)
    values, vectors = values[::-1][:number], vectors[:, ::-1][:, :number]
    # A centred vector is a sum over essays in which centring the rows would change nothing.
    weights = vectors / np.sqrt(np.maximum(values, _SMALLEST_VARIANCE))
    loadings = torch.from_numpy((rows.T @ weights).astype(np.float32))
    table = scorer.loadings.view(-1, scorer.num_prompts, scorer.shape.num_components)
    table[:, prompt, :number] = loadings
    scorer.known_buckets.view(-1, scorer.num_prompts)[:, prompt] = torch.from_numpy(known.astype(np.float32))
    scorer.projected_mean[prompt, :number] = torch.from_numpy((rows @ loadings.double().numpy()).mean(axis=0))


def split_values(scorer: TreesScorer, encoder: Encoder, essays: Sequence[EncodedEssay]) -> NDArray[np.float64]:
    """What the scorer's trees ask for of each essay, (n, F + C)."""
    return _in_batches(scorer.split_values, encoder, essays)


def boost(values: NDArray, wanted: NDArray, config: TreesConfig, seed: int) -> GradientBoostingRegressor:
    """One forest, grown from 0 toward standard scores, (n,), by what splits may ask for, (n, F + C)."""
    return GradientBoostingRegressor(
        init="zero",
        n_estimators=config.num_rounds,
        learning_rate=config.learning_rate,
        max_depth=None,
        max_leaf_nodes=config.max_leaves,
        min_samples_leaf=config.min_leaf_essays,
        subsample=config.essay_share,
        max_features=config.input_share,
        random_state=seed,
    ).fit(values, wanted)


def set_forest(
    scorer: TreesScorer, prompt: int, trees: Sequence[DecisionTreeRegressor], bias: float, config: TreesConfig
) -> None:
    """Write a prompt's trees into the tables, each node's children as places there."""
    first = prompt * scorer.shape.num_trees * scorer.shape.num_nodes
    for place, tree in enumerate(tree.tree_ for tree in trees):
        root = first + place * scorer.shape.num_nodes
        for node in range(tree.node_count):
            at, left, right = root + node, tree.children_left[node], tree.children_right[node]
            if left == right:  # a leaf
                scorer.leaf_values[at] = tree.value[node, 0, 0] * config.learning_rate / config.num_repeats
                continue
            scorer.split_inputs[at] = int(tree.feature[node])
            scorer.thresholds[at] = float(tree.threshold[node])
            scorer.next_nodes[2 * at], scorer.next_nodes[2 * at + 1] = root + int(right), root + int(left)
    scorer.bias[prompt] = bias


def _raw_scores(scorer: TreesScorer, encoder: Encoder, part: Part) -> NDArray[np.float32]:
    return _in_batches(scorer, encoder, part.encoded)


def _in_batches(function: Callable[..., torch.Tensor], encoder: Encoder, essays: Sequence[EncodedEssay]) -> NDArray:
    rows = []
    with torch.inference_mode():
        for start in range(0, len(essays), _BATCH):
            inputs = as_tensors(encoder.collate(essays[start : start + _BATCH]))
            rows.append(function(**inputs).numpy())
    return np.concatenate(rows)
