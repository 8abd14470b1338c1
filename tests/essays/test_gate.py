import time

import pytest

from essays.errors import EssayTooLong, MalformedText, UnscorableEssay
from essays.gate import MAX_CHARACTERS, MIN_WORDS, REASONS, require_scorable, scorable_text

ORDINARY = "A good school asks its pupils to think, and then it listens to what they have to say about it. " * 3


@pytest.mark.parametrize(
    ("essay", "reason"),
    [
        ("", "empty"),
        (" \n\t ", "empty"),
        ("\u200b\ufeff", "empty"),
        ("?! ... ---", "no_words"),
        ("12 34 56 " * 20, "no_words"),
        ("____ ____", "no_words"),
        ("word", "too_short"),
        ("word " * (MIN_WORDS - 1), "too_short"),
        (ORDINARY + "a" + "\u0301\u0323" * 16, "stacked_marks"),
        (ORDINARY + "a" + "\u0301\u200b" * 31, "stacked_marks"),
    ],
)
def test_what_must_not_be_scored_gets_its_reason(essay: str, reason: str) -> None:
    with pytest.raises(UnscorableEssay) as caught:
        scorable_text(essay)
    assert caught.value.reason == reason
    assert caught.value.reason in REASONS
    assert caught.value.field == "essay"


@pytest.mark.parametrize(
    "essay",
    [
        ORDINARY,
        "word " * MIN_WORDS,
        ORDINARY + "e" + "\u0301" * 30,
        ORDINARY + "\n" * 200 + ORDINARY,
        "Les élèves réfléchissent à l'école. " * 8,
        "<script>alert(1)</script> " * 10,
    ],
)
def test_ordinary_writing_passes(essay: str) -> None:
    assert scorable_text(essay)


def test_composed_and_decomposed_letters_are_one_text() -> None:
    assert scorable_text("caf\u00e9 " * 30) == scorable_text("cafe\u0301 " * 30)


def test_too_many_characters_are_refused_with_both_numbers() -> None:
    with pytest.raises(EssayTooLong, match=r"50,004 characters; at most 50,000"):
        scorable_text("word " * (MAX_CHARACTERS // 5 + 1))


def test_windows_line_ends_do_not_count() -> None:
    text = "one two three four five\n" * (MAX_CHARACTERS // 24)
    assert scorable_text(text.replace("\n", "\r\n")) == text.strip()


def test_a_lone_surrogate_is_malformed_and_its_text_is_not_repeated() -> None:
    with pytest.raises(MalformedText) as caught:
        scorable_text(ORDINARY + "\ud800")
    assert "school" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_stacked_marks_are_refused_in_linear_time() -> None:
    started = time.perf_counter()
    with pytest.raises(UnscorableEssay):
        scorable_text("a" + "\u0301\u0323" * 24_000)
    # Normalizing this takes seconds; noticing it, milliseconds.
    assert time.perf_counter() - started < 0.5


def test_bounds_hold_for_text_that_is_already_normal() -> None:
    require_scorable(ORDINARY)
    with pytest.raises(EssayTooLong):
        require_scorable("a" * (MAX_CHARACTERS + 1))
