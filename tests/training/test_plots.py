import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from essays.metrics import confusion_matrix
from essays.params import read_params
from essays.prompts import get_prompt
from tests.training.simulation import ELLIPSE, joined, simulated_scores
from training.baselines import LENGTH_ONLY, MEAN_GRADE
from training.calibrate import fit_calibration
from training.evaluate import Evaluator
from training.evaluation_config import CalibrateConfig, EvaluateConfig
from training.learning_curves import LearningCurve
from training.plot_tables import curve_rows, grade_rows, predicted_rows
from training.plots import confusion_figure, learning_figure, predicted_figure, qwk_figure, save_figure
from training.summary import summarise

CALIBRATE = read_params("calibrate", CalibrateConfig)


def evaluated(model, noise=0.1, raters=None, fold=0):
    scores = joined(simulated_scores(noise=noise), simulated_scores("asap-3", noise=noise))
    evaluator = Evaluator(EvaluateConfig(num_resamples=100, interval_coverage=0.95), 7, raters or {})
    return evaluator.fold_results(model, fold, scores, fit_calibration(scores, CALIBRATE))


@pytest.fixture(scope="module")
def results():
    return evaluated("minilm")


@pytest.fixture(scope="module")
def curves():
    rows = tuple(
        {"epoch": epoch, "loss": 1 / epoch, "dev_qwk": 0.6 + epoch / 100, "learning_rate": 1e-4} for epoch in (1, 2, 3)
    )
    return [LearningCurve("minilm", 0, rows), LearningCurve("minilm", 1, rows), LearningCurve("lexical", 0, rows[:1])]


def panels(figure):
    return {axes.get_title(): axes for axes in figure.axes if axes.get_title()}


def test_confusion_plot_shows_the_counts_of_each_prompt_over_all_folds(results):
    both = [*results, *evaluated("minilm", noise=0.3, fold=1)]
    axes = panels(confusion_figure(both))["asap-3"]
    own = [result for result in both if result.prompt.prompt_id == "asap-3"]
    counts = sum(confusion_matrix(each.human_scores, each.grades, get_prompt("asap-3").score_range) for each in own)
    assert np.array_equal(axes.images[0].get_array(), counts)
    assert sorted(int(text.get_text()) for text in axes.texts) == sorted(counts[counts > 0].tolist())
    assert axes.get_ylabel() == "human score"


def test_confusion_of_sixty_grades_has_colours_but_no_numbers():
    scores = simulated_scores("asap-8")
    evaluator = Evaluator(EvaluateConfig(num_resamples=100, interval_coverage=0.95), 7, {})
    figure = confusion_figure(evaluator.fold_results("minilm", 0, scores, fit_calibration(scores, CALIBRATE)))
    axes = panels(figure)["asap-8"]
    assert axes.images[0].get_array().shape == (61, 61)
    assert not axes.texts


def test_predicted_plot_has_a_point_for_each_essay_near_its_human_score(results):
    own = next(result for result in results if result.prompt.prompt_id == ELLIPSE)
    points = panels(predicted_figure(results))[ELLIPSE].collections[0].get_offsets()
    assert np.array_equal(points[:, 1], own.predicted)
    assert np.abs(points[:, 0] - own.human_scores).max() < own.prompt.score_range.step / 2


def test_qwk_plot_shows_each_model_with_its_interval_and_the_two_raters(results):
    scores = simulated_scores("asap-3")
    raters = {
        name: (score, min(score + index % 2, 3.0))
        for index, (name, score) in enumerate(zip(scores.essay_ids.tolist(), scores.human_scores.tolist(), strict=True))
    }
    both = summarise(
        [*evaluated("minilm", raters=raters), *evaluated(LENGTH_ONLY, 0.5, raters), *evaluated(MEAN_GRADE)]
    )
    shown = panels(qwk_figure(both, 0.95))
    axes = shown["asap-3"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["minilm", LENGTH_ONLY]
    widths = [bar.get_width() for bar in axes.patches]
    (asap, *_), (length, *_) = both[0].prompts, both[2].prompts
    assert widths == pytest.approx([asap.mean("qwk"), length.mean("qwk")])
    assert axes.lines[0].get_xdata() == pytest.approx(asap.qwk_interval(0.95))
    assert f"two raters, {asap.mean('human_qwk'):.3f}" in axes.get_xlabel()
    assert "two raters" not in shown[ELLIPSE].get_xlabel()


def test_learning_plot_has_a_line_for_each_fold(curves):
    shown = panels(learning_figure(curves))
    assert list(shown) == ["minilm", "lexical"]
    assert [line.get_label() for line in shown["minilm"].lines] == ["fold 0", "fold 1"]
    assert list(shown["minilm"].lines[0].get_ydata()) == pytest.approx([0.61, 0.62, 0.63])
    assert shown["lexical"].get_xlim() == (0.5, 1.5)


@pytest.mark.parametrize("suffix", [".svg", ".png"])
def test_the_same_numbers_give_the_same_bytes(results, curves, tmp_path, suffix):
    for draw in (lambda: predicted_figure(results[:1]), lambda: learning_figure(curves[:1])):
        first, second = (save_figure(draw(), tmp_path / f"{name}{suffix}").read_bytes() for name in "ab")
        assert first == second
        assert b"dc:date" not in first
        assert b"Software" not in first


def test_an_svg_is_well_formed_small_and_keeps_its_text(results, tmp_path):
    path = save_figure(predicted_figure(results), tmp_path / "deep" / "plot.svg")
    tree = ElementTree.parse(path)
    texts = {element.text for element in tree.iter("{http://www.w3.org/2000/svg}text")}
    assert {ELLIPSE, "asap-3", "human score"} <= texts
    assert path.stat().st_size < 100_000


def test_rows_of_the_tables_are_the_numbers_that_are_drawn(results, curves):
    own = next(result for result in results if result.prompt.prompt_id == ELLIPSE)
    predicted = [row for row in predicted_rows(results) if row[1] == ELLIPSE]
    assert len(predicted) == own.num_essays
    assert np.mean([row[4] for row in predicted]) == pytest.approx(own.predicted.mean(), abs=1e-3)
    grades = [row for row in grade_rows(results) if row[1] == ELLIPSE]
    assert sorted(row[4] for row in grades) == sorted(own.grades.tolist())
    assert next(iter(curve_rows(curves))) == ("minilm", 0, 1, 1.0, 0.61, 0.0001)
