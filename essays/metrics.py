"""Agreement between raters, and how sure one may be of it."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from essays.scores import ScoreRange


def confusion_matrix(first: ArrayLike, second: ArrayLike, score_range: ScoreRange) -> NDArray[np.int64]:
    """Counts of (first, second) pairs, (num_grades, num_grades), rows for `first`. Raises ScoreOutOfRange."""
    rows, columns = score_range.classes(first), score_range.classes(second)
    if rows.shape != columns.shape or rows.ndim != 1:
        raise ValueError(f"two raters must score the same essays, found shapes {rows.shape} and {columns.shape}")
    counts = np.bincount(rows * score_range.num_grades + columns, minlength=score_range.num_grades**2)
    return counts.reshape(score_range.num_grades, score_range.num_grades)


def quadratic_weighted_kappa(first: ArrayLike, second: ArrayLike, score_range: ScoreRange) -> float:
    """Agreement of two raters beyond chance, weighing a disagreement by its square (Cohen, 1968).

    `first` and `second` are (N,) scores on the prompt's scale. The range, not the data, sets the classes, so a fold
    without a top score is measured on the same scale. 1 is full agreement, 0 chance; nan when neither rater varies.
    Raises ScoreOutOfRange.
    """
    return _kappa(confusion_matrix(first, second, score_range))


def bootstrap_qwk_interval(
    first: ArrayLike,
    second: ArrayLike,
    score_range: ScoreRange,
    *,
    num_resamples: int,
    seed: int,
    coverage: float = 0.95,
) -> tuple[float, float]:
    """Percentile interval of QWK over essays drawn with replacement (Efron, 1979)."""
    cells = confusion_matrix(first, second, score_range)
    total = int(cells.sum())
    draws = np.random.default_rng(seed).multinomial(total, cells.ravel() / total, size=num_resamples)
    values = np.array([_kappa(draw.reshape(cells.shape)) for draw in draws])
    low, high = np.nanquantile(values, [(1 - coverage) / 2, (1 + coverage) / 2])
    return float(low), float(high)


def exact_agreement(first: ArrayLike, second: ArrayLike, score_range: ScoreRange, within_steps: int = 0) -> float:
    """Share of essays on which two raters differ by at most `within_steps` steps."""
    apart = np.abs(score_range.classes(first) - score_range.classes(second))
    return float((apart <= within_steps).mean())


def standardized_mean_difference(predicted: ArrayLike, human: ArrayLike) -> float:
    """How far the model's mean lies above the humans', in pooled standard deviations (Williamson et al., 2012)."""
    ours, theirs = np.asarray(predicted, dtype=np.float64), np.asarray(human, dtype=np.float64)
    pooled = np.sqrt((ours.var() + theirs.var()) / 2)
    return float((ours.mean() - theirs.mean()) / pooled) if pooled else float("nan")


def fisher_mean(kappas: Sequence[float]) -> float:
    """Mean of agreements through Fisher's z, as ASAP's organisers average prompts; 1 is taken as .999."""
    return float(np.tanh(np.arctanh(np.clip(kappas, -0.999, 0.999)).mean()))


def _kappa(observed: NDArray[np.int64]) -> float:
    size = len(observed)
    weights = np.square(np.arange(size)[:, None] - np.arange(size)[None, :])
    expected = np.outer(observed.sum(axis=1), observed.sum(axis=0)) / observed.sum()
    disagreement = float((weights * expected).sum())
    return 1 - float((weights * observed).sum()) / disagreement if disagreement else float("nan")
