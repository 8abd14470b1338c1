"""What becomes of an essay that is handed in again: slips, which a cache may answer, and changes, which it must not.

Made from a seed and the essay's id alone, so that every run asks the same.
"""

import random
import unicodedata
from collections.abc import Callable, Mapping, Sequence

from essays.text import sentences

Change = Callable[[str, random.Random, str], str]
"""From an essay, a source of chance and another pupil's essay."""

GARBAGE_AFTER_WORDS = 200
"""Somewhat below 256 tokens, the window of many embedding models."""
_SYNONYMS = {
    "because": "since", "think": "believe", "important": "essential", "help": "assist", "many": "numerous",
    "people": "persons", "good": "fine", "big": "large", "small": "little", "use": "employ", "need": "require",
    "want": "wish", "students": "pupils", "student": "pupil", "school": "college", "very": "really", "also": "too",
    "like": "enjoy", "kids": "children", "work": "labor", "job": "task", "start": "begin", "hard": "difficult",
    "things": "matters", "best": "finest", "example": "instance", "however": "yet", "get": "obtain", "make": "create",
}  # fmt: skip


def _same(text: str, _: random.Random, __: str) -> str:
    return text


def _other_layout(text: str, _: random.Random, __: str) -> str:
    """What pasting from another program changes: line ends, accents in two characters, an invisible mark."""
    return "\ufeff" + unicodedata.normalize("NFD", text).replace("\n", "\r\n") + "\n"


def _one_typo(text: str, chance: random.Random, _: str) -> str:
    return _at_words(text, chance, 1, _misspelt)


def _one_word_replaced(text: str, chance: random.Random, _: str) -> str:
    pool = [word for word in text.split() if word.isalpha() and len(word) > 3] or ["something"]
    return _at_words(text, chance, 1, lambda word, own: own.choice([each for each in pool if each != word] or ["this"]))


def _one_word_left_out(text: str, chance: random.Random, _: str) -> str:
    words = text.split(" ")
    place = chance.randrange(len(words))
    return " ".join([*words[:place], *words[place + 1 :]])


def _two_words_replaced(text: str, chance: random.Random, other: str) -> str:
    return _one_word_replaced(_one_word_replaced(text, chance, other), chance, other)


def _reworded(text: str, _: random.Random, __: str) -> str:
    return " ".join(_SYNONYMS.get(word, word) for word in text.split(" "))


def _tenth_misspelt(text: str, chance: random.Random, _: str) -> str:
    return _at_words(text, chance, max(len(text.split(" ")) // 10, 3), _misspelt)


def _sentences_shuffled(text: str, chance: random.Random, _: str) -> str:
    parts = sentences(text)
    return " ".join(chance.sample(parts, len(parts)))


def _words_shuffled(text: str, chance: random.Random, _: str) -> str:
    words = text.split()
    return " ".join(chance.sample(words, len(words)))


def _cut(text: str, _: random.Random, __: str) -> str:
    words = text.split(" ")
    return " ".join(words[: max(int(len(words) * 0.6), 20)])


def _doubled(text: str, _: random.Random, __: str) -> str:
    return f"{text}\n{text}"


def _garbage_tail(text: str, chance: random.Random, _: str) -> str:
    words = text.split(" ")
    kept = min(GARBAGE_AFTER_WORDS, len(words) // 2)
    letters = "abcdefghijklmnopqrstuvwxyz"
    return " ".join([*words[:kept], *("".join(chance.choices(letters, k=5)) for _ in words[kept:])])


def _off_topic(text: str, _: random.Random, other: str) -> str:
    """Its opening, then another pupil's essay."""
    return f"{' '.join(text.split(' ')[:12])} {other}"


def _misspelt(word: str, chance: random.Random) -> str:
    place = chance.randrange(len(word) - 1)
    return word[:place] + word[place + 1] + word[place] + word[place + 2 :]


def _at_words(text: str, chance: random.Random, number: int, change: Callable[[str, random.Random], str]) -> str:
    words = text.split(" ")
    places = [place for place, word in enumerate(words) if len(word) > 3 and word.isalpha()]
    for place in chance.sample(places, min(number, len(places))):
        changed = change(words[place], chance)
        words[place] = changed if changed != words[place] else words[place] + "s"
    return " ".join(words)


EXACT: Mapping[str, Change] = {"same": _same, "other_layout": _other_layout}
"""The same essay."""
SLIPS: Mapping[str, Change] = {
    "one_typo": _one_typo,
    "one_word_replaced": _one_word_replaced,
    "one_word_left_out": _one_word_left_out,
    "two_words_replaced": _two_words_replaced,
}
"""What a near-duplicate may be."""
CHANGES: Mapping[str, Change] = {
    "reworded": _reworded,
    "tenth_misspelt": _tenth_misspelt,
    "sentences_shuffled": _sentences_shuffled,
    "words_shuffled": _words_shuffled,
    "cut": _cut,
    "doubled": _doubled,
    "garbage_tail": _garbage_tail,
    "off_topic": _off_topic,
}
"""Another essay, as far as a score goes."""
NEVER = ("sentences_shuffled", "words_shuffled", "cut", "doubled", "garbage_tail", "off_topic")
"""Of these not one may be answered."""


def variant(name: str, essay_id: str, text: str, other: str) -> str:
    """One variant of one essay; `other` is another pupil's."""
    change = {**EXACT, **SLIPS, **CHANGES}[name]
    return change(text, random.Random(f"fairmark-cache {name} {essay_id}"), other)  # noqa: S311


def variant_names() -> Sequence[str]:
    """All of them, in the order of the report."""
    return (*EXACT, *SLIPS, *CHANGES)
