import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from essays.errors import MalformedText
from essays.text import normalize_text, repair_encoding, sentences, words


def _twice(text: str) -> str:
    """UTF-8 read as cp1252, whose five undefined bytes show as controls of the same number."""
    return "".join(bytes([byte]).decode("cp1252", "ignore") or chr(byte) for byte in text.encode())


@pytest.mark.parametrize("text", ["’", "‘", "“", "”", "–", "—", "…", "é", "ñ", "½", "º", "€", "™", "😀", "\u00a0"])
def test_a_doubly_encoded_character_is_turned_back(text: str):
    assert _twice(text) != text
    assert repair_encoding(f"before {_twice(text)} after") == f"before {text} after"


def test_the_closing_quote_whose_byte_cp1252_lacks_is_turned_back():
    assert repair_encoding("he said â€œnoâ€\x9d") == "he said “no”"


def test_neighbouring_characters_are_turned_back_one_by_one():
    assert repair_encoding(_twice("“¿Ñandú?” – “éèê”")) == "“¿Ñandú?” – “éèê”"


def test_text_that_holds_both_kinds_keeps_what_was_fine():
    assert repair_encoding(f"A café – {_twice('naïve')} “yes”") == "A café – naïve “yes”"


def test_text_that_was_encoded_three_times_is_turned_back():
    assert repair_encoding(_twice(_twice("it’s a café – 20 º"))) == "it’s a café – 20 º"


def test_text_that_a_latin_1_reader_spoiled_is_turned_back():
    assert repair_encoding("it’s".encode().decode("latin-1")) == "it’s"


@pytest.mark.parametrize(
    "text",
    [
        "Plain English, 100 % fine.",
        "Voilà – château, Ângela, São, ÃO, crème brûlée, Ðorđe, ð",
        "“Curly” ‘quotes’ … and 5 € or £3 at 20°C",
        "50 â and â, Â. Ã!",
        "â€",  # the beginning of a run that was cut off
        "日本語 русский العربية 😀",
    ],
)
def test_text_that_is_fine_is_left_alone(text: str):
    assert repair_encoding(text) == text


@given(st.text(st.characters(max_codepoint=0x7F)))
def test_ascii_is_left_alone(text: str):
    assert repair_encoding(text) == text


@given(st.text(st.characters(exclude_categories=["Cs"])))
@example("â€\x9dÃ\x82Âº")
def test_repairing_twice_is_repairing_once(text: str):
    assert repair_encoding(repair_encoding(text)) == repair_encoding(text)


@given(st.text(st.sampled_from("abc ’“”–…éñü")))
def test_any_text_of_an_essay_survives_double_encoding(text: str):
    assert repair_encoding(_twice(text)) == text


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_the_normal_form_is_stable(text: str):
    once = normalize_text(text)
    assert normalize_text(once) == once
    assert unicodedata.is_normalized("NFC", once)
    assert "\r" not in once


@pytest.mark.parametrize(
    ("raw", "normal"),
    [
        ("one\r\ntwo\rthree\n", "one\ntwo\nthree"),
        ("  \n kept\tinside \n", "kept\tinside"),
        ("cafe\u0301", "caf\u00e9"),
        ("zero\u200bwidth and soft\u00adhyphen\x9d\x00", "zerowidth and softhyphen"),
        ("\ufeffbyte order mark", "byte order mark"),
        ("", ""),
    ],
)
def test_the_normal_form(raw: str, normal: str):
    assert normalize_text(raw) == normal


def test_a_lone_surrogate_is_refused_without_quoting_the_essay():
    with pytest.raises(MalformedText, match="a lone surrogate at character 6") as caught:
        normalize_text("secret\ud800")
    assert caught.value.field == "essay"
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_words_keep_apostrophes_and_name_tokens_whole():
    assert words("Don't thank @CAPS1, it’s the 2nd—time!") == ["Don't", "thank", "@CAPS1", "it’s", "the", "2nd", "time"]


def test_sentences_end_at_marks_and_lines_and_are_never_empty():
    text = 'First one. "Second one!" Third\n\nFourth? Dr'
    assert sentences(text) == ["First one.", '"Second one!', "Third", "Fourth?", "Dr"]
    assert sentences(" \n ") == []
