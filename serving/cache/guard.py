"""Whether two token sequences are the same but for a slip: at most two tokens put in, left out or replaced.

It knows order. Similarity of meaning, or of word counts, passes a shuffled, a doubled and a half essay; this does not.
"""

import numpy as np
from numpy.typing import NDArray

MAX_EDITS = 2


def edits_between(first: NDArray, second: NDArray, most: int = MAX_EDITS) -> int | None:
    """Levenshtein's distance in tokens, or None when it is above `most`.

    By furthest-reaching diagonals (Ukkonen, 1985; Landau and Vishkin, 1989): a few comparisons of whole arrays.
    """
    target = len(second) - len(first)
    if abs(target) > most:
        return None
    # By diagonal (place in second minus place in first): how far into `first` so many edits reach.
    reach = {0: _run(first, second, 0, 0)}
    for edits in range(most + 1):
        if reach.get(target, -1) >= len(first):
            return edits
        reach = _one_more_edit(first, second, reach)
    return None


def _one_more_edit(first: NDArray, second: NDArray, reach: dict[int, int]) -> dict[int, int]:
    reached: dict[int, int] = {}
    for diagonal, place in reach.items():
        for there, start in ((diagonal, place + 1), (diagonal - 1, place + 1), (diagonal + 1, place)):
            if start <= len(first) and start + there <= len(second):
                reached[there] = max(reached.get(there, -1), start)
    return {there: _run(first, second, start, start + there) for there, start in reached.items()}


def _run(first: NDArray, second: NDArray, start: int, other: int) -> int:
    """How far into `first` both go on alike."""
    length = min(len(first) - start, len(second) - other)
    if length <= 0:
        return start
    differ = first[start : start + length] != second[other : other + length]
    return start + (int(np.argmax(differ)) if differ.any() else length)
