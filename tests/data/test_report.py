import json

import pytest

from data.report import describe_corpus, human_agreement, list_faults
from data.rows import CorpusRows, Essay, Fault


def _rated(*pairs: tuple[float, ...], prompt_id: str = "asap-1") -> list[Essay]:
    return [
        Essay(f"asap-{i}", "asap-aes", prompt_id, f"Essay {i}.", sum(p[:2]), prompt_id, p) for i, p in enumerate(pairs)
    ]


def test_agreement_of_raters_is_that_of_a_matrix_worked_by_hand():
    # Raters on two scores: 3 agreements low, 1 high, 1 apart. Observed disagreement 1/5; by chance (4*1 + 1*2)/25 ...
    agreement = human_agreement("asap-1", _rated((1, 1), (1, 1), (1, 1), (2, 2), (1, 2)))
    # ... = first rater 4 low and 1 high, second 3 low and 2 high: (4*2 + 1*3) / 25 = 0.44, so kappa = 1 - 0.2 / 0.44.
    assert agreement == {
        "essays": 5,
        "rater_range": [1, 2],
        "qwk": pytest.approx(1 - 0.2 / 0.44, abs=1e-4),
        "exact": 0.8,
        "within_one_step": 1.0,
    }


def test_a_third_rater_does_not_change_the_agreement_of_the_first_two():
    two, three = [(1, 1), (2, 3), (4, 4)], [(1, 1), (2, 3, 6), (4, 4)]
    assert human_agreement("asap-8", _rated(*two)) == human_agreement("asap-8", _rated(*three))


def test_raters_who_never_vary_have_no_agreement_number():
    agreement = human_agreement("asap-1", _rated((2, 2), (2, 2)))
    assert agreement is not None
    assert (agreement["qwk"], agreement["exact"]) == (None, 1.0)


def test_unpublished_ratings_have_no_agreement():
    essay = Essay("ellipse-1", "ellipse", "ellipse-overall", "Ours.", 3.0, "Clubs")
    assert human_agreement("ellipse-overall", [essay]) is None


def test_the_report_counts_and_the_list_names_but_neither_quotes():
    text = "A dreadful secret sentence that nobody but its writer should ever read in a report."
    essays = [
        Essay("ellipse-1", "ellipse", "ellipse-overall", text, 3.0, "Clubs"),
        Essay("ellipse-2", "ellipse", "ellipse-overall", text.upper(), 3.5, "Lunch"),
        Essay("ellipse-3", "ellipse", "ellipse-overall", "Short.", 3.0, "Lunch"),
    ]
    faults = (Fault("ellipse-3", "doubly_encoded"), Fault("ellipse-1", "doubly_encoded"))
    rows = CorpusRows(tuple(essays), faults, num_raw_rows=3)
    listed = list_faults(rows)
    report = describe_corpus("ellipse", rows, listed)
    assert (report["raw_rows"], report["essays"], report["licence"]) == (3, 3, "CC BY-NC-SA 4.0")
    assert report["prompts"]["ellipse-overall"] == {
        "essays": 3,
        "assignments": 2,
        "score_range": [1.0, 5.0],
        "score_step": 0.5,
        "score_counts": {"3": 2, "3.5": 1},
        "median_words": 15,
        "under_20_words": 3,
        "human_agreement": None,
    }
    assert listed["near_duplicates"] == [
        {"essay_ids": ["ellipse-1", "ellipse-2"], "jaccard": 1.0, "scores": [3.0, 3.5]}
    ]
    assert listed["faults"] == {"doubly_encoded": ["ellipse-3", "ellipse-1"]}
    assert report["near_duplicate_pairs"] == 1
    assert report["faults"]["doubly_encoded"]["essays"] == 2
    assert "ellipse-1" not in json.dumps(report)
    written = json.dumps([report, listed]).lower()
    assert "dreadful" not in written
    assert "short." not in written
