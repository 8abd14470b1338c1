"""What must not be scored: rules that give named reasons in place of a number.

Two kinds. What no model may ever see (`readable_text`): nothing, or too much. And what a model would score though it is
no essay on the prompt (`Gate.findings`): such an essay gets its reasons, and a score only as advice, for who asks.
Bounds in words are in those of `essays.text.words`, so they mean the same for every model; those that depend on a
prompt come from its profile (`essays.gate_profile`), and without one only the rules that need none apply.
"""

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from essays import english
from essays.errors import EssayTooLong, UnscorableEssay
from essays.gate_profile import GateProfile, PromptProfile, topic_buckets, topic_score
from essays.injection import speaks_to_the_grader
from essays.shingles import nearest_copies, repeated_share, share_found_in, shingles
from essays.text import normalize_text, sentences, words

MIN_WORDS = 21
"""Below this an essay shows too little to be judged; 112 of ASAP's 12,978 essays are shorter."""
MAX_CHARACTERS = 80_000
"""About 14,000 words: far beyond any essay, and a bound on the work that one request can ask for."""
MAX_STACKED_MARKS = 30
"""Combining marks on one letter, as in Unicode's stream-safe text (UAX #15): normalizing more takes quadratic time."""
MOST_REPEATED = 0.5
"""Share of its five-word runs that an essay may repeat where its prompt says nothing else."""
MOST_LONG = 0.4
"""Share of long words where the prompt says nothing else."""
LEAST_COMMON = 0.3
"""Share of English's most common words: training essays have at least .39."""
LEAST_OF_ANOTHER = 0.1
"""Share of another language's short words from which an essay without English ones is in that language."""
MOST_ACCENTED = 0.02
"""Share of letters such as é or ł from which an essay without English words is in some language we do not name."""
MOST_OF_ANOTHER_SCRIPT = 0.3
"""Share of letters that are not Latin."""

REASONS = {
    "empty": "there is no text",
    "no_words": "there are no words, only marks",
    "stacked_marks": f"more than {MAX_STACKED_MARKS} accents on one letter",
    "too_short": f"fewer than {MIN_WORDS} words",
    "language": "not written in English",
    "gibberish": "words in no order, no words of any language, or long words without end",
    "repetitive": "the same lines again and again",
    "copied_prompt": "copied from the task or its source text",
    "off_topic": "on another topic than the prompt's",
    "injection": "speaks to the grader instead of a reader",
    "near_duplicate": "nearly the same as another essay of its batch",
}


@dataclass(frozen=True)
class Finding:
    """A reason not to score an essay."""

    reason: str
    """One of `REASONS`."""
    message: str
    """What was found and what was expected, in a sentence without a word of the essay."""


class FlaggedEssay(UnscorableEssay):
    """An essay with findings, and no wish for advice; `reason` is the first one's."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        super().__init__(
            "; ".join(finding.message for finding in findings),
            reason=findings[0].reason,
            hint=_HINTS[findings[0].reason],
        )
        self.findings = tuple(findings)


@dataclass(frozen=True)
class Measures:
    """What the rules look at in one essay."""

    num_words: int
    other_script: float
    """Share of its letters that are not Latin."""
    common: float
    """Share of common English words."""
    long: float
    """Share of long words."""
    accented: float
    """Share of its letters that English has not, though they are Latin."""
    other_language: tuple[str, float]
    """The likeliest language but English, and the share of its short words; looked for where English ones are few."""
    repeated: float
    """Share of five-word runs that were there before."""
    injection: bool
    order: float | None = None
    """`essays.english.order_score`; none without a profile."""
    topic: float | None = None
    """`essays.gate_profile.topic_score`; none where the prompt has no topic."""
    copied: float | None = None
    """Share of its shingles that are the task's; none where the task is not known."""


class Gate:
    """The rules, with what was learned of the prompts; without profiles it knows none."""

    def __init__(self, profiles: Sequence[GateProfile] = ()) -> None:
        self._prompts: dict[str, _Prompt] = {}
        for profile in profiles:
            ratios = profile.word_order.ratios()
            for part in profile.prompts:
                # The first that knows a prompt speaks for it.
                self._prompts.setdefault(part.prompt_id, _Prompt(part, ratios))

    def findings(self, text: str, prompt_id: str) -> list[Finding]:
        """Every reason not to score a readable text, the plainest first; empty for an ordinary essay."""
        measures = self.measure(text, prompt_id)
        prompt = self._prompts.get(prompt_id)
        return judge(measures, None if prompt is None else prompt.profile)

    def measure(self, text: str, prompt_id: str) -> Measures:
        """What the rules look at."""
        parted = [_lower_words(sentence) for sentence in sentences(text)]
        lower = [word for sentence in parted for word in sentence]
        common = english.common_share(lower)
        prompt = self._prompts.get(prompt_id)
        order, topic, task = (None, None, None) if prompt is None else (prompt.order, prompt.topic, prompt.task)
        return Measures(
            num_words=len(lower),
            other_script=_share_of_other_scripts(text),
            common=common,
            long=english.long_share(lower),
            accented=_accented_share(text),
            other_language=english.likeliest_other_language(lower) if common < LEAST_COMMON else ("", 0.0),
            repeated=repeated_share(lower),
            injection=speaks_to_the_grader(text),
            order=None if order is None else english.order_score(parted, order),
            topic=None if topic is None else topic_score(topic_buckets(lower), topic),
            copied=None if task is None else share_found_in(shingles(lower), task),
        )


class _Prompt:
    """A profile, unpacked once."""

    def __init__(self, profile: PromptProfile, order: NDArray[np.float32]) -> None:
        self.profile = profile
        self.order = order
        self.topic = profile.topic_weights()
        self.task = profile.task_shingles()


def scorable_text(essay: str) -> str:
    """The essay in its normal form, with enough words to be scored.

    Raises what `readable_text` raises, and UnscorableEssay with `too_short`.
    """
    text = readable_text(essay)
    if finding := _too_short(len(words(text))):
        raise FlaggedEssay([finding])
    return text


def readable_text(essay: str) -> str:
    """The essay in its normal form, fit to be read by a model.

    Raises MalformedText, EssayTooLong, or UnscorableEssay with `empty`, `no_words` or `stacked_marks`. Takes bounded
    time on any input: what is too much for normalizing is refused before it.
    """
    _require_bounded(essay)
    text = normalize_text(essay)
    _require_length(text, MAX_CHARACTERS)
    if not text:
        raise _unscorable("empty", "the essay is empty")
    # `\w` alone would let "____" pass.
    if not any(character.isalpha() for character in text):
        raise _unscorable("no_words", "the essay holds no words")
    return text


def judge(found: Measures, profile: PromptProfile | None) -> list[Finding]:
    """The findings of an essay's measures, by its prompt's bounds; none stands for a prompt that is not known."""
    short = [finding for finding in [_too_short(found.num_words)] if finding]
    language = _language(found)
    if short or language:
        # Shares of a few words say nothing, and those of another language's nothing of the topic.
        return [*language, *short] if found.other_script > MOST_OF_ANOTHER_SCRIPT else [*short, *language]
    return [*_gibberish(found, profile), *_repetitive(found, profile), *_by_prompt(found, profile), *_injection(found)]


def near_duplicates(texts: Mapping[int, str]) -> dict[int, Finding]:
    """Findings for readable texts on one prompt by their place in a batch, from 0; both of a pair get one."""
    places = list(texts)
    copies = nearest_copies([shingles(_lower_words(text)) for text in texts.values()])
    return {
        places[copy]: Finding(
            "near_duplicate", f"{jaccard:.0%} of the word sequences are those of essay {places[other] + 1} of the batch"
        )
        for copy, (other, jaccard) in copies.items()
    }


def _too_short(num_words: int) -> Finding | None:
    if num_words >= MIN_WORDS:
        return None
    found = "1 word" if num_words == 1 else f"{num_words} words"
    return Finding("too_short", f"the essay has {found}; at least {MIN_WORDS} are needed for a score")


def _language(found: Measures) -> list[Finding]:
    if found.other_script > MOST_OF_ANOTHER_SCRIPT:
        return [
            Finding("language", f"{found.other_script:.0%} of the essay's letters are not Latin; English is scored")
        ]
    if found.num_words < MIN_WORDS or found.common >= LEAST_COMMON:
        return []
    name, share = found.other_language
    if share < LEAST_OF_ANOTHER:
        name = "another language"
    if share >= LEAST_OF_ANOTHER or found.accented > MOST_ACCENTED:
        return [Finding("language", f"the essay seems to be written in {name}; English is scored")]
    return []


def _gibberish(found: Measures, profile: PromptProfile | None) -> list[Finding]:
    no_order = found.order is not None and profile is not None and found.order < profile.least_order
    if found.common < LEAST_COMMON or no_order:
        return [Finding("gibberish", "the essay's words stand in no order that English has")]
    most = MOST_LONG if profile is None else profile.most_long
    if found.long <= most:
        return []
    return [Finding("gibberish", f"{found.long:.0%} of the essay's words are long ones; up to {most:.0%} is usual")]


def _repetitive(found: Measures, profile: PromptProfile | None) -> list[Finding]:
    most = MOST_REPEATED if profile is None else profile.most_repeated
    if found.repeated <= most:
        return []
    return [Finding("repetitive", f"{found.repeated:.0%} of the essay repeats itself; up to {most:.0%} is usual")]


def _by_prompt(found: Measures, profile: PromptProfile | None) -> list[Finding]:
    if profile is None:
        return []
    if found.copied is not None and found.copied > profile.most_copied:
        # Who copies the task is on its topic.
        return [
            Finding(
                "copied_prompt", f"{found.copied:.0%} of the essay's word sequences stand in the task or its source"
            )
        ]
    if found.topic is not None and profile.least_topic is not None and found.topic < profile.least_topic:
        return [Finding("off_topic", "the essay's words are not those of essays on this prompt")]
    return []


def _injection(found: Measures) -> list[Finding]:
    return (
        [Finding("injection", "the essay speaks to its grader; a score is for the reader")] if found.injection else []
    )


def _lower_words(text: str) -> list[str]:
    return [word.replace("’", "'") for word in words(text.lower())]


def _accented_share(text: str) -> float:
    letters = [character for character in text if character.isalpha()] if not text.isascii() else []
    return sum(not character.isascii() for character in letters) / len(letters) if letters else 0.0


def _share_of_other_scripts(text: str) -> float:
    letters = [character for character in text if character.isalpha()] if not text.isascii() else []
    # The Latin blocks and their extensions end here, but for one that Vietnamese needs.
    other = sum(character > "\u024f" and not "\u1e00" <= character <= "\u1eff" for character in letters)
    return other / len(letters) if letters else 0.0


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
    return UnscorableEssay(message, reason=reason, hint=_WRITE_IT_ALL)


_WRITE_IT_ALL = "write or paste the whole essay"
_LOOK = "have a person look at it, or ask for an advisory score"
_HINTS = {
    "too_short": _WRITE_IT_ALL,
    "off_topic": "check the chosen prompt; or have a person look at it, or ask for an advisory score",
    **dict.fromkeys(
        ("language", "gibberish", "repetitive", "copied_prompt", "injection", "near_duplicate"),
        _LOOK,
    ),
}
