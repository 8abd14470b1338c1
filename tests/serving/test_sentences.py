"""Sentences of pupils' English: nothing is lost, and marks that end nothing end nothing."""

import random
import time

import pytest

from serving.sentences import MAX_WORDS, at_most, split_sentences
from tests.made_essays import made_essay


def stripped(text: str) -> list[str]:
    return [part.strip() for part in split_sentences(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three?", ["One.", "Two!", "Three?"]),
        ("Mr. Smith met Dr. Lee. They talked.", ["Mr. Smith met Dr. Lee.", "They talked."]),
        ("J. K. Rowling wrote it. So did I. We agree.", ["J. K. Rowling wrote it.", "So did I.", "We agree."]),
        ("Pens, paper, etc. are cheap. Bring pens etc. We wait.",
         ["Pens, paper, etc. are cheap.", "Bring pens etc.", "We wait."]),
        ("School starts at 8 a.m. on Mondays. It costs 2.50 today.",
         ["School starts at 8 a.m. on Mondays.", "It costs 2.50 today."]),
        ("He waited... and waited. Then... He left.", ["He waited... and waited.", "Then...", "He left."]),
        ('"Stop!" she said. (He did.) Good.', ['"Stop!" she said.', "(He did.)", "Good."]),
        ("I like school.The teachers are kind.i agree", ["I like school.", "The teachers are kind.i agree"]),
        ("no capitals here. still two sentences", ["no capitals here.", "still two sentences"]),
        ("A title without a mark\nThe text begins.\n\nAnother paragraph",
         ["A title without a mark", "The text begins.", "Another paragraph"]),
        ("Reasons:\n1. It is cheap.\n2. It is near.", ["Reasons:", "1. It is cheap.", "2. It is near."]),
        ("What?! No!!! Yes…", ["What?!", "No!!!", "Yes…"]),
        ("@CAPS1 said so. I went home. It rained.", ["@CAPS1 said so.", "I went home.", "It rained."]),
        ("...", ["..."]),
        ("", []),
    ],
)  # fmt: skip
def test_where_sentences_end(text: str, expected: list[str]) -> None:
    assert stripped(text) == expected


def test_joined_the_parts_are_the_text_and_none_is_blank() -> None:
    chance = random.Random(3)
    marks = [". ", ".", "! ", "\n", "\n\n", " ", "... ", ", ", '." ', "?", "\t", "  ", "Dr. ", "1. ", "é", "A", "the "]
    for _ in range(500):
        text = "".join(chance.choice(marks) for _ in range(chance.randint(1, 60)))
        parts = split_sentences(text)
        assert "".join(parts) == text
        assert all(part.strip() for part in parts) or not text.strip()


def test_a_text_without_marks_is_cut_between_words_at_joints_first() -> None:
    sentence = "we went home and we ate because it was late, " * 12
    parts = split_sentences(sentence)
    assert "".join(parts) == sentence
    assert len(parts) > 2
    assert all(len(part.split()) <= MAX_WORDS for part in parts)
    assert all(part.startswith(("we ", "and ", "because ")) for part in parts)
    assert [len(part.split()) <= MAX_WORDS for part in split_sentences("word " * 500)].count(False) == 0
    assert split_sentences("x" * 20_000) == ["x" * 20_000]


def test_many_parts_become_few_and_stay_in_order() -> None:
    text = made_essay(1, 90)
    parts = at_most(split_sentences(text), 40)
    assert 36 <= len(parts) <= 40
    assert "".join(parts) == text
    assert max(map(len, parts)) < 2.5 * len(text) / 40
    assert at_most(["a", "b"], 40) == ["a", "b"]


@pytest.mark.parametrize("text", ["a\n" * 40_000, "a. " * 26_000, "... " * 20_000, "A.b. " * 16_000, "and " * 20_000])
def test_a_hostile_text_takes_no_longer_than_an_essay(text: str) -> None:
    started = time.process_time()
    parts = at_most(split_sentences(text), 40)
    assert time.process_time() - started < 2
    assert "".join(parts) == text
    assert len(parts) <= 40
