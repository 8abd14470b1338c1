"""English as the gate knows it: common words, and how words follow each other, without a dictionary.

A word is one of `COMMON_WORDS`, or stands for its ending: some 220 classes, few enough that a table of which follows
which is small and says whether words stand in an order that English has (`WordOrder`).
"""

import base64
import math
from collections.abc import Iterable, Sequence
from itertools import chain, pairwise

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from essays.params import Section

_COMMON_TEXT = (
    "the a an this that these those my your his her its our their some any no every each all both many much more"
    " most other another such one two i you he she it we they me him us them who which what myself yourself people"
    " and or but so because if when while as than though although since until unless where why how that's of in on"
    " at to for from with by about into over after before between through during without under against up out off"
    " down around is are was were be been being am have has had do does did will would can could should may might"
    " must not don't doesn't didn't can't cannot won't isn't aren't i'm it's there here then now also very too"
    " just only even still always never often really well like get got go going make made take want need know"
    " think say said see come help use good bad first new time day way thing things lot something someone let"
)
COMMON_WORDS: tuple[str, ...] = tuple(_COMMON_TEXT.split())
"""Words that make up more than half of any English essay."""
ENDINGS = ("ing", "ed", "ly", "tion", "ment", "ness", "er", "est", "es", "s", "al", "ful", "ous", "ive", "y", "e")
_COMMON = {word: place for place, word in enumerate(COMMON_WORDS)}
_OTHER = len(COMMON_WORDS) + len(ENDINGS)
_SENTENCE_EDGE = _OTHER + 1
NUM_CLASSES = _SENTENCE_EDGE + 1
# One class after another counts as so many more times likely at most, in nats; one byte holds it.
_WIDEST = 4.0
_LONG_LETTERS = 7
_PRIOR = 20.0

OTHER_LANGUAGES = {
    name: frozenset(own.split())
    for name, own in {
        "Spanish": "el la los las de que y en un una es por con para como más pero su se lo muy también",
        "French": "le la les des et est une que qui dans pour pas sur avec il elle nous sont mais du au",
        "Portuguese": "o os as um uma de que e em não para com por mais como mas se da do na no ao muito",
        "Italian": "il la gli le di che e è un una per non con sono del della come ma più si anche nel",
        "German": "der die das und ist nicht ein eine zu den mit von für auf sich auch es dass wir sie",
        "Dutch": "de het een en van niet dat zijn op te voor met ook maar er ze wij naar bij als aan",
        "Swedish": "och att det som en är på för med inte av den till har vi om jag ett men de",
        "Polish": "i w nie na się z że do jest to jak ale po co tak są dla od przez już",
        "Turkish": "ve bir bu için çok ile da de daha olarak gibi ama ne kadar var biz onlar her",
        "Indonesian": "yang dan di untuk dengan tidak ini itu dari pada adalah kami mereka saya akan ke",
        "Tagalog": "ang ng sa na mga at ay hindi ko ako si ito siya para kung may namin tayo po",
        "Vietnamese": "và của là một không các có cho trong được với người khi này tôi chúng những",
        "Haitian Creole": "nan yo ki pou ak se li mwen pa yon nou gen sa te ap lè tout",
        "Swahili": "na ya wa kwa ni katika za la hii watu kuwa sana pia yake kama lakini",
        "Romanian": "și de la în că nu este cu pe pentru din mai care sunt sau dar ne",
        "Finnish": "ja on ei että se hän oli mutta kun niin myös ovat olla me ne tai",
        "Hungarian": "a az és nem egy hogy is van mert de minden ez azt volt vagy lehet csak meg",
        "Czech": "a v se na je to že si i pro ale jsem jako by tak byl jsou nebo když aby",
    }.items()
}
"""Short words that each language cannot do without, to name what an essay is written in."""
_TELLING = {name: own - set(COMMON_WORDS) for name, own in OTHER_LANGUAGES.items()}


def common_share(lower: Sequence[str]) -> float:
    """Share of `COMMON_WORDS` among lower-case words, the same word standing next to itself counted once."""
    if not lower:
        return 0.0
    counted = sum(word in _COMMON for before, word in pairwise(("", *lower)) if word != before)
    return counted / len(lower)


def long_share(lower: Sequence[str]) -> float:
    """Share of words of seven letters or more; ASAP's `@LOCATION1` and its kin are no words here.

    Nonsense that is put together to look learned has more than any essay.
    """
    written = [word for word in lower if not word.startswith("@")]
    return sum(len(word) >= _LONG_LETTERS for word in written) / max(len(written), 1)


def likeliest_other_language(lower: Sequence[str]) -> tuple[str, float]:
    """The language but English whose short words are most frequent, and their share."""
    total = max(len(lower), 1)
    shares = {name: sum(word in own for word in lower) / total for name, own in _TELLING.items()}
    name = max(shares, key=lambda each: shares[each])
    return name, shares[name]


def word_class(word: str) -> int:
    """The class of a lower-case word, below `NUM_CLASSES`."""
    if word in _COMMON:
        return _COMMON[word]
    for place, ending in enumerate(ENDINGS):
        if len(word) > len(ending) + 1 and word.endswith(ending):
            return len(COMMON_WORDS) + place
    return _OTHER


class WordOrder(Section):
    """How much likelier each class of words is after another than anywhere, learned from essays."""

    table: str = Field(repr=False)
    """(NUM_CLASSES, NUM_CLASSES) signed bytes in base64: the log ratio, in 127ths of 4 nats."""

    @field_validator("table")
    @classmethod
    def _whole(cls, table: str) -> str:
        if len(base64.b64decode(table, validate=True)) != NUM_CLASSES**2:
            raise ValueError(f"the table is not that of {NUM_CLASSES} classes of words")
        return table

    def ratios(self) -> NDArray[np.float32]:
        """The log ratios in nats, (NUM_CLASSES, NUM_CLASSES)."""
        steps = np.frombuffer(base64.b64decode(self.table), dtype=np.int8)
        return steps.reshape(NUM_CLASSES, NUM_CLASSES).astype(np.float32) * np.float32(_WIDEST / 127)


def learn_word_order(essays: Iterable[Sequence[Sequence[str]]]) -> WordOrder:
    """The table of these essays, each given as its sentences of lower-case words."""
    counts = np.zeros((NUM_CLASSES, NUM_CLASSES))
    for sentences in essays:
        for first, second in _class_pairs(sentences):
            counts[first, second] += 1
    before, after = counts.sum(axis=1, keepdims=True), counts.sum(axis=0, keepdims=True)
    expected = before * after / max(counts.sum(), 1)
    # Pairs that are rare by chance say nothing: a prior pulls them to 0.
    ratios = np.log((counts + _PRIOR) / (expected + _PRIOR)).clip(-_WIDEST, _WIDEST)
    steps = np.round(ratios * 127 / _WIDEST).astype(np.int8)
    return WordOrder(table=base64.b64encode(steps.tobytes()).decode("ascii"))


def order_score(sentences: Sequence[Sequence[str]], ratios: NDArray[np.float32]) -> float:
    """Mean log ratio of neighbours, in nats: some .4 in essays, about 0 or less where words stand in no order."""
    pairs = _class_pairs(sentences)
    if not pairs:
        return 0.0
    first, second = np.array(pairs).T
    return math.fsum(ratios[first, second].tolist()) / len(pairs)


def _class_pairs(sentences: Sequence[Sequence[str]]) -> list[tuple[int, int]]:
    # Half of an essay's words are there twice.
    class_of = {word: word_class(word) for word in set(chain.from_iterable(sentences))}
    return [
        pair
        for sentence in sentences
        for pair in pairwise((_SENTENCE_EDGE, *map(class_of.__getitem__, sentence), _SENTENCE_EDGE))
    ]
