"""The words that the LSTM knows: a tokenizer made from the train essays, and GloVe's vectors for its words."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

from essays.errors import StageFailed

PADDING, UNKNOWN = "[PAD]", "[UNK]"
# As GloVe's own corpus was cut: contractions apart ("do n't", "it 's"), marks one by one.
_WORD = r"n['’]t\b|['’](?:s|re|ve|ll|d|m)\b|\w+?(?=n['’]t\b)|\w+|[^\w\s]"
_INDEX_FILE, _VECTORS_FILE = "glove_6B_index.parquet", "glove_6B_50d_emb.npy"


def word_tokenizer(words: Sequence[str]) -> Tokenizer:
    """A tokenizer that knows these words, lower-cased, after padding (0) and the unknown word (1)."""
    vocabulary = {word: index for index, word in enumerate([PADDING, UNKNOWN, *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), normalizers.Replace("’", "'")])
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(_WORD), behavior="removed", invert=True)
    return tokenizer


def known_words(texts: Iterable[str], frequent: Sequence[str], rarest: int) -> list[str]:
    """`frequent` words, then the other words that occur `rarest` times in `texts`, most often first."""
    cutter = word_tokenizer([])
    counts = Counter(
        word
        for text in texts
        for word, _ in cutter.pre_tokenizer.pre_tokenize_str(cutter.normalizer.normalize_str(text))
    )
    listed = set(frequent)
    others = [word for word, count in counts.items() if count >= rarest and word not in listed]
    return [*frequent, *sorted(others, key=lambda word: (-counts[word], word))]


def read_vectors(folder: Path) -> tuple[list[str], NDArray[np.float32]]:
    """GloVe's words, most frequent first, and their vectors, (N, E). Raises StageFailed."""
    index, vectors = folder / _INDEX_FILE, folder / _VECTORS_FILE
    if missing := [path for path in (index, vectors) if not path.is_file()]:
        raise StageFailed(f"{missing[0]}: missing; word vectors are {_INDEX_FILE} and {_VECTORS_FILE} in one folder")
    words = pq.read_table(index)["index"].to_pylist()
    return words, np.load(vectors, mmap_mode="r")


def word_table(words: Sequence[str], listed: Sequence[str], vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """A row for padding, one for the unknown word, one for each word, (2 + N, E); zeros where there is no vector.

    Rows are scaled together to a deviation of 1 per number, which is what recurrent weights are drawn for.
    """
    places = {word: index for index, word in enumerate(listed)}
    table = np.zeros((len(words) + 2, vectors.shape[1]), dtype=np.float32)
    found = [(row, places[word]) for row, word in enumerate(words, start=2) if word in places]
    rows, sources = np.array(found, dtype=np.int64).reshape(-1, 2).T
    table[rows] = vectors[sources]
    return table / (table[rows].std() or 1.0)
