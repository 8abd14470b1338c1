"""Counts of the last essays in the reference's bins: all that is kept of them.

In two halves: essays go into the newer, and when that is full it becomes the older. So the count forgets, in bounded
memory, and nothing says when an essay came.
"""

from collections.abc import Sequence

from essays.drift import Histogram
from essays.params import Section


class Sketch(Section):
    """One quantity's counts; only ever replaced, never changed."""

    newer: tuple[int, ...]
    older: tuple[int, ...]

    @property
    def counts(self) -> tuple[int, ...]:
        """Of both halves."""
        return tuple(map(sum, zip(self.newer, self.older, strict=True)))

    @property
    def num_essays(self) -> int:
        """In both halves."""
        return sum(self.counts)

    def with_one(self, place: int, window_essays: int) -> "Sketch":
        """One essay more in this bin."""
        newer, older = self.newer, self.older
        if sum(newer) >= window_essays // 2:
            newer, older = (0,) * len(newer), newer
        return Sketch(newer=(*newer[:place], newer[place] + 1, *newer[place + 1 :]), older=older)

    def fits(self, histogram: Histogram) -> bool:
        """Whether the counts are of these bins."""
        return len(self.newer) == len(self.older) == len(histogram.counts) and min(*self.newer, *self.older, 0) >= 0


def empty_sketch(counts: Sequence[int]) -> Sketch:
    """No essay yet, in as many bins as these."""
    return Sketch(newer=(0,) * len(counts), older=(0,) * len(counts))
