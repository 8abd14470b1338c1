"""What the lexical model sees: hashed character n-grams, and surface features of an essay. numpy only, milliseconds."""

import re

import numpy as np
from numpy.typing import NDArray

from essays.text import sentences, words

_SPACE = re.compile(r"\s+")
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_MIX = np.uint64(0xBF58476D1CE4E5B9)

FEATURE_NAMES = (
    "words_fourth_root",
    "characters_fourth_root",
    "mean_word_length",
    "long_word_share",
    "distinct_word_share",
    "mean_sentence_words",
    "comma_rate",
    "capital_rate",
)
NUM_FEATURES = len(FEATURE_NAMES)


def ngram_buckets(text: str, shortest: int, longest: int, num_buckets: int) -> NDArray[np.int64]:
    """The hash buckets, ascending from 1 to `num_buckets`, of every character n-gram that occurs (presence, not count).

    Letters are lower-cased and runs of white space are one space, so that layout does not matter. A text shorter than
    `shortest` has no bucket but 1 by convention, since a row must not be empty.
    """
    characters = np.frombuffer(_SPACE.sub(" ", text.lower()).encode("utf-32-le"), dtype=np.uint32).astype(np.uint64)
    found: list[NDArray[np.uint64]] = []
    hashes = np.zeros(len(characters) + 1, dtype=np.uint64)
    for length in range(1, min(longest, len(characters)) + 1):
        # Polynomial hash of each n-gram, from that of the n-gram one shorter at the same place; overflow wraps.
        hashes = hashes[: len(characters) - length + 1] * _MULTIPLIER + characters[length - 1 :] + np.uint64(1)
        if length >= shortest:
            found.append(((hashes ^ (hashes >> np.uint64(31))) * _MIX >> np.uint64(20)) % np.uint64(num_buckets))
    if not found:
        return np.ones(1, dtype=np.int64)
    return np.unique(np.concatenate(found)).astype(np.int64) + 1


def surface_features(text: str) -> NDArray[np.float32]:
    """Features in the order of `FEATURE_NAMES`, (NUM_FEATURES,); rates are per word."""
    all_words = words(text)
    count = max(len(all_words), 1)
    lengths = np.array([len(word) for word in all_words] or [0])
    return np.array(
        [
            len(all_words) ** 0.25,
            len(text) ** 0.25,
            lengths.mean(),
            (lengths > 6).mean(),
            len({word.lower() for word in all_words}) / count,
            len(all_words) / max(len(sentences(text)), 1),
            text.count(",") / count,
            sum(word[0].isupper() for word in all_words) / count,
        ],
        dtype=np.float32,
    )
