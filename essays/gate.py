"""What must not be scored: rules that give a named reason in place of a number.

Only what no model should ever see stands here so far: nothing, next to nothing, too much. Bounds are in words of
`essays.text.words`, so they mean the same for every model.
"""

import unicodedata
from itertools import groupby

from essays.errors import EssayTooLong, UnscorableEssay
from essays.text import normalize_text, words

MIN_WORDS = 20
"""Below this an essay shows too little to be judged; 97 of ASAP's 12,978 essays are shorter."""
MAX_CHARACTERS = 50_000
"""About 8,000 words: far beyond any essay, and a bound on the work that one request can ask for."""
MAX_STACKED_MARKS = 30
"""Combining marks on one letter, as in Unicode's stream-safe text (UAX #15): normalizing more takes quadratic time."""

REASONS = {
    "empty": "there is no text",
    "no_words": "there are no words, only marks",
    "too_short": f"fewer than {MIN_WORDS} words",
    "stacked_marks": f"more than {MAX_STACKED_MARKS} accents on one letter",
}


def scorable_text(essay: str) -> str:
    """The essay in its normal form, fit to be scored.

    Raises MalformedText, EssayTooLong, or UnscorableEssay with a reason of `REASONS`. Takes bounded time on any input:
    what is too much for normalizing is refused before it.
    """
    _require_bounded(essay)
    text = normalize_text(essay)
    require_scorable(text)
    return text


def require_scorable(text: str) -> None:
    """Pass a normalized essay, or raise UnscorableEssay with a reason of `REASONS`, or EssayTooLong."""
    _require_length(text, MAX_CHARACTERS)
    if not text:
        raise _unscorable("empty", "the essay is empty")
    # `\w` alone would let "____" pass.
    if not any(character.isalpha() for character in text):
        raise _unscorable("no_words", "the essay holds no words")
    num_words = len(words(text))
    if num_words < MIN_WORDS:
        found = "1 word" if num_words == 1 else f"{num_words} words"
        raise _unscorable("too_short", f"the essay has {found}; at least {MIN_WORDS} are needed for a score")


def _require_bounded(essay: str) -> None:
    # Normalizing drops invisible characters and the `\r` of line ends, so an essay may come in longer than it is.
    _require_length(essay, 2 * MAX_CHARACTERS)
    if not essay.isascii() and _longest_run_of_marks(essay) > MAX_STACKED_MARKS:
        raise UnscorableEssay(
            f"the essay stacks more than {MAX_STACKED_MARKS} accents on one letter",
            reason="stacked_marks",
            hint="remove the decoration from the text",
        )


def _require_length(text: str, most: int) -> None:
    if len(text) > most:
        raise EssayTooLong(
            f"the essay has {len(text):,} characters; at most {MAX_CHARACTERS:,} are accepted",
            field="essay",
            hint="send one essay at a time",
        )


def _longest_run_of_marks(text: str) -> int:
    # Invisible characters are dropped before the marks are put in order, so they do not end a run.
    runs = (
        sum(unicodedata.combining(character) > 0 for character in run)
        for above_letter, run in groupby(text, key=_is_mark_or_invisible)
        if above_letter
    )
    return max(runs, default=0)


def _is_mark_or_invisible(character: str) -> bool:
    return unicodedata.combining(character) > 0 or unicodedata.category(character) in ("Cc", "Cf")


def _unscorable(reason: str, message: str) -> UnscorableEssay:
    return UnscorableEssay(message, reason=reason, hint="write or paste the whole essay")
