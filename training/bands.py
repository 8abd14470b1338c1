"""Score bands of one prompt over all folds, each test essay counted once."""

import functools
from collections.abc import Sequence

from training.evaluate import BandResult
from training.summary import PromptSummary


def pooled_bands(prompt: PromptSummary) -> list[BandResult]:
    """The bands between ends that every fold has, ascending: what one fold merged is one band for all.

    A union of bands keeps the promise of each, and no essay is counted in two rows. Each fold's own bands are in
    `reports/plots/interval_bands.csv`.
    """
    ends = functools.reduce(set.intersection, ({band.to_score for band in each.bands} for each in prompt.results))
    bands = [band for result in prompt.results for band in result.bands]
    pooled, low = [], min(band.from_score for band in bands)
    for high in sorted(ends):
        pooled.append(_together(low, high, [band for band in bands if low <= band.from_score < high]))
        low = high
    return pooled


def _together(low: float, high: float, bands: Sequence[BandResult]) -> BandResult:
    num_essays = sum(band.num_essays for band in bands)
    coverage = _weighted_mean([(band.coverage, band.num_essays) for band in bands])
    return BandResult(low, high, num_essays, coverage, _weighted_mean([(b.mean_width, b.num_essays) for b in bands]))


def _weighted_mean(values: Sequence[tuple[float, int]]) -> float:
    """The mean, what has no weight left out even where it is nan; nan without any weight."""
    total = sum(weight for _, weight in values)
    return sum(value * weight for value, weight in values if weight) / total if total else float("nan")
