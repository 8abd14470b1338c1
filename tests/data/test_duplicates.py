import random

import pytest

from data.duplicates import MIN_JACCARD, SHINGLE_WORDS, Duplicate, duplicate_groups, near_duplicates
from data.rows import CorpusRows
from essays.text import words


def _essay(seed: int, num_words: int = 200) -> str:
    draw = random.Random(seed)
    return " ".join("".join(draw.choices("abcdefgh", k=draw.randint(2, 7))) for _ in range(num_words))


def _jaccard(first: str, second: str) -> float:
    """The same by sets of word tuples: an oracle without hashes or matrices."""
    sets = [
        {tuple(all_words[i : i + SHINGLE_WORDS]) for i in range(max(1, len(all_words) - SHINGLE_WORDS + 1))}
        for all_words in (words(first.lower()), words(second.lower()))
    ]
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def test_essays_that_share_nothing_are_no_duplicates():
    assert near_duplicates([_essay(seed) for seed in range(20)]) == []


def test_a_copy_that_differs_in_case_spacing_and_marks_is_the_same():
    essay = _essay(1)
    (pair,) = near_duplicates([_essay(0), essay, essay.upper().replace(" ", ",\n", 50)])
    assert pair == Duplicate(1, 2, 1.0)


def test_an_edited_copy_is_found_with_its_share():
    essay = _essay(1)
    edited = " ".join("new" if place % 40 == 0 else word for place, word in enumerate(essay.split()))
    (pair,) = near_duplicates([essay, _essay(2), edited])
    assert (pair.first, pair.second) == (0, 2)
    assert pair.jaccard == pytest.approx(_jaccard(essay, edited))
    assert MIN_JACCARD < pair.jaccard < 1


def test_a_shared_quotation_makes_no_duplicate():
    quotation = _essay(9, num_words=40)
    assert near_duplicates([f"{_essay(1)} {quotation}", f"{quotation} {_essay(2)}"]) == []


def test_short_essays_are_near_only_when_all_words_are_the_same():
    pairs = near_duplicates(["I like it", "I like it!", "I like", "!!", "like it I", ""])
    assert [(pair.first, pair.second) for pair in pairs] == [(0, 1), (3, 5)]


def test_no_essays_have_no_duplicates():
    assert near_duplicates([]) == []


def test_chains_of_duplicates_are_one_group_named_by_its_first():
    pairs = [Duplicate(1, 3, 0.9), Duplicate(3, 5, 0.9), Duplicate(2, 4, 1.0)]
    assert duplicate_groups(7, pairs) == [0, 1, 2, 1, 2, 1, 6]


def test_without_duplicates_each_essay_is_its_own_group():
    assert duplicate_groups(3, []) == [0, 1, 2]


def test_the_real_near_duplicates_of_asap_are_found(asap_rows: CorpusRows):
    essays = [essay for essay in asap_rows.essays if essay.prompt_id in ("asap-3", "asap-4")]  # the short ones
    found = {
        (essays[pair.first].essay_id, essays[pair.second].essay_id): pair.jaccard
        for pair in near_duplicates([essay.text for essay in essays])
    }
    same = [("7019", "7690"), ("7473", "7549"), ("8991", "10248"), ("9759", "10468")]
    assert {pair for pair, share in found.items() if share == 1} == {(f"asap-{a}", f"asap-{b}") for a, b in same}
    assert len(found) == 9


def test_the_real_ellipse_has_no_near_duplicates(ellipse_rows: CorpusRows):
    assert near_duplicates([essay.text for essay in ellipse_rows.essays]) == []
