import csv
import json
import math
import sys
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest

from data.folds import FoldRow
from data.rows import Essay, Writer
from data.tables import AUDIT_FILE, ESSAYS_FILE, FOLDS_FILE, audit_table, essays_table, folds_table, write_table
from essays.calibration import write_calibration
from essays.errors import StageFailed
from essays.metrics import fisher_mean, quadratic_weighted_kappa, spread_ratio
from essays.params import read_params
from essays.prompts import get_prompt
from pipelines import evaluate as stage
from tests.training.simulation import ELLIPSE, joined, simulated_scores
from training.bars import missed_measures
from training.baselines import LENGTH_ONLY, MEAN_GRADE, baseline_scores, fourth_root_lengths, ridge_line
from training.calibrate import fit_calibration
from training.ensemble import fit_ensemble
from training.evaluate import Evaluator, human_agreement, rater_pairs, require_whole_parts
from training.evaluation_config import CalibrateConfig, EnsembleConfig, EvaluateConfig
from training.fold_scores import SCORES_FILE, calibration_file, fold_parts, scores_folder, write_fold_scores
from training.learning_curves import read_curve
from training.report import evaluation_page, table
from training.summary import metrics_tree, read_prompt_metrics, summarise, write_metrics

CALIBRATE = read_params("calibrate", CalibrateConfig)
EVALUATE = EvaluateConfig(num_resamples=200, interval_coverage=0.95)
EVALUATOR = Evaluator(EVALUATE, seed=7, raters={})


def results_of(scores, model="minilm", fold=0, evaluator=EVALUATOR):
    return evaluator.fold_results(model, fold, scores, fit_calibration(scores, CALIBRATE))


@pytest.fixture(scope="module")
def result():
    return results_of(simulated_scores(num_essays=1000))[0]


def test_numbers_are_of_test_essays_and_dev_stands_apart(result):
    scores = simulated_scores(num_essays=1000)
    calibration, score_range = fit_calibration(scores, CALIBRATE), get_prompt(ELLIPSE).score_range
    for part, found in (("test", result.qwk), ("dev", result.dev_qwk)):
        chosen = scores.select(part, ELLIPSE)
        grades = calibration.grades(get_prompt(ELLIPSE), chosen.raw_unit_scores).scores
        assert found == pytest.approx(quadratic_weighted_kappa(grades, chosen.human_scores, score_range))
    assert result.num_essays == 500
    assert result.qwk_interval[0] < result.qwk < result.qwk_interval[1]
    assert result.exact < result.adjacent <= 1
    assert result.spread == pytest.approx(spread_ratio(result.grades, result.human_scores))
    assert math.isnan(result.human_qwk)


def test_coverage_is_the_share_of_human_scores_between_the_answered_ends(result):
    scores = simulated_scores(num_essays=1000)
    calibration, test = fit_calibration(scores, CALIBRATE), scores.select("test", ELLIPSE)
    inside, widths = 0, 0.0
    for raw, human in zip(test.raw_unit_scores.tolist(), test.human_scores.tolist(), strict=True):
        low, high = calibration.grade(get_prompt(ELLIPSE), raw).interval
        inside += low <= human <= high
        widths += high - low
    assert result.coverage == pytest.approx(inside / len(test))
    assert result.interval_width == pytest.approx(widths / len(test))


def test_bands_divide_the_test_essays_and_their_coverage_is_the_whole_ones(result):
    assert sum(band.num_essays for band in result.bands) == result.num_essays
    assert [band.to_score for band in result.bands[:-1]] == [band.from_score for band in result.bands[1:]]
    assert (result.bands[0].from_score, result.bands[-1].to_score) == (1.0, 5.0)
    inside = sum(band.coverage * band.num_essays for band in result.bands)
    assert inside / result.num_essays == pytest.approx(result.coverage)
    assert 0.85 <= result.coverage <= 0.95


def test_the_same_seed_gives_the_same_interval_and_folds_draw_apart():
    scores = simulated_scores()
    first, second, other = (results_of(scores, fold=fold)[0] for fold in (0, 0, 1))
    assert first.qwk_interval == second.qwk_interval
    assert first.qwk == other.qwk
    assert not np.array_equal(first.qwk_draws, other.qwk_draws)


def test_a_prompt_without_test_essays_stops_the_stage():
    scores = simulated_scores(num_essays=200)
    with pytest.raises(StageFailed, match="minilm, fold 0: no test essay of ellipse-overall"):
        results_of(replace(scores, parts=np.full(200, "dev")))


def essay(essay_id, *, score=2.0, raters=(), text="a b c", prompt_id="asap-3"):
    return Essay(essay_id, "asap-aes", prompt_id, text, score, "task", raters)


def test_the_two_raters_agreement_is_measured_on_the_test_essays_alone():
    scores = simulated_scores("asap-3", num_essays=300)
    test_ids = scores.select("test", "asap-3").essay_ids.tolist()
    rng = np.random.default_rng(0)
    first = rng.integers(0, 4, 300)
    second = np.where(np.isin(scores.essay_ids, test_ids), np.clip(first + rng.integers(0, 2, 300), 0, 3), 3 - first)
    raters = {name: (float(a), float(b)) for name, a, b in zip(scores.essay_ids.tolist(), first, second, strict=True)}
    found = results_of(scores, evaluator=Evaluator(EVALUATE, 7, raters))[0].human_qwk
    on_test = np.isin(scores.essay_ids, test_ids)
    expected = quadratic_weighted_kappa(first[on_test], second[on_test], get_prompt("asap-3").score_range)
    assert found == pytest.approx(expected)


def test_rater_pairs_are_the_first_two_of_essays_that_have_two():
    pairs = rater_pairs([essay("a", raters=(1.0, 2.0, 3.0)), essay("b"), essay("c", raters=(1.0,))])
    assert pairs == {"a": (1.0, 2.0)}
    assert rater_pairs([essay("a", raters=(1.0, float("nan")))]) == {}


def test_raters_who_are_too_few_or_never_vary_have_no_agreement():
    assert math.isnan(human_agreement({"a": (1.0, 2.0)}, ["a"], 1.0))
    assert math.isnan(human_agreement({"a": (1.0, 1.0), "b": (1.0, 1.0)}, ["a", "b"], 1.0))
    assert human_agreement({"a": (10.0, 10.0), "b": (30.0, 30.0)}, ["a", "b", "c"], 1.0) == pytest.approx(1)


def test_scores_of_other_folds_or_of_too_few_essays_are_refused():
    scores = simulated_scores(num_essays=20)
    parts = dict(zip(scores.essay_ids.tolist(), scores.parts.tolist(), strict=True)) | {"trained-on": "train"}
    require_whole_parts("minilm, fold 0", scores, parts)
    with pytest.raises(StageFailed, match=r"minilm, fold 0: 20 scores, of which 1 are of no such .* 0 of 19"):
        require_whole_parts("minilm, fold 0", scores, parts | {f"{ELLIPSE}-3": "train"})
    with pytest.raises(StageFailed, match=r"0 are of no such dev or test essay, and 1 of 20 essays have none"):
        require_whole_parts("minilm, fold 0", scores.rows(np.arange(19)), parts)
    with pytest.raises(StageFailed, match="21 scores, of which 0"):
        require_whole_parts("minilm, fold 0", scores.rows(np.r_[0, np.arange(20)]), parts)


def test_ridge_line_is_least_squares_but_for_one_essays_worth_of_penalty():
    inputs = np.linspace(2, 5, 200)
    targets = 0.1 + 0.15 * inputs
    expected = 0.1 + 0.15 * np.array([2.0, 6.0])
    assert ridge_line(inputs, targets, np.array([2.0, 6.0])) == pytest.approx(expected, abs=0.004)
    assert ridge_line(np.zeros(5), np.array([0.1, 0.2, 0.3, 0.4, 0.5]), np.zeros(2)).tolist() == [0.3, 0.3]


def essays_of_length(num_essays=600, prompt_id=ELLIPSE, seed=0):
    """Essays whose score follows their length, with noise, and their parts of one fold."""
    rng = np.random.default_rng(seed)
    num_words = rng.integers(60, 700, num_essays)
    score_range = get_prompt(prompt_id).score_range
    unit = (num_words**0.25 - 2.7) / 2.4 + rng.normal(0, 0.1, num_essays)
    scores = score_range.round(score_range.from_unit(unit)).tolist()
    corpus = get_prompt(prompt_id).corpus
    essays = [
        Essay(f"{prompt_id}-{index}", corpus, prompt_id, "word " * int(length), score, "task", raters_of(score, corpus))
        for index, (length, score) in enumerate(zip(num_words, scores, strict=True))
    ]
    parts = rng.choice(["train", "train", "dev", "test"], num_essays).tolist()
    return essays, {each.essay_id: part for each, part in zip(essays, parts, strict=True)}


def raters_of(score, corpus):
    return () if corpus == "ellipse" else (score, max(score - 1, 0.0) if int(score) % 3 == 1 else score)


def test_length_only_learns_lengths_from_train_essays_and_mean_grade_learns_nothing():
    essays, parts = essays_of_length()
    baselines = baseline_scores(essays, fourth_root_lengths(essays), parts)
    length, mean = (results_of(baselines[name], name)[0] for name in (LENGTH_ONLY, MEAN_GRADE))
    assert length.qwk > 0.6
    assert mean.qwk == pytest.approx(0, abs=1e-12)
    assert len(set(mean.grades)) == 1
    assert set(baselines[LENGTH_ONLY].parts) == {"dev", "test"}
    upside_down = [replace(each, score=6 - each.score) if parts[each.essay_id] != "train" else each for each in essays]
    again = baseline_scores(upside_down, fourth_root_lengths(essays), parts)[LENGTH_ONLY]
    assert np.array_equal(again.raw_unit_scores, baselines[LENGTH_ONLY].raw_unit_scores)


def test_a_fold_without_train_essays_stops_the_stage():
    essays, parts = essays_of_length(20)
    with pytest.raises(StageFailed, match="ellipse-overall: no train essay"):
        baseline_scores(essays, fourth_root_lengths(essays), dict.fromkeys(parts, "test"))


@pytest.fixture(scope="module")
def summaries():
    """Two models on three prompts of two corpora, two folds each."""
    found = []
    for model, noise in (("minilm", 0.05), ("lexical", 0.2)):
        for fold in (0, 1):
            scores = joined(
                *(
                    simulated_scores(prompt_id, 400, noise=noise, seed=10 * fold)
                    for prompt_id in (ELLIPSE, "asap-1", "asap-3")
                )
            )
            found += results_of(scores, model, fold)
    return summarise(found)


def test_means_are_over_folds_and_then_over_prompts_of_a_corpus(summaries):
    assert [(each.model, each.corpus) for each in summaries] == [
        ("minilm", "asap-aes"),
        ("minilm", "ellipse"),
        ("lexical", "asap-aes"),
        ("lexical", "ellipse"),
    ]
    asap = summaries[0]
    by_prompt = [np.mean([result.qwk for result in prompt.results]) for prompt in asap.prompts]
    assert [prompt.prompt_id for prompt in asap.prompts] == ["asap-1", "asap-3"]
    assert asap.mean("qwk") == pytest.approx(np.mean(by_prompt))
    assert asap.fisher_qwk() == pytest.approx(fisher_mean(by_prompt))
    assert asap.prompts[0].num_essays == 400


def test_a_mean_is_surer_than_its_parts(summaries):
    asap = summaries[0]
    widths = [np.diff(result.qwk_interval)[0] for prompt in asap.prompts for result in prompt.results]
    (mean_width,) = np.diff(asap.qwk_interval(0.95))
    assert mean_width == pytest.approx(np.sqrt(np.square(widths).sum()) / 4, rel=0.2)
    low, high = asap.qwk_interval(0.95)
    assert low < asap.mean("qwk") < high


def test_metrics_are_rounded_hold_no_nan_and_are_what_packaging_reads(summaries, tmp_path):
    tree = metrics_tree(summaries, 0.95)
    write_metrics(tree, tmp_path / "metrics.json")
    text = (tmp_path / "metrics.json").read_text(encoding="utf-8")
    assert json.loads(text) == tree
    assert "NaN" not in text
    of_prompt = tree["minilm"]["prompts"]["asap-1"]
    assert "human_qwk" not in of_prompt
    assert all(value == round(value, 4) for name, value in of_prompt.items() if name != "folds")
    (first, *_), asap = read_prompt_metrics("minilm", 1, tmp_path / "metrics.json"), summaries[0]
    assert first.prompt_id == "asap-1"
    assert first.num_essays == 200
    assert first.qwk == round(asap.prompts[0].results[1].qwk, 4)
    assert first.qwk_interval == tuple(round(end, 4) for end in asap.prompts[0].results[1].qwk_interval)
    assert first.human_qwk is None


def test_metrics_of_a_model_that_was_not_evaluated_are_asked_for_in_words(summaries, tmp_path):
    path = tmp_path / "metrics.json"
    with pytest.raises(StageFailed, match="no such file; run `dvc repro evaluate`"):
        read_prompt_metrics("minilm", 0, path)
    write_metrics(metrics_tree(summaries, 0.95), path)
    with pytest.raises(StageFailed, match="nothing on smollm, fold 0: no 'smollm'"):
        read_prompt_metrics("smollm", 0, path)
    with pytest.raises(StageFailed, match="nothing on minilm, fold 4: no '4'"):
        read_prompt_metrics("minilm", 4, path)


def test_bars_that_are_missed_are_named_and_others_not():
    good = summarise(results_of(simulated_scores("asap-3", 2000, noise=0.02, spread=0.3)))[0].prompts[0]
    assert missed_measures(good) <= {"coverage"}  # grades of four levels may cover more than promised
    poor_scores = simulated_scores("asap-3", 2000, noise=2.0, spread=0.3)
    poor = summarise(results_of(poor_scores))[0].prompts[0]
    assert {"qwk", "adjacent"} <= missed_measures(poor)
    shifted = replace(good.results[0], mean_difference=-0.2, spread=0.8, qwk=0.72, human_qwk=0.83)
    assert {"smd", "sd_ratio", "qwk"} <= missed_measures(replace(good, results=(shifted,)))
    long_scale = replace(poor.results[0], prompt=get_prompt("asap-8"))
    assert "adjacent" not in missed_measures(replace(poor, results=(long_scale,)))


def test_tables_are_markdown_with_a_cell_for_each_column():
    assert table(["a", "b"], [["1", "2"]]) == ["| a | b |", "| :-- | --: |", "| 1 | 2 |"]


def test_the_page_shows_every_model_prompt_and_plot(summaries):
    page = evaluation_page(summaries, 0.95, [("QWK", "plots/qwk.svg")])
    for words in ("minilm", "lexical", "asap-1", "asap-3", ELLIPSE, "![QWK](plots/qwk.svg)", "folds 0, 1"):
        assert words in page
    tables = [line for line in page.splitlines() if line.startswith("|")]
    header = next(line for line in tables if "asap-1" in line)
    assert header == "|  | asap-1 | asap-3 | mean | Fisher-z mean | dev mean |"
    assert all(line.count("|") == header.count("|") for line in tables[:4])
    qwk = summaries[0].prompts[0].mean("qwk")
    assert f"{qwk:.3f}".removeprefix("0") in page
    assert "nan" not in page


def write_checkout(folder, models=("lexical", "minilm")):
    """A small project after its ensemble stage: params.yaml, tables, scores, histories and calibrations."""
    evaluate, ensemble = EVALUATE.model_dump_json(), EnsembleConfig(prior_essays=20.0)
    (folder / "params.yaml").write_text(
        f"seed: 7\nmodels: [{', '.join(models)}]\nfolds: [0]\ncalibrate: {CALIBRATE.model_dump_json()}\n"
        f"ensemble: {ensemble.model_dump_json()}\nevaluate: {evaluate}\ntracking: {{experiment: fairmark}}\n"
        "split: {num_folds: 5, seed: 7}\n",
        encoding="utf-8",
    )
    essays, parts = [], {}
    for prompt_id in (ELLIPSE, "asap-3"):
        ours, theirs = essays_of_length(400, prompt_id)
        essays, parts = [*essays, *ours], parts | theirs
    write_table(essays_table(essays), folder / ESSAYS_FILE)
    write_table(folds_table([FoldRow(name, 0, part) for name, part in parts.items()]), folder / FOLDS_FILE)
    writers = [Writer(each.essay_id, "Female", None, None, None) for each in essays if each.corpus == "ellipse"]
    write_table(audit_table(writers), folder / AUDIT_FILE)
    lengths = fourth_root_lengths(essays)
    base = baseline_scores(essays, lengths, parts)[LENGTH_ONLY]
    members, calibrations = {}, {}
    for index, model in enumerate(models):
        noise = np.random.default_rng(index).normal(0, 0.03, len(base))
        members[model] = replace(base, raw_unit_scores=0.8 * base.raw_unit_scores + noise)
        calibrations[model] = fit_calibration(members[model], CALIBRATE)
        rows = [{"epoch": e, "loss": 1 / e, "dev_qwk": 0.1 * e, "learning_rate": 0.001, "extra": 1} for e in (1, 2)]
        scores_folder(model, 0).mkdir(parents=True)
        (scores_folder(model, 0) / "history.json").write_text(json.dumps(rows), encoding="utf-8")
    _, members["ensemble"] = fit_ensemble(members, calibrations, ensemble)
    calibrations["ensemble"] = fit_calibration(members["ensemble"], CALIBRATE)
    for model in members:
        write_fold_scores(members[model], scores_folder(model, 0) / SCORES_FILE)
        write_calibration(calibrations[model], calibration_file(model, 0))


@contextmanager
def stage_in(folder):
    """What the evaluate stage needs, to run in a checkout."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.setattr(sys, "argv", ["evaluate"])
        yield


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """The reports of a small project, made twice: the folder, and every file's bytes after the first time.

    The second time no MLflow answers: a stage's result does not depend on it.
    """
    checkout = tmp_path_factory.mktemp("checkout")
    with stage_in(checkout):
        write_checkout(checkout)
        stage.main()
        first = {path: path.read_bytes() for path in (checkout / "reports").rglob("*") if path.is_file()}
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
            stage.main()
    return checkout / "reports", first


@pytest.mark.slow
def test_stage_writes_every_report(reports):
    folder, files = reports
    assert sorted(path.relative_to(folder).as_posix() for path in files) == [
        "evaluation.md",
        "metrics.json",
        "plots/confusion.csv",
        "plots/confusion_ensemble.svg",
        "plots/confusion_lexical.svg",
        "plots/confusion_minilm.svg",
        "plots/interval_bands.csv",
        "plots/learning_curve.csv",
        "plots/learning_curves.svg",
        "plots/predicted_vs_human.csv",
        "plots/predicted_vs_human_ensemble.svg",
        "plots/predicted_vs_human_lexical.svg",
        "plots/predicted_vs_human_minilm.svg",
        "plots/qwk.svg",
        "validity.html",
        "validity.json",
    ]
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    assert list(metrics) == ["lexical", "minilm", "ensemble", LENGTH_ONLY, MEAN_GRADE]
    assert metrics["lexical"]["prompts"]["asap-3"]["human_qwk"] > 0.5
    validity = json.loads((folder / "validity.json").read_text(encoding="utf-8"))
    assert list(validity["corpora"]["ellipse"]) == ["ensemble", "lexical", "minilm"]
    (group,) = validity["corpora"]["ellipse"]["ensemble"]["prompts"][ELLIPSE]["group_smd"]["gender"].values()
    assert group["num_essays"] == metrics["ensemble"]["prompts"][ELLIPSE]["num_essays"]
    page = (folder / "evaluation.md").read_text(encoding="utf-8")
    for link in ("plots/qwk.svg", "plots/confusion_ensemble.svg"):
        assert f"]({link})" in page


@pytest.mark.slow
def test_stage_writes_the_same_bytes_again_and_without_mlflow(reports):
    _, first = reports
    assert {path: path.read_bytes() for path in first} == first


@pytest.mark.slow
def test_reports_hold_no_essay_text_and_no_essay_ids(reports):
    for path in reports[1]:
        content = path.read_text(encoding="utf-8")
        assert "word word" not in content
        assert f"{ELLIPSE}-1" not in content


@pytest.mark.slow
def test_plot_tables_are_sorted_by_their_numbers(reports):
    folder, _ = reports
    with (folder / "plots/predicted_vs_human.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["model", "prompt_id", "fold", "human_score", "predicted_score"]
    own = [
        (float(row["human_score"]), float(row["predicted_score"]))
        for row in rows
        if row["model"] == "minilm" and row["prompt_id"] == ELLIPSE
    ]
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    assert own == sorted(own)
    assert len(own) == metrics["minilm"]["prompts"][ELLIPSE]["num_essays"]


def test_stage_refuses_scores_of_other_folds(tmp_path):
    with stage_in(tmp_path):
        write_checkout(tmp_path)
        essays, _ = essays_of_length(400)
        write_table(folds_table([FoldRow(each.essay_id, 0, "test") for each in essays]), FOLDS_FILE)
        with pytest.raises(StageFailed, match=r"lexical, fold 0: .* train it again on these folds"):
            stage.main()


def test_parts_of_a_fold_that_is_not_there_are_asked_for_in_words():
    rows = folds_table([FoldRow("a", 0, "test"), FoldRow("a", 1, "dev")])
    assert fold_parts(rows, 1) == {"a": "dev"}
    with pytest.raises(StageFailed, match=r"folds\.parquet has no fold 3; known: 0, 1"):
        fold_parts(rows, 3)


def test_a_learning_curve_that_is_missing_or_lacks_a_column_stops_the_stage(tmp_path):
    path = tmp_path / "history.json"
    with pytest.raises(StageFailed, match="no such file; train minilm, fold 2"):
        read_curve("minilm", 2, path)
    path.write_text('[{"epoch": 1, "loss": 0.5}]', encoding="utf-8")
    with pytest.raises(StageFailed, match="an epoch without dev_qwk, learning_rate"):
        read_curve("minilm", 2, path)
