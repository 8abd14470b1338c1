"""How sure a number from so many essays is, where no bootstrap is needed to tell."""

import math
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray


def share_interval(share: float, num_essays: int, coverage: float) -> tuple[float, float]:
    """Binomial interval of a share of `num_essays` (Wilson, 1927): sound near 0 and 1 too; (nan, nan) without essays.

    Wilson's covers as promised for a few dozen essays, where the plain normal interval is too narrow.
    """
    if not num_essays:
        return float("nan"), float("nan")
    z = _quantile(coverage)
    middle = (share + z**2 / (2 * num_essays)) / (1 + z**2 / num_essays)
    half = z / (1 + z**2 / num_essays) * math.sqrt(share * (1 - share) / num_essays + z**2 / (4 * num_essays**2))
    return max(0.0, middle - half), min(1.0, middle + half)


def mean_difference_error(predicted: NDArray, human: NDArray) -> float:
    """Standard error of `standardized_mean_difference` of the same essays' grades, (N,) each; nan for fewer than two.

    Of the paired differences, in pooled standard deviations; that these are estimated too is left out: it is little.
    """
    pooled = math.sqrt((predicted.var() + human.var()) / 2)
    if len(human) < 2 or not pooled:
        return float("nan")
    return float(np.std(predicted - human, ddof=1)) / pooled / math.sqrt(len(human))


def normal_interval(value: float, error: float, coverage: float) -> tuple[float, float]:
    """The middle `coverage` of a normal distribution with this standard error."""
    half = _quantile(coverage) * error
    return value - half, value + half


def _quantile(coverage: float) -> float:
    return NormalDist().inv_cdf((1 + coverage) / 2)
