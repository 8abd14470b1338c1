"""Essay text before anything reads it: one normal form for training and serving.

Leaves scoring rules to `gate`, and what models see to `encoding`.
"""

import re
import unicodedata

from essays.errors import MalformedText

# Control and format characters carry no writing; newline and tab do. U+200D joins emoji and goes with the rest.
_INVISIBLE = re.compile(
    r"[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff]"
)
_WORD = re.compile(r"@?\w+(?:['’]\w+)*")
_SENTENCE_END = re.compile(r"(?<=[.!?])[\"'”’)]*\s+|\n+")
# How each byte from 0x80 shows when UTF-8 is read as cp1252. The five that cp1252 leaves undefined show as control
# characters of the same number, and so do all below 0xa0 to a latin-1 reader.
_BYTE_OF = {chr(byte): byte for byte in range(0x80, 0x100)} | {
    character: byte for byte in range(0x80, 0x100) if (character := bytes([byte]).decode("cp1252", "ignore"))
}
_CONTINUATION = "[" + "".join(character for character, byte in _BYTE_OF.items() if byte < 0xC0) + "]"
# Two bytes (accents, signs), three (typographic quotes, dashes), four (emoji): only the lead bytes that English meets.
_TWICE_ENCODED = re.compile(f"[ÂÃ]{_CONTINUATION}|â{_CONTINUATION}{{2}}|ð{_CONTINUATION}{{3}}")


def normalize_text(text: str) -> str:
    """The text in NFC, with one newline for each line end and without invisible characters.

    Raises MalformedText on lone surrogates.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise MalformedText(
            f"the essay holds a lone surrogate at character {error.start}, which is no Unicode text",
            field="essay",
            hint="send the essay as valid UTF-8",
        ) from None  # the chained error would carry the essay
    unix = text.replace("\r\n", "\n").replace("\r", "\n")
    return unicodedata.normalize("NFC", _INVISIBLE.sub("", unix)).strip()


def repair_encoding(text: str) -> str:
    """The text with UTF-8 that was once read as cp1252 turned back, run by run; other text is left alone.

    A whole-text round trip fails on essays that hold both kinds, so each suspicious run is tried by itself, again
    while that helps: some text was encoded three times. Accented words are safe, since no vowel is followed by the
    signs and controls that a run needs. Works before `normalize_text`, which drops the controls.
    """
    repaired = _TWICE_ENCODED.sub(_repair_run, text)
    return text if repaired == text else repair_encoding(repaired)


def words(text: str) -> list[str]:
    """Words in order, with inner apostrophes, and tokens such as `@CAPS1` whole."""
    return _WORD.findall(text)


def sentences(text: str) -> list[str]:
    """Sentences by closing punctuation or line ends; never empty strings."""
    return [part.strip() for part in _SENTENCE_END.split(text) if part and part.strip()]


def _repair_run(match: re.Match[str]) -> str:
    try:
        return bytes(_BYTE_OF[character] for character in match.group()).decode("utf-8")
    except UnicodeDecodeError:
        return match.group()
