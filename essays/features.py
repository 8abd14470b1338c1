"""What the lexical model sees: hashed character n-grams, and surface features of an essay. numpy only, milliseconds.

The word lists are ours: words of English grammar, and slips that learners of English make often. No corpus was counted
for them, so there is nothing here to keep apart by folds.
"""

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from essays.text import sentences, words

_SPACE = re.compile(r"\s+")
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_MIX = np.uint64(0xBF58476D1CE4E5B9)


def _split(text: str) -> frozenset[str]:
    return frozenset(text.split())


_WORD_CLASSES: Mapping[str, frozenset[str]] = {
    "article_the": _split("the"),
    "article_a": _split("a an"),
    "pronoun_i": _split("i me my mine myself i'm i've i'll i'd"),
    "pronoun_we": _split("we us our ours ourselves"),
    "pronoun_you": _split("you your yours yourself"),
    "pronoun_they": _split("they them their theirs themselves"),
    "pronoun_he_she": _split("he him his she her hers himself herself"),
    "pronoun_it": _split("it its itself it's"),
    "demonstrative": _split("this that these those"),
    "relative": _split("which who whom whose whoever whichever"),
    "where_when_how": _split("where when how why whenever wherever"),
    "and": _split("and"),
    "but_or": _split("but or nor yet"),
    "because_so": _split("because so since cause"),
    "if": _split("if unless whether"),
    "concession": _split("although though despite while whereas even whilst"),
    "to": _split("to"),
    "of": _split("of"),
    "in_on_at": _split("in on at"),
    "for_with_by": _split("for with by from about"),
    "other_preposition": _split(
        "into through during before after above below between under over against among within without toward towards"
        " throughout upon beyond across along behind beside besides per via"
    ),
    "be_present": _split("am is are isn't aren't"),
    "be_past": _split("was were been being be wasn't weren't"),
    "have": _split("have has had having haven't hasn't hadn't"),
    "do": _split("do does did done doing don't doesn't didn't"),
    "can_will": _split("can will can't won't cannot"),
    "would_could": _split("would could should might may must shall wouldn't couldn't shouldn't"),
    "negation": _split("not no never none nobody nothing neither without"),
    "quantity": _split("many much more most some any few several lot lots all every each both"),
    "plain_word": _split(
        "good bad thing things stuff nice big get got gets like want people know go make make makes say"
    ),
    "intensifier": _split("very really so too always never just also"),
    "connective": _split(
        "however therefore moreover furthermore consequently nevertheless nonetheless thus hence additionally"
        " similarly likewise instead otherwise meanwhile indeed rather overall ultimately"
    ),
    "sequence": _split("first firstly second secondly third thirdly finally lastly next then last conclusion another"),
    "example": _split("example examples instance such including especially particularly specifically"),
    "stance": _split("think believe opinion agree disagree feel argue claim states according point view"),
    "missing_apostrophe": _split(
        "dont cant wont im ive didnt doesnt isnt arent wasnt couldnt wouldnt shouldnt thats id"
        " theyre youre hes shes havent hasnt whats lets theres"
    ),
    "chat": _split("u ur r n wanna gonna gotta cuz cus bc bcuz coz ppl thru ok okay idk yea yeah kinda lil"),
    "misspelling": _split(
        "becuase beacuse becouse becuse becasue becaus beause thier ther there're alot wich whit wit wat wen becose"
        " teh recive recieve beleive belive freind freinds diffrent diferent differents shool scool techer techers"
        " studen studens peple poeple peoples pepole evry everthing everyting somthing someting sometings thing's"
        " childrens peaple persons informations advices homeworks thay thats' dose where' untill allways alway tha"
        " confortable experiencie oportunity oportunities posible importan impotant example' exemple exmple necesary"
        " neccessary intresting intersting knowlege definately probaly proble problme grate tecnology tecnologie"
        " enviroment goverment comunity comunicate comunication responsability responsable succes sucess succesful"
        " succed tring tryng whant wanna wont' coud woud shoud shuld wold cuold thinks' thik thinck thinking' learing"
        " lern leran lear writting writen comming studing studyng makeing haveing geting stoping begining"
    ),
}
"""Words counted together, by the name of the feature: their share of all words."""

_ENDINGS: Mapping[str, tuple[str, ...]] = {
    "ending_ing": ("ing",),
    "ending_ed": ("ed",),
    "ending_ly": ("ly",),
    "ending_noun": ("tion", "sion", "ment", "ness", "ity", "ance", "ence", "ism", "ship"),
    "ending_adjective": ("ful", "ous", "ive", "able", "ible", "al", "less", "ic"),
    "ending_s": ("s",),
}

_MARKS: Mapping[str, str] = {
    "commas": r",",
    "full_stops": r"\.",
    "question_marks": r"\?",
    "exclamation_marks": r"!",
    "apostrophes": r"['’]",
    "quotation_marks": r"[\"“”]",
    "colons": r"[:;]",
    "brackets": r"[()\[\]]",
    "dashes": r"[-–—]",
    "digits": r"\d",
    "space_before_mark": r"\s[,.;:!?]",
    "no_space_after_mark": r"[,;!?][^\W\d_]|[^\W\d_]{2,}\.[^\W\d_]{2,}",
    "doubled_marks": r"[,.;:!?]{2,}",
    "double_spaces": r"[^\s] {2,}[^\s]",
    "line_breaks": r"\n+",
    "lower_case_i": r"\bi\b",
    "upper_case_i": r"\bI\b",
    "lower_case_start": r"[.!?]\s+[a-z]",
    "upper_case_after_comma": r",\s+[A-HJ-Z]",
    "repeated_word": r"\b(\w+)\s+\1\b",
    "a_before_vowel": r"\b[Aa]\s+[aeioAEIO]\w",
    "an_before_consonant": r"\b[Aa]n\s+[bcdfgjklmnpqrstvwxyz]\w",
    "plural_after_singular": r"\b(?:a|an|this|that|one|every|each|another)\s+\w+[^s\W]s\b",
    "singular_after_many": r"\b(?:many|these|those|several|two|three|few)\s+\w+[^s\W]\b",
    "bare_third_person": r"\b(?:[Hh]e|[Ss]he|[Ii]t)\s+(?:have|do|go|want|need|make|get|like|don't|say|help|are|were)\b",
    "plural_with_s": r"\b(?:[Tt]hey|[Ww]e|[Yy]ou|[Pp]eople|[Ss]tudents)\s+(?:is|was|has|does|\w+[^s\W]es|wants)\b",
    "to_before_past": r"\bto\s+\w+ed\b",
    "modal_before_form": r"\b(?:can|will|could|should|would|must|may|might)\s+(?:\w+ing|\w+ed|to|is|are|has|was)\b",
    "more_better": r"\b(?:more|most)\s+\w+(?:er|est)\b",
}
"""Patterns counted in the text, by the name of the feature: their number per word."""
_PATTERNS = {name: re.compile(pattern) for name, pattern in _MARKS.items()}

_VOWELS = re.compile(r"[aeiouy]+")
_LENGTH_EDGES = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12)
_SIZES = ("num_words", "num_characters", "num_sentences", "num_paragraphs", "num_distinct")
_VARIETY = ("distinct_share", "distinct_per_root", "distinct_in_50", "once_share", "distinct_pairs_share", "entropy")
_WORD_SHAPE = (
    "mean_letters",
    "deviation_letters",
    "mean_syllables",
    "long_word_letters",
    "capital_share",
    "all_capitals",
)
_SENTENCES = (
    "mean_words",
    "deviation_words",
    "longest",
    "short_share",
    "long_share",
    "reading_ease",
    "words_per_paragraph",
)

FEATURE_NAMES = (
    *(f"{name}_{form}" for name in _SIZES for form in ("fourth_root", "log")),
    *_VARIETY,
    *_WORD_SHAPE,
    *(f"words_to_{edge}_letters" for edge in _LENGTH_EDGES),
    *(f"sentence_{name}" for name in _SENTENCES),
    *_WORD_CLASSES,
    *_ENDINGS,
    *_MARKS,
)
NUM_FEATURES = len(FEATURE_NAMES)


def ngram_buckets(text: str, shortest: int, longest: int, num_buckets: int) -> NDArray[np.int64]:
    """The hash buckets, ascending from 1 to `num_buckets`, of every character n-gram that occurs (presence, not count).

    Letters are lower-cased and runs of white space are one space, so that layout does not matter. A text shorter than
    `shortest` has no bucket but 1 by convention, since a row must not be empty.
    """
    characters = np.frombuffer(_SPACE.sub(" ", text.lower()).encode("utf-32-le"), dtype=np.uint32).astype(np.uint64)
    found: list[NDArray[np.uint64]] = []
    hashes = np.zeros(len(characters) + 1, dtype=np.uint64)
    for length in range(1, min(longest, len(characters)) + 1):
        # Polynomial hash of each n-gram, from that of the n-gram one shorter at the same place; overflow wraps.
        hashes = hashes[: len(characters) - length + 1] * _MULTIPLIER + characters[length - 1 :] + np.uint64(1)
        if length >= shortest:
            found.append(((hashes ^ (hashes >> np.uint64(31))) * _MIX >> np.uint64(20)) % np.uint64(num_buckets))
    if not found:
        return np.ones(1, dtype=np.int64)
    return np.unique(np.concatenate(found)).astype(np.int64) + 1


def surface_features(text: str) -> NDArray[np.float32]:
    """Features in the order of `FEATURE_NAMES`, (NUM_FEATURES,); all finite, whatever the text."""
    written = words(text)
    lower = [word.lower().replace("’", "'") for word in written]
    sentence_words = np.array([len(words(sentence)) for sentence in sentences(text)] or [0], dtype=np.float64)
    num_paragraphs = sum(1 for line in text.split("\n") if line.strip())
    syllables = sum(max(len(_VOWELS.findall(word)), 1) for word in lower) / max(len(lower), 1)
    return np.array(
        [
            *_sizes(len(lower), len(text), len(sentence_words), num_paragraphs, len(set(lower))),
            *_variety(lower),
            *_word_shape(written, syllables),
            *_sentence_shape(sentence_words, syllables, len(lower) / max(num_paragraphs, 1)),
            *_word_shares(lower),
            *(len(pattern.findall(text)) / max(len(lower), 1) for pattern in _PATTERNS.values()),
        ],
        dtype=np.float32,
    )


def _sizes(*counts: int) -> Iterable[float]:
    for count in counts:
        yield count**0.25
        yield float(np.log1p(count))


def _variety(lower: Sequence[str]) -> Iterable[float]:
    """How seldom words come again."""
    counts = np.array(list(Counter(lower).values()) or [1], dtype=np.float64)
    total = max(len(lower), 1)
    windows = [len(set(lower[start : start + 50])) / 50 for start in range(0, len(lower) - 49, 25)]
    pairs = list(itertools.pairwise(lower))
    shares = counts / counts.sum()
    return (
        len(counts) / total,
        len(counts) / total**0.5,
        float(np.mean(windows)) if windows else len(counts) / total,
        float((counts == 1).sum()) / total,
        len(set(pairs)) / max(len(pairs), 1),
        float(-(shares * np.log(shares)).sum()),
    )


def _word_shape(written: Sequence[str], syllables: float) -> Iterable[float]:
    lengths = np.array([len(word) for word in written] or [0], dtype=np.float64)
    longest = np.sort(lengths)[-max(len(lengths) // 10, 1) :]
    total = max(len(written), 1)
    capitals = sum(word[0].isupper() for word in written) / total
    shouted = sum(word.isupper() and len(word) > 1 for word in written) / total
    yield from (lengths.mean(), lengths.std(), syllables, longest.mean(), capitals, shouted)
    for low, high in itertools.pairwise((0, *_LENGTH_EDGES)):
        yield float(((lengths > low) & (lengths <= high)).mean())


def _sentence_shape(
    sentence_words: NDArray[np.float64], syllables: float, words_per_paragraph: float
) -> Iterable[float]:
    mean = float(sentence_words.mean())
    return (
        np.log1p(mean),
        np.log1p(sentence_words.std()),
        np.log1p(sentence_words.max()),
        float((sentence_words < 8).mean()),
        float((sentence_words > 35).mean()),
        # Flesch, 1948; clipped, since an essay of one endless sentence would lie far outside its scale.
        float(np.clip(206.835 - 1.015 * mean - 84.6 * syllables, -100, 150)) / 100,
        np.log1p(words_per_paragraph),
    )


def _word_shares(lower: Sequence[str]) -> Iterable[float]:
    total = max(len(lower), 1)
    counts = Counter(lower)
    for members in _WORD_CLASSES.values():
        yield sum(counts[word] for word in members) / total
    for endings in _ENDINGS.values():
        yield sum(len(word) > 4 and word.endswith(endings) for word in lower) / total
