"""What must not be scored: rules that give a named reason in place of a number.

Only what no model should ever see stands here so far: nothing, next to nothing, too much. Bounds are in words of
`essays.text.words`, so they mean the same for every model.
"""

from essays.errors import EssayTooLong, UnscorableEssay
from essays.text import words

MIN_WORDS = 20
"""Below this an essay shows too little to be judged; 97 of ASAP's 12,978 essays are shorter."""
MAX_CHARACTERS = 50_000
"""About 8,000 words: far beyond any essay, and a bound on the work that one request can ask for."""

REASONS = {
    "empty": "there is no text",
    "no_words": "there are no words, only marks",
    "too_short": f"fewer than {MIN_WORDS} words",
}


def require_scorable(text: str) -> None:
    """Pass a normalized essay, or raise UnscorableEssay with a reason of `REASONS`, or EssayTooLong."""
    if len(text) > MAX_CHARACTERS:
        raise EssayTooLong(
            f"the essay has {len(text):,} characters; at most {MAX_CHARACTERS:,} are accepted",
            field="essay",
            hint="send one essay at a time",
        )
    if not text:
        raise _unscorable("empty", "the essay is empty")
    # One character in three of an ordinary essay is not a letter at most; `\w` alone would let "____" pass.
    if not any(character.isalpha() for character in text):
        raise _unscorable("no_words", "the essay holds no words")
    num_words = len(words(text))
    if num_words < MIN_WORDS:
        raise _unscorable("too_short", f"the essay has {num_words} words; at least {MIN_WORDS} are needed for a score")


def _unscorable(reason: str, message: str) -> UnscorableEssay:
    return UnscorableEssay(message, reason=reason, hint="write or paste the whole essay")
