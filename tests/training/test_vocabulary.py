"""The words that the LSTM knows."""

from pathlib import Path

import numpy as np
import pytest

from essays.errors import StageFailed
from training.vocabulary import known_words, read_vectors, word_table, word_tokenizer


def pieces(text: str) -> list[str]:
    tokenizer = word_tokenizer([])
    return [word for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(tokenizer.normalizer.normalize_str(text))]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("I don't know.", ["i", "do", "n't", "know", "."]),
        ("It’s John's, they're!", ["it", "'s", "john", "'s", ",", "they", "'re", "!"]),
        ("well-known\n\n(2nd)", ["well", "-", "known", "(", "2nd", ")"]),
        ("n't", ["n't"]),
        ("", []),
    ],
)
def test_words_are_cut_as_in_glove(text: str, expected: list[str]) -> None:
    assert pieces(text) == expected


def test_known_words_get_their_ids_and_others_share_one() -> None:
    tokenizer = word_tokenizer(["dog", "n't"])
    assert tokenizer.encode("Dog cat didn't").ids == [2, 1, 1, 3]


def test_words_come_from_the_list_and_from_train_essays() -> None:
    texts = ["the cat sat", "the cat ran", "the dog"]
    assert known_words(texts, ["zebra", "the"], rarest=2) == ["zebra", "the", "cat"]


def test_rows_are_the_words_vectors_and_zero_without_one() -> None:
    vectors = np.array([[1.0, 0.0], [0.0, 2.0]], dtype=np.float32)
    table = word_table(["dog", "unheard", "the"], ["the", "dog"], vectors)
    assert table.shape == (5, 2)
    assert not table[[0, 1, 3]].any()
    assert table[2, 1] / table[4, 0] == pytest.approx(2.0)
    assert table[[2, 4]].std() == pytest.approx(1.0)


def test_missing_vectors_are_named(tmp_path: Path) -> None:
    with pytest.raises(StageFailed, match=r"glove_6B_index\.parquet: missing"):
        read_vectors(tmp_path)
