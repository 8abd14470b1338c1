"""Essays that are nearly the same text: found by the word 5-grams that they share.

Exact, not sampled: 15,000 essays take seconds, so no MinHash is needed. An essay under five words is near to another
only when all its words are the same.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from essays.text import words

SHINGLE_WORDS = 5
"""Words of a shingle: long enough that two essays on one prompt share few, short enough to survive some edits."""
MIN_JACCARD = 0.5
"""Shared shingles over all shingles, from which two essays count as one."""
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Duplicate:
    """Two essays, by their places in what was searched, `first` < `second`."""

    first: int
    second: int
    jaccard: float
    """Shared shingles over all shingles; 1 for texts that are the same but for case, spacing and punctuation."""


def near_duplicates(texts: Sequence[str]) -> list[Duplicate]:
    """All pairs that share enough shingles, by place."""
    if not texts:
        return []
    vocabulary: dict[str, int] = {}
    rows = [_shingles(text, vocabulary) for text in texts]
    shared = _shared_counts(rows)
    sizes = np.array([len(row) for row in rows])
    jaccard = shared.data / (sizes[shared.row] + sizes[shared.col] - shared.data)
    found = jaccard >= MIN_JACCARD
    pairs = zip(shared.row[found], shared.col[found], jaccard[found], strict=True)
    return sorted(
        (Duplicate(int(first), int(second), float(share)) for first, second, share in pairs),
        key=lambda pair: (pair.first, pair.second),
    )


def duplicate_groups(num_essays: int, duplicates: Sequence[Duplicate]) -> list[int]:
    """Each essay's group, named by the place of its first member: essays that any chain of duplicates joins."""
    ends = np.array([(pair.first, pair.second) for pair in duplicates], dtype=np.int64).reshape(-1, 2)
    links = sparse.coo_matrix((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), shape=(num_essays, num_essays))
    _, labels = sparse.csgraph.connected_components(links, directed=False)
    first_of: Mapping[int, int] = {int(label): place for place, label in reversed(list(enumerate(labels)))}
    return [first_of[int(label)] for label in labels]


def _shingles(text: str, vocabulary: dict[str, int]) -> NDArray[np.uint64]:
    """Hashes of an essay's shingles, each once; of the whole text where it is shorter than one."""
    ids = [vocabulary.setdefault(word, len(vocabulary) + 1) for word in words(text.lower())]
    numbers = np.array(ids, dtype=np.uint64)
    length = min(SHINGLE_WORDS, len(numbers))
    hashes = np.zeros(len(numbers) - length + 1, dtype=np.uint64)
    for offset in range(length):
        # Overflow wraps: a polynomial hash modulo 2**64.
        hashes = hashes * _MULTIPLIER + numbers[offset : offset + len(hashes)]
    return np.unique(hashes)


def _shared_counts(rows: Sequence[NDArray[np.uint64]]) -> sparse.coo_matrix:
    """How many shingles each pair shares, once a pair, pairs that share none left out."""
    _, columns = np.unique(np.concatenate(rows), return_inverse=True)
    starts = np.concatenate([[0], np.cumsum([len(row) for row in rows])])
    # A shingle of one essay alone, as most are, joins nothing.
    occurs = sparse.csr_matrix((np.ones(len(columns), dtype=np.int32), columns, starts))
    occurs = occurs[:, np.flatnonzero(occurs.getnnz(axis=0) > 1)]
    return sparse.triu(occurs @ occurs.T, k=1).tocoo()
