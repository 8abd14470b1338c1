"""Solves the lexical model: ridge regression in its dual form, one system per prompt, settings chosen on dev.

There are far more n-grams than essays, so the system is solved over essays: a kernel between each two of them. One
eigendecomposition serves all penalties. Carried back from essays to n-grams, the solution is the module's table.
Settings are compared by squared error on dev and not by QWK, which jumps with every essay that crosses a step; the best
few are averaged, since a few hundred essays cannot tell them apart.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import nn

from essays.encoding import EncodedEssay
from training.batches import Part
from training.config import LexicalConfig
from training.history import EpochRow
from training.models.lexical import LexicalScorer
from training.objective import matched_qwk

# Buckets in more essays than this go through dense products: sparse ones cost the square of the occurrences.
_DENSE_ABOVE = 24
_DENSE_COLUMNS = 8192


@dataclass(frozen=True)
class Rows:
    """Essays as the linear model sees them, train essays first."""

    ngrams: sp.csr_array
    """Presence over the root of its number, (N, num_buckets + 1)."""
    features: NDArray[np.float64]
    """Standardized surface features, (N, F)."""
    targets: NDArray[np.float64]
    """Standard scores, (N,)."""

    def select(self, chosen: NDArray) -> "Rows":
        """Some of the essays, in this order."""
        return Rows(self.ngrams[chosen], self.features[chosen], self.targets[chosen])


@dataclass(frozen=True)
class Solution:
    """One setting, or a mean of several, and how it weighs a prompt's train essays."""

    dev_error: float
    """Mean squared error in standard scores, on dev."""
    train_error: float
    """The same on train."""
    ngram_weights: NDArray[np.float64]
    """What each train essay adds to the n-grams' weights, (n,)."""
    feature_weights: NDArray[np.float64]
    """What each train essay's features count in `feature_products`, (n,)."""


def fit_lexical(scorer: nn.Module, train: Part, dev: Part, config: LexicalConfig) -> list[EpochRow]:
    """Solve every prompt and fill the scorer's buffers; one row, since a closed form knows no epochs."""
    assert isinstance(scorer, LexicalScorer)
    rows = prepare_rows(scorer, train, dev, config)
    prompts = np.concatenate([train.prompt_index(), dev.prompt_index()])
    is_train = np.arange(len(prompts)) < len(train)
    predicted, errors = np.empty(len(prompts)), []
    for prompt in range(scorer.num_prompts):
        ours = rows.select(np.flatnonzero((prompts == prompt) & is_train))
        theirs = rows.select(np.flatnonzero((prompts == prompt) & ~is_train))
        solution = solve_prompt(ours, theirs, config)
        set_weights(scorer, prompt, ours, solution)
        predicted[(prompts == prompt) & ~is_train] = _predict(scorer, prompt, theirs)
        errors.append(solution.train_error)
    raw = scorer.target(torch.from_numpy(predicted[~is_train]), torch.from_numpy(prompts[~is_train])).numpy()
    qwk = matched_qwk(raw, dev.human_scores, dev.prompt_ids)
    return [EpochRow(epoch=1, loss=float(np.mean(errors)), dev_qwk=qwk, learning_rate=0, essays_per_s=0, duration_s=0)]


def prepare_rows(scorer: LexicalScorer, train: Part, dev: Part, config: LexicalConfig) -> Rows:
    """Train and dev essays as rows; what was counted for it, on train alone, goes into the scorer's buffers."""
    presence = presence_rows([*train.encoded, *dev.encoded], config.ngrams.num_buckets)
    known = (presence[: len(train)].sum(axis=0) >= config.rarest).astype(np.float32)
    scorer.bucket_weights.copy_(torch.from_numpy(known))
    presence = (presence @ sp.diags_array(known)).tocsr()
    lengths = np.sqrt(np.maximum(presence.sum(axis=1), 1))
    features = np.stack([essay.arrays["features"] for essay in [*train.encoded, *dev.encoded]])
    scorer.set_feature_scale(torch.from_numpy(features[: len(train)]))
    unit_scores = torch.from_numpy(np.concatenate([train.unit_scores, dev.unit_scores]))
    prompts = torch.from_numpy(np.concatenate([train.prompt_index(), dev.prompt_index()]))
    return Rows(
        (sp.diags_array(1 / lengths.astype(np.float32)) @ presence).tocsr(),
        scorer.standardized(torch.from_numpy(features)).numpy().astype(np.float64),
        scorer.target.standardize(unit_scores, prompts).numpy().astype(np.float64),
    )


def presence_rows(essays: Sequence[EncodedEssay], num_buckets: int) -> sp.csr_array:
    """A row for each essay with a 1 at each bucket that occurs, (N, num_buckets + 1) float32."""
    ids = [essay.arrays["ngram_ids"] for essay in essays]
    ends = np.cumsum([0, *map(len, ids)])
    places = np.concatenate(ids)
    return sp.csr_array((np.ones(len(places), np.float32), places, ends), shape=(len(ids), num_buckets + 1))


def solve_prompt(train: Rows, dev: Rows, config: LexicalConfig) -> Solution:
    """The mean of the best settings for one prompt's essays."""
    num_train = len(train.targets)
    from_ngrams, ngram_scale = centred(products(sp.vstack([train.ngrams, dev.ngrams]).tocsr()), num_train)
    from_features, feature_scale = centred(feature_products(np.concatenate([train.features, dev.features])), num_train)
    solutions = []
    for share in config.feature_shares:
        kernel = (1 - share) * from_ngrams + share * from_features
        values, vectors = np.linalg.eigh(kernel[:num_train, :num_train])
        for penalty in config.penalties:
            weights = vectors @ ((vectors.T @ train.targets) / (np.maximum(values, 0) + penalty))
            errors = np.square(kernel[:, :num_train] @ weights - np.concatenate([train.targets, dev.targets]))
            solutions.append(
                Solution(
                    dev_error=float(errors[num_train:].mean()),
                    train_error=float(errors[:num_train].mean()),
                    ngram_weights=weights * (1 - share) / ngram_scale,
                    feature_weights=weights * share / feature_scale,
                )
            )
    return mean_solution(sorted(solutions, key=lambda solution: solution.dev_error)[: config.num_averaged])


def mean_solution(solutions: Sequence[Solution]) -> Solution:
    """All are linear in the train essays, so that the mean of their predictions is one more of the kind."""
    return Solution(
        dev_error=float(np.mean([solution.dev_error for solution in solutions])),
        train_error=float(np.mean([solution.train_error for solution in solutions])),
        ngram_weights=np.mean([solution.ngram_weights for solution in solutions], axis=0),
        feature_weights=np.mean([solution.feature_weights for solution in solutions], axis=0),
    )


def feature_products(features: NDArray[np.float64]) -> NDArray[np.float64]:
    """The polynomial kernel of degree 2 over standardized features (N, F): (1 + z.z' / F)^2, (N, N)."""
    return np.square(1 + features @ features.T / features.shape[1])


def products(rows: sp.csr_array) -> NDArray[np.float64]:
    """The product of each row with each, (N, N): rare columns as sparse matrices, common ones as dense blocks."""
    counts = np.bincount(rows.indices, minlength=rows.shape[1])
    columns = rows.tocsc()
    rare = columns[:, np.flatnonzero((counts > 0) & (counts <= _DENSE_ABOVE))].tocsr()
    total = (rare @ rare.T).toarray().astype(np.float64)
    common = np.flatnonzero(counts > _DENSE_ABOVE)
    for start in range(0, len(common), _DENSE_COLUMNS):
        block = columns[:, common[start : start + _DENSE_COLUMNS]].toarray()
        total += block @ block.T
    return total


def centred(kernel: NDArray[np.float64], num_train: int) -> tuple[NDArray[np.float64], float]:
    """The kernel around the train essays' mean, scaled so that their mean product with themselves is 1; and the scale.

    Centring stands for an intercept without a penalty, and makes the train essays' weights sum to 0.
    """
    to_train = kernel[:, :num_train].mean(axis=1)
    around = kernel - to_train[:, None] - to_train[None, :] + to_train[:num_train].mean()
    scale = float(np.diag(around)[:num_train].mean()) or 1.0
    return around / scale, scale


def set_weights(scorer: LexicalScorer, prompt: int, train: Rows, solution: Solution) -> None:
    """Carry a prompt's solution from its train essays to n-grams and features."""
    table = scorer.ngram_weights.view(-1, scorer.num_prompts)
    table[:, prompt] = torch.from_numpy(train.ngrams.T @ solution.ngram_weights)
    size = train.features.shape[1]
    weighted = train.features * solution.feature_weights[:, None]
    # (1 + z.z'/F)^2 written out: 2/F for each feature and 1/F^2 for each product; its 1 is the bias's.
    scorer.feature_weights[prompt] = torch.from_numpy(2 / size * weighted.sum(axis=0))
    scorer.product_weights[prompt] = torch.from_numpy(train.features.T @ weighted / size**2)
    scorer.bias[prompt] = 0.0
    scorer.bias[prompt] = float(train.targets.mean() - _predict(scorer, prompt, train).mean())


def _predict(scorer: LexicalScorer, prompt: int, rows: Rows) -> NDArray[np.float64]:
    table = scorer.ngram_weights.view(-1, scorer.num_prompts)[:, prompt].numpy()
    slopes = scorer.feature_weights[prompt].numpy() + rows.features @ scorer.product_weights[prompt].numpy()
    return rows.ngrams @ table + (rows.features * slopes).sum(axis=1) + float(scorer.bias[prompt])
