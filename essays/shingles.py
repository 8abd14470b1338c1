"""Word 5-grams as stable numbers: what of a text is copied, from a task or within a batch, without keeping any text."""

import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

SHINGLE_WORDS = 5
"""Long enough that two essays on one prompt share few, short enough to survive some edits."""
MIN_JACCARD = 0.3
"""Shared shingles over all shingles, from which two essays are near-duplicates: one word in eight changed."""


def shingles(lower: Sequence[str]) -> NDArray[np.uint32]:
    """The numbers of all runs of five lower-case words, each once, ascending; of all words where they are fewer."""
    length = min(SHINGLE_WORDS, len(lower))
    if not length:
        return np.zeros(0, dtype=np.uint32)
    runs = (" ".join(lower[start : start + length]) for start in range(len(lower) - length + 1))
    return np.unique(np.array([zlib.crc32(run.encode()) for run in runs], dtype=np.uint32))


def repeated_share(lower: Sequence[str]) -> float:
    """Share of the runs of five words that were there before; .8 for a text that stands five times."""
    num_runs = len(lower) - SHINGLE_WORDS + 1
    return (
        1 - len(set(zip(*(lower[offset:] for offset in range(SHINGLE_WORDS)), strict=False))) / num_runs
        if num_runs > 1
        else 0.0
    )


def share_found_in(own: NDArray[np.uint32], known: NDArray[np.uint32]) -> float:
    """Share of an essay's shingles that are among `known`; both ascend."""
    if not len(own) or not len(known):
        return 0.0
    places = np.minimum(np.searchsorted(known, own), len(known) - 1)
    return float((known[places] == own).mean())


def nearest_copies(rows: Sequence[NDArray[np.uint32]]) -> dict[int, tuple[int, float]]:
    """By place, each near-duplicate's nearest other and their Jaccard index; both of a pair are listed.

    Which of two came first does not matter: who copied whom, a text does not say.
    """
    if len(rows) < 2:
        return {}
    distinct, columns = np.unique(np.concatenate(rows), return_inverse=True)
    sizes = np.array([len(row) for row in rows])
    # (N, distinct); numbers up to 2**24 are exact in float32, and its products are fast.
    holds = np.zeros((len(rows), len(distinct)), dtype=np.float32)
    holds[np.repeat(np.arange(len(rows)), sizes), columns] = 1
    shared = holds @ holds.T
    jaccard = shared / np.maximum(sizes[:, None] + sizes[None, :] - shared, 1)
    np.fill_diagonal(jaccard, 0)
    nearest = jaccard.argmax(axis=1)
    return {
        place: (int(other), float(jaccard[place, other]))
        for place, other in enumerate(nearest)
        if jaccard[place, other] >= MIN_JACCARD
    }
