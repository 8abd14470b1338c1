import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

from essays.calibration import read_calibration, write_calibration
from essays.ensemble import WEIGHTS_FILE, mix_unit_scores, read_weights
from essays.errors import StageFailed
from essays.metrics import quadratic_weighted_kappa
from essays.params import read_params
from essays.prompts import get_prompt
from pipelines import ensemble as stage
from tests.training.simulation import ELLIPSE, joined, simulated_scores
from training.calibrate import fit_calibration
from training.ensemble import fit_ensemble, fit_weights
from training.evaluation_config import CalibrateConfig, EnsembleConfig
from training.fold_scores import SCORES_FILE, calibration_file, read_fold_scores, scores_folder, write_fold_scores

CALIBRATE = read_params("calibrate", CalibrateConfig)
CONFIG = read_params("ensemble", EnsembleConfig)
EQUAL = np.full(3, 1 / 3)


def members_of(noises, num_essays=1200, seed=0, prompt_id=ELLIPSE):
    scores = {
        name: simulated_scores(prompt_id, num_essays, noise=noise, seed=seed, model=index)
        for index, (name, noise) in enumerate(noises.items())
    }
    return scores, {name: fit_calibration(each, CALIBRATE) for name, each in scores.items()}


def test_weights_are_those_of_a_general_solver():
    rng = np.random.default_rng(3)
    human = rng.uniform(0, 1, 200)
    scores = {name: human + rng.normal(0, noise, 200) for name, noise in (("a", 0.1), ("b", 0.15), ("c", 0.4))}
    columns = np.stack(list(scores.values()), axis=1)
    found = minimize(
        lambda weights: 100 * np.square(columns @ weights - human).mean(),
        np.full(3, 1 / 3),
        bounds=[(0, 1)] * 3,
        constraints={"type": "eq", "fun": lambda weights: weights.sum() - 1},
        options={"ftol": 1e-14},
    )
    assert fit_weights(columns, human, EQUAL, 0.0) == pytest.approx(found.x, abs=1e-4)


@given(
    st.lists(st.lists(st.floats(0, 1), min_size=3, max_size=3), min_size=1, max_size=25),
    st.floats(0, 100),
    st.integers(0, 5),
)
def test_weights_are_shares_whatever_the_scores(rows, prior_essays, seed):
    columns = np.array(rows)
    human = np.random.default_rng(seed).uniform(0, 1, len(rows))
    weights = fit_weights(columns, human, EQUAL, prior_essays)
    assert weights.min() >= 0
    assert weights.sum() == pytest.approx(1, abs=1e-9)


def test_a_prompt_with_few_essays_gets_the_weights_that_suit_the_others():
    many, _ = members_of({"good": 0.05, "noise": 0.5}, prompt_id="asap-7")
    few, _ = members_of({"good": 0.4, "noise": 0.4}, num_essays=40, prompt_id="asap-3")
    scores = {name: joined(many[name], few[name]) for name in many}
    calibrations = {name: fit_calibration(each, CALIBRATE) for name, each in scores.items()}
    weights, _ = fit_ensemble(scores, calibrations, CONFIG)
    assert weights.of("asap-3") == pytest.approx(weights.of("asap-7"), abs=0.15)
    alone, _ = fit_ensemble(few, {name: calibrations[name] for name in few}, CONFIG)
    assert alone.of("asap-3") == pytest.approx({"good": 0.5, "noise": 0.5}, abs=0.1)


def test_the_better_member_counts_more_and_one_that_is_noise_next_to_nothing():
    scores, calibrations = members_of({"good": 0.05, "fair": 0.12, "noise": 3.0})
    weights, _ = fit_ensemble(scores, calibrations, CONFIG)
    of_prompt = weights.of(ELLIPSE)
    assert of_prompt["good"] > of_prompt["fair"] > of_prompt["noise"]
    # Not quite 0: calibrated members are spread wider than least squares likes, and a little noise pulls them in.
    assert of_prompt["noise"] < 0.05


def test_members_that_are_the_same_get_the_same_weight_and_a_strong_pull_makes_all_equal():
    scores, calibrations = members_of({"a": 0.1})
    twice = fit_ensemble(dict.fromkeys("ab", scores["a"]), dict.fromkeys("ab", calibrations["a"]), CONFIG)[0]
    assert twice.of(ELLIPSE) == pytest.approx({"a": 0.5, "b": 0.5}, abs=1e-6)
    scores, calibrations = members_of({"good": 0.05, "noise": 0.5})
    pulled = fit_ensemble(scores, calibrations, EnsembleConfig(prior_essays=1e6))[0]
    assert pulled.of(ELLIPSE) == pytest.approx({"good": 0.5, "noise": 0.5}, abs=0.01)


def test_an_ensemble_of_members_that_err_differently_beats_each_on_test_essays():
    prompt = get_prompt(ELLIPSE)

    def test_qwk(scores, calibration):
        test = scores.select("test", ELLIPSE)
        return quadratic_weighted_kappa(
            calibration.grades(prompt, test.raw_unit_scores).scores, test.human_scores, prompt.score_range
        )

    gains = []
    for seed in range(5):
        scores, calibrations = members_of({"a": 0.12, "b": 0.13, "c": 0.14}, seed=seed)
        _, mixed = fit_ensemble(scores, calibrations, CONFIG)
        best = max(test_qwk(scores[name], calibrations[name]) for name in scores)
        gains.append(test_qwk(mixed, fit_calibration(mixed, CALIBRATE)) - best)
    assert np.mean(gains) > 0.03
    assert min(gains) > 0


def test_mixed_scores_are_the_members_calibrated_scores_by_their_weights_essay_by_essay():
    scores, calibrations = members_of({"a": 0.1, "b": 0.2}, num_essays=300)
    shuffled = scores["b"].rows(np.random.default_rng(0).permutation(300))  # another order in another file
    weights, mixed = fit_ensemble({"a": scores["a"], "b": shuffled}, calibrations, CONFIG)
    by_id = {name: dict(zip(s.essay_ids, s.raw_unit_scores, strict=True)) for name, s in scores.items()}
    for essay_id, found in list(zip(mixed.essay_ids, mixed.raw_unit_scores, strict=True))[:20]:
        units = {name: calibrations[name].unit_scores(ELLIPSE, by_id[name][essay_id]) for name in scores}
        assert found == pytest.approx(float(mix_unit_scores(weights.of(ELLIPSE), units)))
    human = dict(zip(scores["a"].essay_ids, scores["a"].human_scores, strict=True))
    assert [human[essay_id] for essay_id in mixed.essay_ids] == mixed.human_scores.tolist()


def test_weights_do_not_look_at_test_essays():
    scores, calibrations = members_of({"a": 0.1, "b": 0.2})
    on_test = scores["a"].parts == "test"
    spoilt = replace(scores["a"], raw_unit_scores=np.where(on_test, 0.0, scores["a"].raw_unit_scores))
    assert (
        fit_ensemble({**scores, "a": spoilt}, calibrations, CONFIG)[0] == fit_ensemble(scores, calibrations, CONFIG)[0]
    )


def test_members_of_other_essays_or_parts_stop_the_stage():
    scores, calibrations = members_of({"a": 0.1, "b": 0.1}, num_essays=100)
    fewer = scores["b"].rows(np.arange(99))
    swapped = replace(scores["b"], parts=scores["b"].parts[::-1])
    for wrong, count in ((fewer, 99), (swapped, 100)):
        with pytest.raises(StageFailed, match=rf"a \(100 essays\) and b \({count}\) did not score the same essays"):
            fit_ensemble({"a": scores["a"], "b": wrong}, calibrations, CONFIG)


def test_stage_writes_weights_scores_and_calibration_and_the_same_bytes_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text(
        f"models: [lexical, minilm]\nfolds: [1]\ncalibrate: {CALIBRATE.model_dump_json()}\n"
        f"ensemble: {CONFIG.model_dump_json()}\n",
        encoding="utf-8",
    )
    for index, model in enumerate(["lexical", "minilm"]):
        scores = joined(simulated_scores(model=index), simulated_scores("asap-3", model=index, seed=1))
        write_fold_scores(scores, scores_folder(model, 1) / SCORES_FILE)
        write_calibration(fit_calibration(scores, CALIBRATE), calibration_file(model, 1))
    monkeypatch.setattr(sys, "argv", ["ensemble"])
    stage.main()
    folder = scores_folder("ensemble", 1)
    written = [folder / WEIGHTS_FILE, folder / SCORES_FILE, calibration_file("ensemble", 1)]
    first = [path.read_bytes() for path in written]
    stage.main()
    assert [path.read_bytes() for path in written] == first
    mixed = read_fold_scores(folder / SCORES_FILE)
    assert len(mixed) == 1200
    assert read_calibration(written[2]) == fit_calibration(mixed, CALIBRATE)
    assert {part.prompt_id for part in read_weights(written[0]).prompts} == {"asap-3", ELLIPSE}
