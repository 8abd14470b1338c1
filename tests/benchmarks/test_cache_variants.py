"""The replay's variants are what they are called, and the same in every run."""

import pytest

from benchmarks.cache.variants import CHANGES, EXACT, NEVER, SLIPS, variant, variant_names
from essays.text import normalize_text
from serving.cache.guard import MAX_EDITS, edits_between
from serving.cache.keys import Keyring
from serving.cache.sketch import tokens_of

ESSAY = " ".join(
    f"In year {number} many people think that school is important, because student number {number} may learn more."
    for number in range(30)
)
OTHER = "Quite another text. " * 40
KEYRING = Keyring(b"of this test")


def edits(text: str) -> int | None:
    first, second = (KEYRING.word_digests(b"", tokens_of(normalize_text(each))) for each in (ESSAY, text))
    return edits_between(first, second)


@pytest.mark.parametrize("name", variant_names())
def test_each_variant_is_as_far_away_as_its_kind_says_and_always_the_same(name: str) -> None:
    text = variant(name, "an-id", ESSAY, OTHER)
    assert text == variant(name, "an-id", ESSAY, OTHER)
    if name in EXACT:
        assert normalize_text(text) == ESSAY
    elif name in SLIPS:
        found = edits(text)
        assert found is not None
        assert 1 <= found <= MAX_EDITS
    else:
        assert name in CHANGES
        assert edits(text) is None


def test_what_may_never_be_answered_is_among_the_changes() -> None:
    assert set(NEVER) < set(CHANGES)
