import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from essays.calibration import Calibration, read_calibration
from essays.errors import StageFailed
from essays.metrics import quadratic_weighted_kappa
from essays.params import read_params
from essays.prompts import get_prompt
from pipelines import calibrate as stage
from tests.training.simulation import ELLIPSE, joined, simulated_scores
from training.calibrate import conformal_quantile, fit_bands, fit_calibration, fit_prompt, merged_ends
from training.evaluation_config import CalibrateConfig
from training.fold_scores import SCORES_FILE, read_fold_scores, write_fold_scores

CONFIG = read_params("calibrate", CalibrateConfig)
PROMPT = get_prompt(ELLIPSE)


def with_changes(**changes):
    return CalibrateConfig(**{**CONFIG.model_dump(), **changes})


def fitted(scores, config=CONFIG):
    return fit_prompt(get_prompt(scores.prompts()[0]), scores.select("dev", scores.prompts()[0]), config)


@pytest.mark.parametrize("shrinkage", [0.4, 0.7, 1.0, 1.5])
def test_stretch_undoes_the_shrinkage(shrinkage):
    stretches = [fitted(simulated_scores(num_essays=1000, shrinkage=shrinkage, seed=seed)).stretch for seed in range(6)]
    # A noisy model's spread is wider than its share of the truth, so the way back is a little shorter than 1/shrinkage.
    assert np.mean(stretches) == pytest.approx(1 / shrinkage, rel=0.12)
    assert np.std(stretches) < 0.06 / shrinkage


@pytest.mark.parametrize("prompt_id", [ELLIPSE, "asap-3", "asap-8"])
def test_stretch_raises_qwk_on_essays_it_never_saw(prompt_id):
    gains = []
    for seed in range(5):
        scores = simulated_scores(prompt_id, shrinkage=0.5, offset=0.1, seed=seed)
        calibration, prompt = fit_calibration(scores, CONFIG), get_prompt(prompt_id)
        test = scores.select("test", prompt_id)
        before = prompt.score_range.round(prompt.score_range.from_unit(test.raw_unit_scores))
        after = calibration.grades(prompt, test.raw_unit_scores).scores
        gains.append(
            quadratic_weighted_kappa(after, test.human_scores, prompt.score_range)
            - quadratic_weighted_kappa(before, test.human_scores, prompt.score_range)
        )
    assert min(gains) > 0.05


def test_grades_have_the_humans_mean_and_spread():
    scores = simulated_scores(num_essays=2000, shrinkage=0.5, offset=-0.2)
    test = scores.select("test", ELLIPSE)
    grades = fit_calibration(scores, CONFIG).grades(PROMPT, test.raw_unit_scores).scores
    assert grades.mean() == pytest.approx(test.human_scores.mean(), abs=0.05)
    assert grades.std() == pytest.approx(test.human_scores.std(), rel=0.1)


@pytest.mark.parametrize("prompt_id", [ELLIPSE, "asap-3", "asap-8"])
def test_stretched_dev_scores_have_the_spread_that_is_asked_for(prompt_id):
    scores = simulated_scores(prompt_id, num_essays=2 * CONFIG.min_essays, shrinkage=0.6)
    dev = scores.select("dev", prompt_id)
    human = get_prompt(prompt_id).score_range.to_unit(dev.human_scores)
    assert fitted(scores).stretch * dev.raw_unit_scores.std() == pytest.approx(CONFIG.spread * human.std())
    few = simulated_scores(prompt_id, num_essays=2 * (CONFIG.min_essays - 1), shrinkage=0.6)
    dev = few.select("dev", prompt_id)
    human = get_prompt(prompt_id).score_range.to_unit(dev.human_scores)
    assert fitted(few).stretch * dev.raw_unit_scores.std() == pytest.approx(CONFIG.cautious_spread * human.std())


def test_a_model_that_says_the_same_of_everybody_is_left_unstretched():
    scores = simulated_scores()
    constant = replace(scores, raw_unit_scores=np.full(len(scores), 0.3))
    part = fitted(constant)
    assert part.stretch == 1.0
    assert part.centre + part.offset == pytest.approx(
        PROMPT.score_range.to_unit(scores.select("dev", ELLIPSE).human_scores).mean()
    )


def test_a_model_that_hardly_differs_between_essays_is_not_blown_up():
    part = fitted(simulated_scores(num_essays=1000, shrinkage=0.01))
    assert part.stretch == CONFIG.largest_stretch


def test_test_essays_do_not_matter_to_a_calibration():
    scores = simulated_scores()
    spoilt = replace(scores, raw_unit_scores=np.where(scores.parts == "test", 9.0, scores.raw_unit_scores))
    assert fit_calibration(spoilt, CONFIG) == fit_calibration(scores, CONFIG)


def test_the_order_of_essays_does_not_matter():
    scores = simulated_scores()
    shuffled = scores.rows(np.random.default_rng(0).permutation(len(scores)))
    ours, theirs = (fit_calibration(each, CONFIG).prompts[0] for each in (scores, shuffled))
    assert ours.stretch == pytest.approx(theirs.stretch, rel=1e-12)
    assert [band.half_width for band in ours.bands] == pytest.approx([band.half_width for band in theirs.bands])


def test_a_prompt_without_dev_essays_stops_the_stage():
    scores = simulated_scores()
    with pytest.raises(StageFailed, match="ellipse-overall: no dev essay to calibrate on"):
        fit_calibration(replace(scores, parts=np.full(len(scores), "test")), CONFIG)


def coverage_of(scores, calibration: Calibration, prompt_id):
    test, prompt = scores.select("test", prompt_id), get_prompt(prompt_id)
    grades = calibration.grades(prompt, test.raw_unit_scores)
    return (grades.lows <= test.human_scores) & (test.human_scores <= grades.highs), grades.bands


@pytest.mark.parametrize("prompt_id", [ELLIPSE, "asap-7", "asap-8"])
def test_intervals_hold_nine_of_ten_human_scores_overall_and_in_each_band(prompt_id):
    covered, bands = [], []
    for seed in range(12):
        scores = simulated_scores(prompt_id, num_essays=1600, shrinkage=0.5, noise=0.12, seed=seed)
        inside, of_band = coverage_of(scores, fit_calibration(scores, CONFIG), prompt_id)
        covered.append(inside)
        bands.append(of_band)
    assert 0.88 <= np.concatenate(covered).mean() <= 0.92
    inner = [np.concatenate([c[b == index] for c, b in zip(covered, bands, strict=True)]) for index in range(3)]
    for of_band in inner:
        assert 0.87 <= of_band.mean() <= 0.93


def test_wider_coverage_gives_wider_intervals():
    scores = simulated_scores(noise=0.15)
    widths = [
        [band.half_width for band in fitted(scores, with_changes(coverage=coverage)).bands]
        for coverage in (0.5, 0.9, 0.99)
    ]
    assert all(low < middle < high for low, middle, high in zip(*widths, strict=True))


def test_a_band_where_the_model_errs_more_gets_a_wider_interval():
    rng = np.random.default_rng(0)
    unit_scores = rng.uniform(0, 1, 2000)
    human = unit_scores + rng.normal(0, np.where(unit_scores > 0.5, 0.2, 0.05))
    bands = fit_bands(unit_scores, human, with_changes(num_bands=2))
    assert [band.up_to for band in bands] == [0.5, 1.0]
    assert bands[0].half_width == pytest.approx(1.645 * 0.05, rel=0.1)
    assert bands[1].half_width == pytest.approx(1.645 * 0.2, rel=0.1)


def test_small_bands_join_their_smaller_neighbour_until_all_are_large():
    # 5, 40, 3 and 50 essays in quarters: the third joins the second, then the first joins what that became.
    unit_scores = np.repeat([0.1, 0.3, 0.6, 0.9], [5, 40, 3, 50])
    ends = np.array([0.25, 0.5, 0.75, 1.0])
    assert merged_ends(unit_scores, ends, 10).tolist() == [0.75, 1.0]
    assert merged_ends(unit_scores, ends, 4).tolist() == [0.25, 0.75, 1.0]
    assert merged_ends(unit_scores, ends, 1000).tolist() == [1.0]


@given(st.lists(st.floats(0, 1), max_size=80), st.integers(1, 30), st.integers(1, 6))
def test_merged_bands_are_all_large_unless_there_is_but_one(unit_scores, min_essays, num_bands):
    scores = np.array(unit_scores)
    ends = merged_ends(scores, np.linspace(0, 1, num_bands + 1)[1:], min_essays)
    counts = np.bincount(np.searchsorted(ends[:-1], scores, side="left"), minlength=len(ends))
    assert ends[-1] == 1.0
    assert counts.sum() == len(scores)
    assert len(ends) == 1 or counts.min() >= min_essays


def test_conformal_quantile_counts_the_essay_to_come():
    residuals = np.arange(1, 20) / 100  # nineteen: the (19 + 1) * 0.9 = 18th
    assert conformal_quantile(residuals, 0.9) == pytest.approx(0.18)
    assert conformal_quantile(residuals[:9], 0.9) == pytest.approx(0.09)  # nine: the ninth, exactly
    assert conformal_quantile(residuals[:8], 0.9) == 1.0  # eight cannot promise nine of ten
    assert conformal_quantile(np.arange(1, 100) / 1000, 0.07) == pytest.approx(0.007)  # not the eighth


def test_conformal_quantile_covers_the_next_residual_as_promised():
    rng = np.random.default_rng(4)
    draws = np.abs(rng.normal(size=(20_000, 31)))
    quantiles = np.array([conformal_quantile(row[:-1], 0.9) for row in draws])
    assert (draws[:, -1] <= quantiles).mean() == pytest.approx(28 / 31, abs=0.008)  # ceil(31 * 0.9) of 31


def test_stage_writes_a_calibration_for_every_fold_and_the_same_bytes_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    params = f"folds: [0, 2]\ncalibrate: {CONFIG.model_dump_json()}\n"
    (tmp_path / "params.yaml").write_text(params, encoding="utf-8")
    scores = joined(simulated_scores(), simulated_scores("asap-3", seed=1))
    for fold in (0, 2):
        write_fold_scores(scores, tmp_path / f"out/scores/lexical/fold-{fold}" / SCORES_FILE)
    monkeypatch.setattr(sys, "argv", ["calibrate", "--model", "lexical"])
    stage.main()
    written = [tmp_path / f"out/calibration/lexical/fold-{fold}.json" for fold in (0, 2)]
    first = [path.read_bytes() for path in written]
    stage.main()
    assert [path.read_bytes() for path in written] == first
    assert read_calibration(written[1]) == fit_calibration(scores, CONFIG)
    assert [part.prompt_id for part in read_calibration(written[0]).prompts] == ["asap-3", ELLIPSE]


def test_scores_are_read_as_they_were_written(tmp_path):
    scores = joined(simulated_scores(num_essays=20), simulated_scores("asap-1", num_essays=10))
    write_fold_scores(scores, tmp_path / SCORES_FILE)
    found = read_fold_scores(tmp_path / SCORES_FILE)
    for name in FIELDS:
        assert np.array_equal(getattr(found, name), getattr(scores, name))


FIELDS = ("essay_ids", "prompt_ids", "parts", "human_scores", "raw_unit_scores")


def test_scores_that_are_missing_or_no_numbers_stop_the_stage(tmp_path):
    with pytest.raises(StageFailed, match="no such file"):
        read_fold_scores(tmp_path / SCORES_FILE)
    scores = simulated_scores(num_essays=4)
    write_fold_scores(replace(scores, raw_unit_scores=np.array([0.1, np.nan, 0.2, np.inf])), tmp_path / SCORES_FILE)
    with pytest.raises(StageFailed, match="2 of 4 scores are no number; train the model again"):
        read_fold_scores(tmp_path / SCORES_FILE)
    write_fold_scores(replace(scores, parts=np.array(["dev", "train", "test", "dev"])), tmp_path / SCORES_FILE)
    with pytest.raises(StageFailed, match="parts are dev and test, found train"):
        read_fold_scores(tmp_path / SCORES_FILE)
