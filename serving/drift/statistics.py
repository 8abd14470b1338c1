"""How far two histograms are apart, and how far chance alone would bring them with so many essays in each.

Two measures, since each is blind to something: PSI, the population stability index, weighs every bin by itself; KS,
Kolmogorov's and Smirnov's largest distance of cumulated shares, sees a small shift of all. Of the same essays PSI is
about (1/n + 1/m) times chi-squared with one degree of freedom less than there are bins (Yurdakul, 2018); the bound of
KS is Smirnov's, which bins make safer. A difference must pass its bound and be large enough to matter.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

FALSE_ALARMS = 1e-4
"""Of one measure of one quantity, for essays that did not change."""
LEAST_PSI = 0.1
"""By convention, the least that is called a change."""
LEAST_KS = 0.1
_PRIOR = 0.5
"""Essays added to each bin, so that an empty one is no infinity."""


@dataclass(frozen=True)
class Difference:
    """Two histograms, compared."""

    psi: float
    psi_bound: float
    """What PSI must pass: chance, or `LEAST_PSI`."""
    ks: float
    ks_bound: float

    @property
    def drifted(self) -> bool:
        """Whether it is more than chance, and enough to matter."""
        return self.psi > self.psi_bound or self.ks > self.ks_bound


def difference(reference: Sequence[int], found: Sequence[int]) -> Difference:
    """Counts of the same bins, compared; both hold some essay."""
    ours, theirs = np.asarray(found, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    per_essay = 1 / sum(found) + 1 / sum(reference)
    chance = per_essay * chi_squared_quantile(len(ours) - 1, 1 - FALSE_ALARMS)
    smirnov = math.sqrt(-math.log(FALSE_ALARMS / 2) / 2 * per_essay)
    cumulated = np.cumsum(ours / ours.sum()) - np.cumsum(theirs / theirs.sum())
    return Difference(
        psi=_psi(ours, theirs),
        psi_bound=max(chance, LEAST_PSI),
        ks=float(np.abs(cumulated).max()),
        ks_bound=max(smirnov, LEAST_KS),
    )


def chi_squared_quantile(freedom: int, share: float) -> float:
    """By Wilson's and Hilferty's cube (1931), which lies up to 8 % above far out, and safely so; 0 without freedom."""
    if freedom < 1:
        return 0.0
    part = 2 / (9 * freedom)
    return float(freedom * (1 - part + NormalDist().inv_cdf(share) * math.sqrt(part)) ** 3)


def _psi(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> float:
    shares = [(counts + _PRIOR) / (counts.sum() + _PRIOR * len(counts)) for counts in (ours, theirs)]
    return float(((shares[0] - shares[1]) * np.log(shares[0] / shares[1])).sum())
