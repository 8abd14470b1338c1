"""Cuts an essay into sentences that can be left out one by one; joined they are the essay again, to the character.

By rules, for pupils' English: full stops without a blank behind them, no full stops at all, lines as sentences.
`essays.text.sentences` counts sentences for models and may not change without them; this loses no character and knows
abbreviations.
"""

import re
from collections.abc import Sequence
from itertools import pairwise

MAX_WORDS = 50
"""Of a part: a run of words that no mark ends is cut at a comma or a joining word, else between words."""

# Marks that end a sentence, with what closes behind them; a capital right behind a full stop; the end of a line.
_END = re.compile(r"[.!?…]+[\"'”’)\]]*(?=\s)|(?<=[a-z]{2}[.!?])(?=[A-Z][a-z'’])|(?=\n)")
_WINDOW = 40
_QUOTES = ('"', "”", "’", "'")
_BLANK = re.compile(r"\s*")
_ALWAYS_GO_ON = frozenset({"mr.", "mrs.", "ms.", "dr.", "prof.", "st.", "mt.", "vs.", "e.g.", "i.e.", "cf.", "fig."})
_MAY_END = frozenset({"etc.", "a.m.", "p.m.", "u.s.", "u.k.", "jr.", "sr.", "inc.", "co.", "approx.", "no."})
"""End a sentence unless what follows begins with a small letter."""
_INITIAL = re.compile(r"(?:^|\s)(?!I\.)[A-Z]\.$")
_OPEN = re.compile(r"(?:\.\.+|…)[\"'”’)\]]*$")
_JOINT = re.compile(r"[,;:]\s+|\s+(?=(?:and|but|because|so|then|or|when|which|if|that)\s)", re.IGNORECASE)
_WORD = re.compile(r"\S+")


def split_sentences(text: str) -> list[str]:
    """Sentences with the white space behind them, in order; `"".join` of them is the text. Empty for an empty text."""
    ends = [end for match in _END.finditer(text) if (end := _end_of(text, match)) is not None]
    places = sorted({0, *ends, len(text)})
    pieces = [text[start:end] for start, end in pairwise(places)]
    return [part for piece in _without_blanks(pieces) for part in _cut(piece)]


def at_most(parts: Sequence[str], most: int) -> list[str]:
    """The parts, or where there are more, neighbours put together into at most so many passages of like length."""
    if len(parts) <= most:
        return list(parts)
    total, seen = sum(map(len, parts)), 0
    passages = [""] * most
    for part in parts:
        passages[seen * most // total] += part
        seen += len(part)
    return [passage for passage in passages if passage]


def _end_of(text: str, match: re.Match[str]) -> int | None:
    """Where the next sentence begins, or None where the mark ends none."""
    found = _BLANK.match(text, match.end())
    assert found is not None, "no white space is white space enough"
    end = found.end()
    # A line's end is an end whatever stands before it.
    if "\n" in text[match.end() : end]:
        return end
    # An essay may be one endless line: what decides stands near its mark.
    line = text[max(match.end() - _WINDOW, 0) : match.end()].rpartition("\n")[2]
    goes_on = text[end : end + 1].islower()
    if goes_on and (_OPEN.search(line) or line.endswith(_QUOTES)):
        return None
    return None if _is_abbreviated(line, goes_on=goes_on) else end


def _is_abbreviated(line: str, *, goes_on: bool) -> bool:
    last = line.rsplit(maxsplit=1)[-1].lstrip("\"'“‘([") if line.strip() else ""
    if last.lower() in _ALWAYS_GO_ON or _INITIAL.search(line) or _is_list_number(line):
        return True
    return goes_on and last.lower() in _MAY_END


def _is_list_number(line: str) -> bool:
    return re.fullmatch(r"\s*\d{1,2}[.)]+", line) is not None


def _without_blanks(pieces: list[str]) -> list[str]:
    """Pieces that hold a word or a mark; white space goes to the one before, at the beginning to the one behind."""
    kept: list[str] = []
    before = ""
    for piece in pieces:
        if piece.strip():
            kept.append(before + piece)
            before = ""
        elif kept:
            kept[-1] += piece
        else:
            before = piece
    return kept or ([before] if before else [])


def _cut(piece: str) -> list[str]:
    """A sentence in parts of at most `MAX_WORDS` words, cut as near to its middle as a joint or a word allows."""
    words = list(_WORD.finditer(piece))
    if len(words) <= MAX_WORDS:
        return [piece]
    middle = len(piece) / 2
    joints = [match.end() for match in _JOINT.finditer(piece) if len(piece) / 4 < match.end() < 3 * len(piece) / 4]
    place = min(joints or [word.start() for word in words[1:]], key=lambda end: abs(end - middle))
    return [*_cut(piece[:place]), *_cut(piece[place:])]
