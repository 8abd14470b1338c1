"""Agreement between raters, and how sure one may be of it."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from essays.scores import ScoreRange

# Squared steps; what is left of an expected distance of 0 after rounding. A single pair among 10^6 gives far more.
_NOTHING = 1e-9


def confusion_matrix(first: ArrayLike, second: ArrayLike, score_range: ScoreRange) -> NDArray[np.int64]:
    """Counts of (first, second) pairs, (num_grades, num_grades), rows for `first`. Raises ScoreOutOfRange."""
    rows, columns = _paired_classes(first, second, score_range)
    counts = np.bincount(rows * score_range.num_grades + columns, minlength=score_range.num_grades**2)
    return counts.reshape(score_range.num_grades, score_range.num_grades)


def quadratic_weighted_kappa(first: ArrayLike, second: ArrayLike, score_range: ScoreRange) -> float:
    """Agreement of two raters beyond chance, weighing a disagreement by its square (Cohen, 1968).

    `first` and `second` are (N,) scores on the prompt's scale. The range, not the data, sets the classes, so a fold
    without a top score is measured on the same scale. 1 is full agreement, 0 chance; nan when both raters give every
    essay one and the same score. Raises ScoreOutOfRange.
    """
    pairs = confusion_matrix(first, second, score_range)
    rows, columns = np.indices(pairs.shape)
    return float(_kappa(pairs.reshape(1, -1), rows.ravel(), columns.ravel())[0])


def bootstrap_qwk(
    first: ArrayLike, second: ArrayLike, score_range: ScoreRange, *, num_resamples: int, seed: int | Sequence[int]
) -> NDArray[np.float64]:
    """QWK of essays drawn with replacement, (num_resamples,); nan where a draw leaves it undefined (Efron, 1979).

    Draws whole pairs of scores, so only pairs that occur are counted: 61 grades cost no more than 4.
    """
    pairs = confusion_matrix(first, second, score_range)
    rows, columns = np.nonzero(pairs)
    counts = pairs[rows, columns]
    total = int(counts.sum())
    draws = np.random.default_rng(seed).multinomial(total, counts / total, size=num_resamples)  # (resamples, pairs)
    return _kappa(draws, rows, columns)


def bootstrap_qwk_interval(
    first: ArrayLike,
    second: ArrayLike,
    score_range: ScoreRange,
    *,
    num_resamples: int,
    seed: int | Sequence[int],
    coverage: float = 0.95,
) -> tuple[float, float]:
    """Percentile interval of QWK over essays drawn with replacement; nan when no draw has a QWK."""
    draws = bootstrap_qwk(first, second, score_range, num_resamples=num_resamples, seed=seed)
    return percentile_interval(draws, coverage)


def percentile_interval(draws: NDArray[np.float64], coverage: float) -> tuple[float, float]:
    """The middle `coverage` of bootstrap draws, nan left out; (nan, nan) when nothing is left."""
    defined = draws[~np.isnan(draws)]
    if not defined.size:
        return float("nan"), float("nan")
    low, high = np.quantile(defined, [(1 - coverage) / 2, (1 + coverage) / 2])
    return float(low), float(high)


def seen_range(first: ArrayLike, second: ArrayLike, step: float) -> ScoreRange:
    """The scores that two raters gave, for raters whose own scale is stated nowhere; at least one step long.

    QWK is the same on any range that holds both.
    """
    given = np.concatenate([np.ravel(first), np.ravel(second)])
    low, high = float(given.min()), float(given.max())
    return ScoreRange(low=low, high=max(high, low + step), step=step)


def exact_agreement(first: ArrayLike, second: ArrayLike, score_range: ScoreRange, within_steps: int = 0) -> float:
    """Share of essays on which two raters differ by at most `within_steps` steps."""
    rows, columns = _paired_classes(first, second, score_range)
    return float((np.abs(rows - columns) <= within_steps).mean())


def standardized_mean_difference(predicted: ArrayLike, human: ArrayLike) -> float:
    """How far the model's mean lies above the humans', in pooled standard deviations (Williamson et al., 2012)."""
    ours, theirs = np.asarray(predicted, dtype=np.float64), np.asarray(human, dtype=np.float64)
    pooled = np.sqrt((ours.var() + theirs.var()) / 2)
    return float((ours.mean() - theirs.mean()) / pooled) if pooled else float("nan")


def spread_ratio(predicted: ArrayLike, human: ArrayLike) -> float:
    """The model's standard deviation over the humans'; below 1 it avoids the ends of the scale, nan if humans agree."""
    human_spread = float(np.std(np.asarray(human, dtype=np.float64)))
    return float(np.std(np.asarray(predicted, dtype=np.float64))) / human_spread if human_spread else float("nan")


def fisher_mean(kappas: Sequence[float]) -> float:
    """Mean of agreements through Fisher's z, as ASAP's organisers average prompts; 1 is taken as .999."""
    return float(np.tanh(np.arctanh(np.clip(kappas, -0.999, 0.999)).mean()))


def _paired_classes(
    first: ArrayLike, second: ArrayLike, score_range: ScoreRange
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    rows, columns = score_range.classes(first), score_range.classes(second)
    if rows.shape != columns.shape or rows.ndim != 1:
        raise ValueError(f"two raters must score the same essays, found shapes {rows.shape} and {columns.shape}")
    if not rows.size:
        raise ValueError("there is no essay to measure agreement on")
    return rows, columns


def _kappa(
    counts: NDArray[np.int64], rows: NDArray[np.int64], columns: NDArray[np.int64]
) -> NDArray[np.float64]:  # counts (..., P), classes (P,) -> (...,)
    """1 - observed/expected squared distance of pairs that occur `counts` times.

    The expected distance of independent raters needs no matrix: E(a - b)^2 = E a^2 + E b^2 - 2 E a E b.
    """
    shares = counts / counts.sum(axis=-1, keepdims=True)
    observed = shares @ np.square(rows - columns)
    expected = shares @ (np.square(rows) + np.square(columns)) - 2 * (shares @ rows) * (shares @ columns)
    varies = expected > _NOTHING
    return np.where(varies, 1 - observed / np.where(varies, expected, 1.0), np.nan)
