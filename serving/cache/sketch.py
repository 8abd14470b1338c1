"""A whole essay as one short vector of length one: the embedding that proposes near-duplicates.

Words and pairs of neighbours, hashed with a key into signed buckets (feature hashing: Weinberger et al., 2009). Made
from the text alone, all of it, in a fraction of a millisecond, for every kind of model; a graph's pooled state would be
had only by running the graph, which is what a hit is to save (docs/decisions/0012-a-cache-that-proves-itself.md).
Without the key it tells nothing of the words.
"""

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from serving.cache.keys import token_digests

DIMENSIONS = 256
# Words as in `essays.text`, and everything else that some model may see: marks, line ends, gaps.
_TOKEN = re.compile(r"@?\w+(?:['’]\w+)*|\n+|[^\S\n]{2,}|[^\w\s]")
_FEATURE_BYTES = 8
_PAIR = np.uint64(0x9E3779B97F4A7C15)
_MIX = np.uint64(0xBF58476D1CE4E5B9)


def tokens_of(text: str) -> list[str]:
    """Words, marks, line ends and gaps, in order: two texts with the same ones differ in single spaces at most."""
    return _TOKEN.findall(text)


def sketch_of(tokens: Sequence[str], key: bytes) -> NDArray[np.float32]:
    """The vector, (DIMENSIONS,), of length one; a text without tokens gets the first axis."""
    digests = token_digests(key, tokens, _FEATURE_BYTES)
    words = np.frombuffer(b"".join(digests[token] for token in tokens), dtype="<u8")
    pairs = _mixed(words[:-1] * _PAIR + words[1:])
    features, counts = np.unique(np.concatenate([words, pairs]), return_counts=True)
    signs = 1.0 - 2.0 * (features >> np.uint64(63)).astype(np.float64)
    # The root keeps "the" from deciding how alike two essays are.
    sums = np.bincount(
        (features % np.uint64(DIMENSIONS)).astype(np.int64), weights=signs * np.sqrt(counts), minlength=DIMENSIONS
    )
    length = float(np.linalg.norm(sums))
    if length == 0:
        sums[0] = length = 1.0
    return (sums / length).astype(np.float32)


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    mixed = (values ^ (values >> np.uint64(31))) * _MIX
    return mixed ^ (mixed >> np.uint64(29))
