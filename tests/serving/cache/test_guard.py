"""The guard against its definition, and against what a likeness of meaning lets pass."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.cache.guard import edits_between
from serving.cache.sketch import tokens_of

SEQUENCES = st.lists(st.integers(0, 4), max_size=12)


def levenshtein(first: list[int], second: list[int]) -> int:
    """By the book: a full table."""
    row = list(range(len(second) + 1))
    for place, left in enumerate(first, start=1):
        above = row
        row = [place]
        for other, right in enumerate(second, start=1):
            row.append(min(above[other] + 1, row[-1] + 1, above[other - 1] + (left != right)))
    return row[-1]


@settings(deadline=None)
@given(SEQUENCES, SEQUENCES)
def test_it_counts_edits_up_to_two_and_knows_more_as_too_many(first: list[int], second: list[int]) -> None:
    distance = levenshtein(first, second)
    found = edits_between(np.array(first, dtype=np.uint32), np.array(second, dtype=np.uint32))
    assert found == (distance if distance <= 2 else None)


WORDS = [f"word{number}" for number in range(60)]
ESSAY = ". ".join(" ".join(WORDS[start : start + 6]) for start in range(0, 60, 6)) + "."


def changed(text: str) -> int | None:
    ids = {token: number for number, token in enumerate(dict.fromkeys([*tokens_of(ESSAY), *tokens_of(text)]))}
    first, second = (np.array([ids[token] for token in tokens_of(each)]) for each in (ESSAY, text))
    return edits_between(first, second)


@pytest.mark.parametrize(
    ("text", "edits"),
    [
        (ESSAY, 0),
        (ESSAY.replace("word30", "wrod30"), 1),
        (ESSAY.replace("word30 ", ""), 1),
        (ESSAY.replace("word3 ", "w3 ").replace("word59", "w59"), 2),
        (ESSAY.replace("word3 ", "w3 ").replace("word59", "w59").replace("word30", "w30"), None),
        (f"{ESSAY}\n", 1),
        (ESSAY.replace("word6 ", "word6   "), 1),
    ],
)
def test_slips_pass_and_are_counted(text: str, edits: int | None) -> None:
    assert changed(text) == edits


def test_shuffled_doubled_cut_and_garbled_essays_do_not_pass() -> None:
    rng = random.Random(3)
    sentences = ESSAY.split(". ")
    half = len(ESSAY) // 2
    for text in (
        ". ".join(rng.sample(sentences, len(sentences))),
        " ".join(rng.sample(WORDS, len(WORDS))),
        f"{ESSAY} {ESSAY}",
        ESSAY[: int(len(ESSAY) * 0.6)],
        ESSAY[:half] + "".join(rng.choices("abc ", k=half)),
    ):
        assert changed(text) is None
