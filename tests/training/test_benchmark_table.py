"""Out-of-fold scores and the table that is made of them again."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from data.rows import Essay
from essays.errors import StageFailed
from essays.metrics import quadratic_weighted_kappa
from essays.params import read_params
from essays.prompts import get_prompt
from tests.training.simulation import joined, simulated_scores
from training.benchmark_table import benchmark_table, model_cells, require_every_essay, trust_table
from training.calibrate import fit_calibration
from training.evaluate import rater_pairs
from training.evaluation_config import CalibrateConfig, EvaluateConfig
from training.out_of_fold import HEADER, OutOfFold, merge_rows, out_of_fold, read_rows, write_rows

ROWS = [OutOfFold(7, 0, "asap-1", 0.25, 1.0), OutOfFold(7, 1, "asap-2", 0.7512344, 2.0)]


@pytest.fixture(scope="module")
def scores():
    return joined(simulated_scores("asap-1", seed=1), simulated_scores("asap-3", seed=2))


@pytest.fixture(scope="module")
def calibration(scores):
    return fit_calibration(scores, read_params("calibrate", CalibrateConfig))


@pytest.fixture(scope="module")
def essays(scores) -> dict[str, Essay]:
    return {
        essay_id: Essay(essay_id, "asap-aes", prompt_id, "", score, prompt_id, (score, score + index % 2))
        for index, (essay_id, prompt_id, score) in enumerate(
            zip(scores.essay_ids.tolist(), scores.prompt_ids.tolist(), scores.human_scores.tolist(), strict=True)
        )
    }


def test_rows_hold_the_test_essays_alone_with_the_grades_that_serving_gives(scores, calibration) -> None:
    rows = out_of_fold(2, 7, scores, calibration)
    assert {row.essay_id for row in rows} == set(scores.essay_ids[scores.parts == "test"].tolist())
    assert {(row.fold, row.seed) for row in rows} == {(2, 7)}
    raw = dict(zip(scores.essay_ids.tolist(), scores.raw_unit_scores.tolist(), strict=True))
    for row in rows[::40]:
        prompt = get_prompt(row.essay_id.rpartition("-")[0])
        grade = calibration.grade(prompt, raw[row.essay_id])
        assert row.grade == grade.score
        assert row.unit_score == pytest.approx(grade.unit_score, abs=1e-6)


def test_a_file_comes_back_as_it_was_written_and_has_no_other_column(tmp_path: Path) -> None:
    write_rows(ROWS[::-1], tmp_path / "a.csv")
    assert (tmp_path / "a.csv").read_text().splitlines() == [
        ",".join(HEADER),
        "asap-1,0,7,0.250000,1",
        "asap-2,1,7,0.751234,2",
    ]
    assert [row.essay_id for row in read_rows(tmp_path / "a.csv")] == ["asap-1", "asap-2"]


def test_another_seed_joins_and_the_same_seed_is_replaced(tmp_path: Path) -> None:
    write_rows(ROWS, tmp_path / "target.csv")
    write_rows([dataclasses.replace(row, seed=8) for row in ROWS], tmp_path / "other.csv")
    merge_rows(tmp_path / "other.csv", tmp_path / "target.csv")
    assert [row.seed for row in read_rows(tmp_path / "target.csv")] == [7, 7, 8, 8]
    write_rows([dataclasses.replace(ROWS[0], grade=3.0)], tmp_path / "same.csv")
    merge_rows(tmp_path / "same.csv", tmp_path / "target.csv")
    assert [(row.seed, row.grade) for row in read_rows(tmp_path / "target.csv")] == [(7, 3.0), (8, 1.0), (8, 2.0)]


@pytest.mark.parametrize(
    ("content", "message"),
    [("", "first line"), ("essay_id,fold\n", "first line"), (",".join(HEADER) + "\na,b,7,0.1,1\n", "a row is not")],
)
def test_what_is_no_such_table_is_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "a.csv").write_text(content)
    with pytest.raises(StageFailed, match=message):
        read_rows(tmp_path / "a.csv")
    with pytest.raises(StageFailed, match="make crossval"):
        read_rows(tmp_path / "missing.csv")


def test_table_is_the_mean_of_fold_kappas(scores, calibration, essays) -> None:
    other = dataclasses.replace(scores, raw_unit_scores=scores.raw_unit_scores[::-1].copy())
    rows = [*out_of_fold(0, 7, scores, calibration), *out_of_fold(1, 7, other, calibration)]
    cells = model_cells("lexical", rows, essays)
    by_fold = []
    for fold in (0, 1):
        ours = [row for row in rows if row.fold == fold and row.essay_id.startswith("asap-3-")]
        human = [essays[row.essay_id].score for row in ours]
        by_fold.append(quadratic_weighted_kappa([row.grade for row in ours], human, get_prompt("asap-3").score_range))
    assert by_fold[0] - by_fold[1] > 0.3
    assert cells.qwk("asap-3") == pytest.approx(np.mean(by_fold))
    assert cells.mean_qwk() == pytest.approx(np.mean([cells.qwk("asap-1"), cells.qwk("asap-3")]))
    config = read_params("evaluate", EvaluateConfig)
    low, high = cells.interval(config)
    assert low < cells.mean_qwk() < high
    lines = benchmark_table([cells], rater_pairs(list(essays.values())), config)
    assert lines[0].split(" | ")[1:4] == ["asap-1", "asap-3", "mean"]
    assert lines[2].startswith("| two raters |")
    assert f" {cells.mean_qwk():.3f}".replace(" 0.", " .") in lines[3]
    assert trust_table(cells)[2].startswith("| asap-1 | 300 |")


def test_a_model_with_a_fold_missing_or_doubled_makes_no_table(scores, calibration, essays) -> None:
    rows = out_of_fold(0, 7, scores, calibration)
    tested = {row.essay_id: essays[row.essay_id] for row in rows}
    require_every_essay(model_cells("lstm", rows, tested), tested)
    with pytest.raises(StageFailed, match=r"lstm, seed 7: 10 of 600 essays have no score, 0 have several"):
        require_every_essay(model_cells("lstm", rows[10:], tested), tested)
    with pytest.raises(StageFailed, match="0 of 600 essays have no score, 600 have several"):
        require_every_essay(model_cells("lstm", [*rows, *out_of_fold(1, 7, scores, calibration)], tested), tested)


def test_deviation_is_over_seeds(scores, calibration, essays) -> None:
    rows = out_of_fold(0, 7, scores, calibration)
    assert np.isnan(model_cells("lstm", rows, essays).seed_deviation())
    other = dataclasses.replace(scores, raw_unit_scores=scores.raw_unit_scores[::-1].copy())
    both = model_cells("lstm", [*rows, *out_of_fold(0, 8, other, calibration)], essays)
    means = [model_cells("lstm", some, essays).mean_qwk() for some in (rows, out_of_fold(0, 8, other, calibration))]
    assert both.seeds == [7, 8]
    assert both.seed_deviation() == pytest.approx(np.std(means, ddof=1))
    assert both.mean_qwk() == pytest.approx(np.mean(means))


def test_an_essay_that_the_corpus_does_not_have_is_named() -> None:
    with pytest.raises(StageFailed, match="asap-1 is not in the corpus"):
        model_cells("lexical", ROWS, {})
