"""n-gram buckets and surface features: the same everywhere, finite for any text."""

import subprocess
import sys
import time
from collections import Counter

import numpy as np
import pytest

from essays.features import FEATURE_NAMES, NUM_FEATURES, ngram_buckets, surface_features
from essays.text import normalize_text

ESSAY = (
    "Some people think that a school day should be shorter. However, I don't agree: longer days help us learn more.\n"
    "First of all, my friends and i study better in the morning. In conclusion, nothing should change!"
)
ODD_TEXTS = [
    "",
    " ",
    ".",
    "...!!!???",
    "a",
    "\n\n\n",
    "word",
    "word " * 5000,
    "x" * 20000,
    "1234567890 " * 40,
    "日本語のエッセイ。とても短い。",
    "مرحبا بالعالم",
    "😀" * 300,
    "e" + "\u0301" * 10000,
    "I'M SHOUTING ALL THE TIME",
    "(((((" * 1000,
]


def features(text: str) -> dict[str, float]:
    return dict(zip(FEATURE_NAMES, surface_features(text).tolist(), strict=True))


@pytest.mark.parametrize("text", ODD_TEXTS, ids=range(len(ODD_TEXTS)))
def test_features_are_finite_for_any_text(text: str) -> None:
    found = surface_features(normalize_text(text))
    assert found.shape == (NUM_FEATURES,)
    assert found.dtype == np.float32
    assert np.isfinite(found).all()


def test_names_are_unique() -> None:
    assert len(set(FEATURE_NAMES)) == NUM_FEATURES


def test_counts_are_those_of_the_text() -> None:
    found = features(ESSAY)
    assert found["num_words_fourth_root"] ** 4 == pytest.approx(37, abs=0.01)
    assert np.expm1(found["num_sentences_log"]) == pytest.approx(4, abs=0.01)
    assert np.expm1(found["num_paragraphs_log"]) == pytest.approx(2, abs=0.01)
    assert found["commas"] * 37 == pytest.approx(3, abs=0.01)
    assert found["lower_case_i"] * 37 == pytest.approx(1, abs=0.01)
    assert found["connective"] * 37 == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize(
    ("name", "worse", "better"),
    [
        ("misspelling", "It is good becuase we learn", "It is good because we learn"),
        ("missing_apostrophe", "We dont know", "We don't know"),
        ("bare_third_person", "He have a dog", "He has a dog"),
        ("a_before_vowel", "This is a apple tree", "This is an apple tree"),
        ("lower_case_start", "We go. then we stay.", "We go. Then we stay."),
        ("space_before_mark", "We go , then stay .", "We go, then stay."),
        ("no_space_after_mark", "We go,then stay", "We go, then stay"),
        ("repeated_word", "It is is good", "It is good"),
        ("modal_before_form", "We can going home", "We can go home"),
        ("chat", "u r gonna like it", "you are going to like it"),
    ],
)
def test_slips_are_counted(name: str, worse: str, better: str) -> None:
    assert features(worse)[name] > features(better)[name] == 0


def test_curly_apostrophes_count_as_straight_ones() -> None:
    assert features("I don’t know; it’s fine") == features("I don't know; it's fine")


def test_repetition_lowers_variety() -> None:
    once, often = features("A plain sentence about many different things here. "), features("Again and again. " * 30)
    assert often["distinct_share"] < once["distinct_share"]
    assert often["entropy"] < once["entropy"]


def test_features_take_milliseconds() -> None:
    text = ESSAY * 10
    surface_features(text)
    started = time.process_time()
    for _ in range(5):
        surface_features(text)
    assert (time.process_time() - started) / 5 < 0.05


def test_buckets_are_those_of_every_ngram_that_occurs() -> None:
    """Against a plain loop: as many buckets as distinct n-grams, where collisions are next to impossible."""
    text = "Ab ab\n\nabc "
    squeezed = "ab ab abc "
    expected = Counter(squeezed[i : i + n] for n in (2, 3, 4) for i in range(len(squeezed) - n + 1))
    buckets = ngram_buckets(text, 2, 4, 2**40)
    assert len(buckets) == len(expected)
    assert (np.diff(buckets) > 0).all()


def test_buckets_stay_in_range_and_are_never_empty() -> None:
    for text in ODD_TEXTS:
        buckets = ngram_buckets(text, 1, 5, 64)
        assert len(buckets) >= 1
        assert buckets.min() >= 1
        assert buckets.max() <= 64
        assert buckets.dtype == np.int64


def test_ngrams_of_different_length_do_not_share_buckets_by_design() -> None:
    assert set(ngram_buckets("aaaa", 2, 2, 2**40)).isdisjoint(ngram_buckets("aaaa", 3, 3, 2**40))


def test_texts_that_share_ngrams_share_buckets() -> None:
    first, second = ngram_buckets("the dog", 3, 3, 2**40), ngram_buckets("a the cat", 3, 3, 2**40)
    assert len(np.intersect1d(first, second)) == len({"the", "he "})


def test_buckets_are_the_same_in_every_process() -> None:
    """A published weight table is read by these numbers: Python's own hash would change them at each start."""
    code = (
        "import sys; from essays.features import ngram_buckets;print(ngram_buckets(sys.argv[1], 1, 6, 262144).tolist())"
    )
    found = subprocess.run(
        [sys.executable, "-c", code, ESSAY], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "17"}
    )
    assert found.stdout.strip() == str(ngram_buckets(ESSAY, 1, 6, 262144).tolist())


def test_buckets_are_those_that_published_models_were_made_with() -> None:
    assert ngram_buckets("the", 1, 3, 1000).tolist() == [68, 105, 386, 642, 815, 931]
