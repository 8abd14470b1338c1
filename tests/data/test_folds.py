from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from data.asap import read_published_folds
from data.folds import FoldRow, SplitConfig, check_folds, make_folds, published_folds, torn_pairs
from data.refit import is_refit
from data.rows import CorpusRows, Essay
from data.split import split_corpora
from essays.errors import BadCorpus, BadParams

CONFIG = SplitConfig(num_folds=5, seed=7)


def _essays(num_essays: int = 303) -> list[Essay]:
    """Essays of three assignments and five scores in unequal numbers."""
    draw = np.random.default_rng(0)
    return [
        Essay(
            essay_id=f"ellipse-{number}",
            corpus="ellipse",
            prompt_id="ellipse-overall",
            text=" ".join(f"word{word}" for word in draw.integers(0, 10_000, size=60)),
            score=float(draw.choice([2.0, 2.5, 3.0, 3.5, 4.0], p=[0.1, 0.2, 0.4, 0.2, 0.1])),
            assignment=str(draw.choice(["Clubs", "Lunch", "Travel"], p=[0.6, 0.3, 0.1])),
        )
        for number in range(num_essays)
    ]


def _test_folds(rows: Sequence[FoldRow]) -> dict[str, int]:
    return {row.essay_id: row.fold for row in rows if row.part == "test"}


def test_the_test_parts_partition_the_essays_and_dev_is_the_test_part_before():
    essays = _essays()
    rows = make_folds(essays, range(len(essays)), CONFIG)
    assert len(rows) == 5 * len(essays)
    members: dict[tuple[int, str], set[str]] = defaultdict(set)
    for row in rows:
        members[row.fold, row.part].add(row.essay_id)
    everyone = {essay.essay_id for essay in essays}
    for fold in range(5):
        assert members[fold, "dev"] == members[(fold - 1) % 5, "test"]
        assert members[fold, "train"] == everyone - members[fold, "dev"] - members[fold, "test"]
        assert len(members[fold, "train"]) == pytest.approx(0.6 * len(essays), abs=2)
    assert sorted(essay_id for fold in range(5) for essay_id in members[fold, "test"]) == sorted(everyone)


def test_every_fold_has_its_share_of_each_assignment_and_score():
    essays = _essays()
    fold_of = _test_folds(make_folds(essays, range(len(essays)), CONFIG))
    for key in (lambda e: (e.assignment, e.score), lambda e: e.score):
        counts = Counter((key(essay), fold_of[essay.essay_id]) for essay in essays)
        for stratum in {key(essay) for essay in essays}:
            per_fold = [counts[stratum, fold] for fold in range(5)]
            assert max(per_fold) - min(per_fold) <= 1


def test_duplicates_are_kept_together_wherever_they_stand():
    essays = _essays()
    groups = list(range(len(essays)))
    for first in range(0, 100, 10):
        groups[first + 3] = groups[first + 200] = first
    fold_of = _test_folds(make_folds(essays, groups, CONFIG))
    for first in range(0, 100, 10):
        assert len({fold_of[f"ellipse-{member}"] for member in (first, first + 3, first + 200)}) == 1
    # The same essays ungrouped are torn, so the groups are what keeps them together.
    alone = _test_folds(make_folds(essays, range(len(essays)), CONFIG))
    assert any(alone[f"ellipse-{first}"] != alone[f"ellipse-{first + 3}"] for first in range(0, 100, 10))


def test_the_same_seed_gives_the_same_folds_in_any_order_and_another_seed_others():
    essays = _essays()
    first = _test_folds(make_folds(essays, range(len(essays)), CONFIG))
    shuffled = list(reversed(essays))
    assert _test_folds(make_folds(shuffled, range(len(essays)), CONFIG)) == first
    assert _test_folds(make_folds(essays, range(len(essays)), SplitConfig(num_folds=5, seed=8))) != first


def _published(num_essays: int = 10) -> tuple[list[Essay], list[dict[str, list[str]]]]:
    essays = _essays(num_essays)
    ids = [essay.essay_id for essay in essays]
    folds = [
        {
            "test": ids[fold::5],
            "dev": ids[(fold - 1) % 5 :: 5],
            "train": [i for place, i in enumerate(ids) if place % 5 not in (fold, (fold - 1) % 5)],
        }
        for fold in range(5)
    ]
    return essays, folds


def test_published_folds_are_taken_verbatim():
    essays, folds = _published()
    rows = published_folds(essays, folds)
    for fold, parts in enumerate(folds):
        for part, ids in parts.items():
            assert {row.essay_id for row in rows if (row.fold, row.part) == (fold, part)} == set(ids)


def test_a_published_fold_that_misses_repeats_or_invents_essays_is_refused():
    essays, folds = _published()
    folds[2]["train"][:3] = [folds[2]["test"][0], "ellipse-999", folds[2]["train"][4]]
    with pytest.raises(BadCorpus, match="published fold 2: 2 ids stand twice, 3 essays are in no part, 1 ids belong"):
        published_folds(essays, folds)


def test_an_essay_tested_twice_is_refused():
    rows = [FoldRow("a", 0, "test"), FoldRow("a", 1, "test"), FoldRow("a", 2, "train")]
    with pytest.raises(BadCorpus, match="1 essays are not in the test part of exactly one fold, the first is a"):
        check_folds(rows)


def test_a_dev_part_that_is_not_the_test_part_before_is_refused():
    rows = [FoldRow("a", 0, "test"), FoldRow("a", 1, "train"), FoldRow("a", 2, "dev")]
    with pytest.raises(BadCorpus, match="fold 1: a is in train, expected dev"):
        check_folds(rows)


def test_pairs_tested_in_different_folds_are_torn():
    rows = [FoldRow(name, fold, "test") for name, fold in (("a", 0), ("b", 0), ("c", 1))]
    assert torn_pairs(rows, [("a", "b"), ("b", "c")]) == [("b", "c")]


def test_copies_in_a_corpus_stay_in_one_fold_from_text_to_folds(tmp_path: Path, capsys):
    essays = _essays(100)
    copy = Essay("ellipse-copy", "ellipse", "ellipse-overall", essays[0].text.upper(), 5.0, "Another assignment")
    fold_of = _test_folds(split_corpora([*essays, copy], tmp_path, CONFIG))
    assert fold_of["ellipse-copy"] == fold_of["ellipse-0"]
    assert "101 essays, 1 pairs of near-duplicates, 0 across test folds" in capsys.readouterr().err


def test_the_real_ellipse_folds_are_alike(ellipse_rows: CorpusRows, tmp_path: Path):
    rows = split_corpora(ellipse_rows.essays, tmp_path, CONFIG)
    fold_of = _test_folds(rows)
    scores = [[e.score for e in ellipse_rows.essays if fold_of[e.essay_id] == fold] for fold in range(5)]
    assert sorted(map(len, scores)) == [514, 514, 514, 514, 515]
    assert np.ptp([np.mean(fold) for fold in scores]) < 0.01
    assert Counter(row.part for row in rows) == {"train": 3 * 2571, "dev": 2571, "test": 2571}


def test_the_real_asap_folds_are_as_published_and_their_torn_copies_are_said(
    asap_rows: CorpusRows, mirror: Path, capsys
):
    rows = split_corpora(asap_rows.essays, mirror, CONFIG)
    published = read_published_folds(mirror / "asap-aes")
    listed = {(i, fold, part) for fold, parts in enumerate(published) for part, ids in parts.items() for i in ids}
    assert {(row.essay_id, row.fold, row.part) for row in rows} == listed
    assert len(rows) == 5 * 12_978
    said = capsys.readouterr().err
    for first, second in ((7019, 7690), (8991, 10248), (9759, 10468)):
        assert f"asap-{first} and asap-{second} are near-duplicates, tested in different published folds" in said
    assert "asap-7473" not in said


def test_asap_with_another_number_of_folds_is_refused(tmp_path: Path):
    essay = Essay("asap-1", "asap-aes", "asap-1", "Ours.", 5.0, "asap-1")
    with pytest.raises(BadParams, match=r"split\.num_folds is 4, but asap-aes comes with 5 folds"):
        split_corpora([essay], tmp_path, SplitConfig(num_folds=4, seed=7))


def test_the_fold_for_serving_trains_on_all_but_the_first_dev_part_and_tests_nothing(tmp_path: Path):
    essays = _essays(100)
    measured = split_corpora(essays, tmp_path, CONFIG)
    rows = split_corpora(essays, tmp_path, CONFIG, with_refit=True)
    assert rows[: len(measured)] == measured
    refit = rows[len(measured) :]
    assert [row.essay_id for row in refit] == [essay.essay_id for essay in essays]
    assert {row.fold for row in refit} == {5}
    dev_of = [{row.essay_id for row in rows if (row.fold, row.part) == (fold, "dev")} for fold in range(6)]
    assert dev_of[5] == dev_of[0]
    assert Counter(row.part for row in refit) == {"train": 80, "dev": 20}
    assert [fold for fold in range(7) if is_refit(fold, CONFIG)] == [5]
