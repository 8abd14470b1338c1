"""What is asked of models, on changes made by hand; the report's page; and the cases of made-up essays."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from data.rows import Essay
from essays.errors import StageFailed
from essays.gate import Gate
from training.behaviours import Behaviour, read_behaviours, write_behaviours
from training.robustness import (
    ELSEWHERE,
    EXPECTATIONS,
    NONSENSE,
    ORIGINAL,
    STEERED,
    CaseMaker,
    Changes,
    changes_of,
    gate_behaviours,
    model_behaviours,
)
from training.robustness_page import place_of, robustness_page

TEXTS = {
    "asap-1": "Computers help people to write to a friend. My uncle lives far away, and we talk each week. Some say"
    " that a screen is bad for the eyes. I think one can stop after an hour. At school we learn to type. That is useful"
    " for later work. Nobody has to sit alone all day long. We can go out when the work is done and play with others.",
    "asap-7": "Last summer my family drove to a lake. The car stopped in the middle of the road. My father was patient"
    " and called for help. We waited for three hours in the heat. My sister sang songs and I counted the birds. In the"
    " end a man came with a truck. We reached the lake at night, and nobody was angry at all. It was a good day.",
}


def essays() -> list[Essay]:
    return [
        Essay(f"{prompt_id}-{place}", "asap-aes", prompt_id, text.replace("people", f"people {place}"), 5.0, prompt_id)
        for prompt_id, text in TEXTS.items()
        for place in range(4)
    ]


def changes(deltas: list[float], flagged: bool = False) -> dict[str, Changes]:
    before = np.full(len(deltas), 0.5)
    all_of = Changes(before, before + np.array(deltas), np.full(len(deltas), flagged), np.full(len(deltas), 0.1))
    return {expected.perturbation: all_of for expected in EXPECTATIONS}


def held(deltas: list[float], flagged: bool = False) -> dict[str, bool]:
    return {each.perturbation: each.held for each in model_behaviours("lexical", changes(deltas, flagged))}


def test_a_model_that_does_not_move_holds_what_must_not_move_and_misses_every_drop() -> None:
    found = held([0.0] * 20)
    assert found["synonyms: within half a step"]
    assert found["gender swapped: mean change from 0"]
    assert found["sentences shuffled: no rise"]
    assert not found["sentences shuffled: mean change"]
    assert not found["grammar broken: mean change"]
    assert not found[f"{ELSEWHERE}: flagged or 30 % of the range lost"]
    assert not found[f"{NONSENSE}: flagged or lowest third"]


@pytest.mark.parametrize(
    ("deltas", "claim", "expected"),
    [
        ([0.02] + [0.0] * 19, "sentences shuffled: no rise", True),
        ([0.02] * 2 + [0.0] * 18, "sentences shuffled: no rise", False),
        ([-0.06] * 20, "sentences shuffled: mean change", True),
        ([-0.04] * 20, "sentences shuffled: mean change", False),
        ([0.049] * 20, "lines repeated: no gain over half a step", True),
        ([0.051] * 20, "lines repeated: no gain over half a step", False),
        ([-0.051] * 20, "synonyms: within half a step", False),
        ([0.03, -0.03] * 10, "gender swapped: within a quarter step", False),
        ([0.03, -0.03] * 10, "gender swapped: mean change from 0", True),
        ([-0.31] * 20, f"{ELSEWHERE}: flagged or 30 % of the range lost", True),
        ([0.02] * 20, f"{STEERED}: no effect, or flagged", True),
        ([-0.03] * 20, f"{STEERED}: no effect, or flagged", False),
    ],
)
def test_each_bar_is_where_the_table_has_it(deltas: list[float], claim: str, expected: bool) -> None:
    assert held(deltas)[claim] is expected


def test_a_flagged_essay_gains_nothing() -> None:
    found = held([0.4] * 20, flagged=True)
    assert found["song inserted: no rise"]
    assert found[f"{STEERED}: no effect, or flagged"]
    assert not held([0.4] * 20)["song inserted: no rise"]


def test_changes_compare_an_essay_with_itself_and_one_of_another_prompt_with_its_home() -> None:
    maker = CaseMaker(essays(), Gate(), num_essays=2, seed=1)
    cases = maker.cases()
    # A model that gives each prompt its own score, and one point more to whatever was changed.
    home = {"asap-1": 0.2, "asap-7": 0.6}
    unchanged = [case.perturbation == ORIGINAL or "at home" in case.perturbation for case in cases]
    scores = np.array(
        [home[case.prompt_id] + (0 if same else 0.01) for case, same in zip(cases, unchanged, strict=True)]
    )
    found = changes_of(cases, scores)
    assert np.allclose(found["sentences shuffled"].delta, 0.01)
    assert np.allclose(np.sort(found[ELSEWHERE].delta), [-0.39, -0.39, 0.41, 0.41])
    assert np.allclose(found["sentences shuffled"].step, 0.1)


def test_essays_beyond_a_models_share_are_left_out() -> None:
    cases = CaseMaker(essays(), Gate(), num_essays=3, seed=1).cases()
    scores = np.array([0.5 if case.place < 1 else np.nan for case in cases])
    assert len(changes_of(cases, scores)["sentences shuffled"].after) == 2


def test_the_gate_holds_what_needs_no_profile() -> None:
    maker = CaseMaker(essays(), Gate(), num_essays=4, seed=1)
    found = {each.perturbation: each for each in gate_behaviours(maker, maker.cases(), {})}
    assert all(each.model == "gate" for each in found.values())
    for name in ("empty or white space: reason empty", "1 to 20 words: reason too_short", "untouched: no reason"):
        assert found[name].held
    assert found["whole text × 5: reason repetitive"].held
    assert not any("copied" in name for name in found)


def test_the_report_is_read_back_by_model(tmp_path: Path) -> None:
    rows = [Behaviour("lexical", "a", "≥ 0.9", 0.95, held=True), Behaviour("lstm", "a", "≥ 0.9", 0.5, held=False)]
    path = tmp_path / "reports" / "robustness.json"
    write_behaviours(rows, path)
    assert [set(row) for row in json.loads(path.read_text("utf-8"))] == [
        {"model", "perturbation", "bar", "measured", "held"}
    ] * 2
    assert read_behaviours("lstm", path) == {"a": False}
    assert read_behaviours("minilm", path) == {}
    with pytest.raises(StageFailed, match="stage robustness"):
        read_behaviours("lstm", tmp_path / "none.json")


def test_the_page_shows_every_line_and_a_dot_for_every_essay() -> None:
    found = changes([0.1, -0.2, 0.9])
    rows = [Behaviour("gate", "untouched: no reason", "≥ 0.95", 1.0, held=True), *model_behaviours("lexical", found)]
    page = robustness_page(rows, {"lexical": found}, {"lexical": 3}, fold=0)
    assert page.count("<circle") == 3 * len(found)
    for row in rows:
        assert row.perturbation in page
    assert "✗" in page
    assert not re.search(r'(src|href)="http', page)
    assert place_of(0.0) == 50.0
    assert place_of(0.9) == place_of(0.5) == 98.0
