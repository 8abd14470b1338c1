import json
import math
from collections import Counter
from html.parser import HTMLParser
from itertools import pairwise, product

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from scipy.stats import binomtest

from data.rows import Writer
from data.tables import audit_table
from essays.bars import Bar, Measured
from essays.calibration import Band, Calibration, PromptCalibration
from essays.metrics import standardized_mean_difference
from essays.params import read_params
from essays.sureness import mean_difference_error, share_interval
from tests.training.simulation import ELLIPSE, joined, simulated_scores
from training.bands import pooled_bands
from training.bars import missed_measures
from training.baselines import LENGTH_ONLY, MEAN_GRADE
from training.calibrate import fit_calibration
from training.evaluate import Evaluator
from training.evaluation_config import CalibrateConfig, EvaluateConfig
from training.figures import Row, Scale, curve_plot, dot_plot
from training.fold_scores import FoldScores
from training.hand_off import hand_off
from training.report import band_table
from training.subgroups import SMALLEST_GROUP, attributes_of, groups_of
from training.summary import summarise, write_metrics
from training.validity import validity
from training.validity_page import interval, shown, validity_page
from training.validity_tree import KEYS, validity_tree

CALIBRATE = read_params("calibrate", CalibrateConfig)
EVALUATE = EvaluateConfig(num_resamples=100, interval_coverage=0.95)
NOBODY: dict[str, dict[str, str]] = {}
PROMPT = "asap-3"  # 0 to 3


def graded(human, predicted, bands=((3, 0.5),), fold=0, model="minilm", raters=None):
    """A result of test essays with these human scores and scores before rounding, on `PROMPT`.

    `bands` are upper ends and half-widths, on the scale too.
    """
    calibration = Calibration(
        coverage=0.9,
        prompts=(
            PromptCalibration(
                prompt_id=PROMPT,
                centre=0.5,
                offset=0.0,
                stretch=1.0,
                bands=tuple(Band(up_to=end / 3, half_width=half / 3) for end, half in bands),
            ),
        ),
    )
    human, predicted = np.array([*human, 0, 3], dtype=float), np.array([*predicted, 0, 3], dtype=float)
    num = len(human)
    scores = FoldScores(
        essay_ids=np.array([f"{fold}-{index}" for index in range(num)]),
        prompt_ids=np.full(num, PROMPT),
        parts=np.array(["test"] * (num - 2) + ["dev"] * 2),
        human_scores=human,
        raw_unit_scores=predicted / 3,
    )
    (result,) = Evaluator(EVALUATE, 7, raters or {}).fold_results(model, fold, scores, calibration)
    return result


def prompt_of(*results):
    (summary,) = summarise(results)
    return summary.prompts[0]


def validity_of(*results, attributes=NOBODY):
    return validity(summarise(results), attributes, 0.95)


@pytest.mark.parametrize(("hits", "num"), [(45, 50), (0, 12), (7, 7), (460, 515)])
def test_a_shares_interval_is_wilsons(hits, num):
    expected = binomtest(hits, num).proportion_ci(0.95, method="wilson")
    assert share_interval(hits / num, num, 0.95) == pytest.approx((expected.low, expected.high))


def test_a_share_of_nothing_has_no_interval():
    assert all(map(math.isnan, share_interval(float("nan"), 0, 0.95)))


def test_the_error_of_a_mean_difference_is_what_resampling_gives():
    rng = np.random.default_rng(0)
    human = rng.integers(0, 4, 300).astype(float)
    grades = np.clip(human + rng.integers(-1, 2, 300), 0, 3)
    picks = rng.integers(0, 300, (2000, 300))
    draws = [standardized_mean_difference(grades[pick], human[pick]) for pick in picks]
    assert mean_difference_error(grades, human) == pytest.approx(np.std(draws), rel=0.06)
    assert math.isnan(mean_difference_error(grades[:1], human[:1]))


@pytest.mark.parametrize(
    ("value", "ends", "met", "sure"),
    [
        (0.90, (0.89, 0.91), True, True),
        (0.90, (0.86, 0.94), True, False),
        (0.92, (0.91, 0.93), True, False),  # an end of the zone belongs to it
        (0.94, (0.93, 0.95), False, True),
        (0.94, (0.91, 0.96), False, False),
        (0.85, (0.80, 0.87), False, True),
        (0.90, (math.nan, math.nan), True, None),
        (math.nan, (math.nan, math.nan), False, None),
    ],
)
def test_a_number_meets_its_bar_or_misses_it_and_may_be_sure_of_that(value, ends, met, sure):
    found = Measured(value, ends, Bar(0.9 - 0.02, 0.9 + 0.02))
    assert (found.met, found.sure) == (met, sure)


def test_without_a_bar_nothing_is_met():
    assert (Measured(0.5, (0.4, 0.6)).met, Measured(0.5, (0.4, 0.6)).sure) == (None, None)


def test_shares_count_every_essay_once_however_large_its_fold_is():
    first = graded([0, 1, 2, 3], [0, 1, 2, 1])  # three of four exact
    second = graded([0], [2], fold=1)  # none of one
    prompt = prompt_of(first, second)
    assert prompt.share("exact") == pytest.approx(3 / 5)
    assert prompt.mean("exact") == pytest.approx(3 / 8)


def test_bands_of_all_folds_are_those_that_every_fold_has():
    first = graded([0, 1, 3, 1], [0.2, 1.4, 2.9, 2.9], bands=((1.5, 0.5), (3, 0.5)))
    second = graded([0, 2, 2], [0.5, 1.0, 2.0], bands=((0.75, 0.5), (1.5, 0.5), (3, 0.5)), fold=1)
    low, high = pooled_bands(prompt_of(first, second))
    assert (low.from_score, low.to_score, high.from_score, high.to_score) == (0, 1.5, 1.5, 3)
    # Inside are human scores at most half a step from the score before rounding, and the grade itself.
    assert (low.num_essays, low.coverage) == (4, pytest.approx(3 / 4))
    assert (high.num_essays, high.coverage) == (3, pytest.approx(2 / 3))
    rows = band_table(summarise([first, second]))
    assert [row.split(" | ")[2:5] for row in rows[2:]] == [["0 to 1.5", "4", ".750"], ["1.5 to 3", "3", ".667"]]


def test_coverage_is_judged_by_prompt_and_band_against_the_promise():
    human = [0] * 50 + [3] * 50
    predicted = [0.0] * 45 + [1.4] * 5 + [3.0] * 40 + [2.0] * 10
    (model,) = validity_of(graded(human, predicted, bands=((1.5, 0.4), (3, 0.4))))
    (prompt,) = model.prompts
    assert (prompt.coverage.value, prompt.coverage.met, prompt.coverage.sure) == (pytest.approx(0.85), False, False)
    assert prompt.coverage.interval == pytest.approx(share_interval(0.85, 100, 0.95))
    assert [(band.coverage.value, band.coverage.met) for band in prompt.bands] == [(0.9, True), (0.8, False)]
    verdicts = {verdict.bar: verdict for verdict in model.verdicts()}
    assert [each.place for each in verdicts["band_coverage"].missed] == ["asap-3, 1.5 to 3"]
    assert [each.place for each in verdicts["coverage"].missed] == ["asap-3"]


def test_the_narrowest_intervals_stay_and_among_them_the_scores_nearest_to_their_grade():
    # Grades: eight in the narrow band, of which the two furthest from a grade are wrong; two in the wide band, far off.
    predicted = [0.0, 0.0, 1.0, 1.0, 0.1, 0.1, 0.45, 1.45, 3.0, 3.0]
    human = [0, 0, 1, 1, 0, 0, 1, 2, 0, 1]
    rows = hand_off([prompt_of(graded(human, predicted, bands=((1.5, 0.1), (3, 2.0))))], 0.95)
    assert [(row.share, row.num_essays) for row in rows] == [(1.0, 10), (0.9, 9), (0.8, 8), (0.7, 7)]
    assert [row.exact.value for row in rows] == pytest.approx([6 / 10, 6 / 9, 6 / 8, 6 / 7])
    assert [row.far.value for row in rows] == pytest.approx([2 / 10, 1 / 9, 0, 0])
    assert rows[3].exact.interval == pytest.approx(share_interval(6 / 7, 7, 0.95))


def test_each_prompt_keeps_its_own_share():
    easy, hard = graded([1] * 10, [1.0] * 10), graded([3] * 10, [1.0] * 10)
    rows = hand_off([prompt_of(easy), prompt_of(hard)], 0.95)
    assert [(row.num_essays, row.exact.value) for row in rows] == [(20, 0.5), (18, 0.5), (16, 0.5), (14, 0.5)]


def grouped(num_small=8):
    """Essays of two large groups and a small one; women get the human score, men half a point more on the average."""
    human = [0, 1, 2, 3] * 30 + [1] * num_small
    predicted = [0, 1, 2, 3] * 15 + [1, 1, 3, 3] * 15 + [3] * num_small
    result = graded(human, predicted)
    genders = ["Female"] * 60 + ["Male"] * 60 + ["Other"] * num_small
    writers = [
        Writer(essay_id, gender, "12", None, None)
        for essay_id, gender in zip(result.essay_ids.tolist(), genders, strict=True)
    ]
    return result, attributes_of(audit_table(writers))


def test_each_group_has_its_own_mean_difference_and_a_small_one_is_named_as_such():
    result, attributes = grouped()
    groups = {group.name: group for group in groups_of(prompt_of(result), attributes, 0.95)}
    assert list(groups) == ["Female", "Male", "Other", "12"]
    assert (groups["Female"].smd.value, groups["Female"].smd.met) == (0, True)
    # Humans 0 1 2 3, mean 1.5, variance 1.25; grades 1 1 3 3, mean 2, variance 1.
    assert groups["Male"].smd.value == pytest.approx(0.5 / math.sqrt((1.25 + 1) / 2))
    assert (groups["Male"].smd.met, groups["Male"].smd.sure) == (False, True)
    assert groups["Other"].num_essays == 8 < SMALLEST_GROUP
    assert groups["Other"].too_small
    assert groups["Other"].smd.met is None
    assert groups["12"].num_essays == 128


def test_an_unfair_group_shows_in_the_verdict_and_a_small_one_does_not():
    result, attributes = grouped()
    (model,) = validity_of(result, attributes=attributes)
    verdict = next(verdict for verdict in model.verdicts() if verdict.bar == "group_smd")
    assert {each.place for each in verdict.missed} == {"asap-3, Male", "asap-3, school grade 12"}
    assert {each.place for each in verdict.judged} == {"asap-3, Male", "asap-3, Female", "asap-3, school grade 12"}
    page = validity_page([model], [0], 0.95)
    assert "too small: fewer than 50" in page


def test_a_corpus_that_tells_nothing_of_its_writers_has_no_verdict_on_groups():
    empty = attributes_of(audit_table([]))
    (model,) = validity_of(graded([0, 1, 2], [0, 1, 2]), attributes=empty)
    verdict = next(verdict for verdict in model.verdicts() if verdict.bar == "group_smd")
    assert (verdict.met, verdict.judged) == (None, ())
    assert "tells nothing of its writers" in validity_page([model], [0], 0.95)


def test_loss_against_two_raters_has_a_bar_of_its_own():
    human = [0, 1, 2, 3] * 25
    predicted = [0, 1, 2, 3] * 16 + [1, 1, 2, 2] * 4 + [1, 0, 3, 2] * 5
    raters = {f"0-{index}": (float(score), float(score)) for index, score in enumerate(human)}
    result = graded(human, predicted, raters=raters)
    assert 0.7 < result.qwk < 0.9
    (model,) = validity_of(result)
    (prompt,) = model.prompts
    assert (prompt.human_qwk, prompt.qwk.met) == (1.0, True)
    assert prompt.degradation.value == pytest.approx(1 - result.qwk)
    assert prompt.degradation.interval == pytest.approx((1 - result.qwk_interval[1], 1 - result.qwk_interval[0]))
    assert not prompt.degradation.met
    assert "qwk" in missed_measures(prompt_of(result))


@pytest.fixture(scope="module")
def models():
    """An ensemble that is good and a model that is poor on two corpora, two folds each, with writers on one corpus."""
    results, raters = [], {}
    for model, noise in (("lexical", 1.0), ("ensemble", 0.03), (LENGTH_ONLY, 0.9), (MEAN_GRADE, 0.9)):
        for fold in (0, 1):
            parts = (simulated_scores(each, 400, noise=noise, seed=fold) for each in (ELLIPSE, "asap-1", PROMPT))
            scores = joined(*parts)
            human = dict(zip(scores.essay_ids.tolist(), scores.human_scores.tolist(), strict=True))
            raters |= {name: (score, score) for name, score in human.items() if name.startswith("asap")}
            evaluator = Evaluator(EVALUATE, 7, raters)
            results += evaluator.fold_results(model, fold, scores, fit_calibration(scores, CALIBRATE))
    writers = [Writer(f"{ELLIPSE}-{index}", "MF"[index % 4 // 2], "8", None, None) for index in range(400)]
    return validity(summarise(results), attributes_of(audit_table(writers)), 0.95)


def test_corpora_go_by_name_and_the_ensemble_first_without_baselines(models):
    assert [(model.corpus, model.model) for model in models] == [
        ("asap-aes", "ensemble"),
        ("asap-aes", "lexical"),
        ("ellipse", "ensemble"),
        ("ellipse", "lexical"),
    ]
    assert all(prompt.length_only_qwk < 0.4 for model in models for prompt in model.prompts)


def test_a_good_model_meets_the_bars_and_a_poor_one_misses_them(models):
    good, poor = ({verdict.bar: verdict.met for verdict in model.verdicts()} for model in models[:2])
    assert good["qwk"] is good["smd"] is good["sd_ratio"] is good["adjacent"] is True
    assert poor["qwk"] is poor["degradation"] is poor["adjacent"] is False
    of_ellipse = {verdict.bar: verdict.met for verdict in models[2].verdicts()}
    assert of_ellipse["degradation"] is of_ellipse["adjacent"] is None
    assert of_ellipse["group_smd"] is not None


def test_json_has_the_pages_numbers_no_nan_and_says_what_its_keys_mean(models, tmp_path):
    tree = validity_tree(models, [0, 1], 0.95)
    write_metrics(tree, tmp_path / "validity.json")
    assert json.loads((tmp_path / "validity.json").read_text(encoding="utf-8")) == tree
    assert tree["bars"]["lowest_qwk"] == 0.7
    lexical = tree["corpora"]["asap-aes"]["lexical"]
    found, prompt = lexical["prompts"][PROMPT], next(each for each in models[1].prompts if each.prompt_id == PROMPT)
    assert found["qwk"]["value"] == round(prompt.qwk.value, 4)
    assert (found["qwk"]["met"], found["qwk"]["low"]) == (False, round(prompt.qwk.interval[0], 4))
    assert lexical["verdicts"]["qwk"] == {"met": False, "num_judged": 2, "missed": [*_worst_first(models[1])]}
    assert "met" not in tree["corpora"]["ellipse"]["ensemble"]["verdicts"]["adjacent"]
    assert tree["corpora"]["ellipse"]["ensemble"]["prompts"][ELLIPSE]["group_smd"]["gender"]["F"]["num_essays"] == 200
    described = " ".join(KEYS)
    assert all(key in described or key in KEYS["num_essays"] for key in found if key != "group_smd")
    assert "group_smd" in described


def _worst_first(model):
    return [each.prompt_id for each in sorted(model.prompts, key=lambda prompt: prompt.qwk.value)]


class Outline(HTMLParser):
    """Notes what a page is made of, and fails where an element is closed that is not open."""

    def __init__(self):
        super().__init__()
        self.open, self.elements, self.texts = [], [], []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes), tuple(self.open)))
        if tag not in {"meta", "link", "br", "img", "hr", "input"}:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes), tuple(self.open)))

    def handle_endtag(self, tag):
        assert self.open, tag
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)

    def all(self, *tags):
        return [attributes for tag, attributes, _ in self.elements if tag in tags]


def outline_of(page):
    outline = Outline()
    outline.feed(page)
    outline.close()
    assert outline.open == []
    return outline


def test_the_page_is_well_formed_whole_in_itself_and_named_for_who_cannot_see_it(models):
    page = validity_page(models, [0, 1], 0.95)
    outline = outline_of(page)
    assert not outline.all("script", "link", "img", "iframe")
    assert "http" not in page
    assert all(link["href"].startswith("#") for link in outline.all("a"))
    ids = [attributes["id"] for _, attributes, _ in outline.elements if "id" in attributes]
    assert max(Counter(ids).values()) == 1
    assert {link["href"][1:] for link in outline.all("a")} <= set(ids)
    assert len(outline.all("caption")) == len(outline.all("table")) > 10
    assert all(header["scope"] in {"col", "row", "rowgroup"} for header in outline.all("th"))
    plots = [each for each in outline.all("svg") if "plot" in each.get("class", "")]
    assert len(plots) == 4 * 4 + 2 + 6  # four of each model, groups where they are known, hand-off of each prompt
    assert all(plot["role"] == "img" and plot["aria-label"] for plot in plots)
    groups = [each for each in outline.all("div") if each.get("role") == "group"]
    assert len(groups) == len(outline.all("table"))
    assert all(group["aria-labelledby"] in ids for group in groups)
    levels = [int(tag[1]) for tag, _, _ in outline.elements if tag in {"h1", "h2", "h3", "h4"}]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert "nan" not in " ".join(outline.texts)


def test_the_page_says_in_words_what_is_missed_and_by_how_much(models):
    page = " ".join(outline_of(validity_page(models[1:2], [0, 1], 0.95)).texts)
    prompt = min(models[1].prompts, key=lambda prompt: prompt.qwk.value)
    assert f"{prompt.prompt_id}: {shown(prompt.qwk)} {interval(prompt.qwk)}" in page
    assert "Not without people beside it" in page
    assert "“Agrees with people”" in page


def test_a_model_that_meets_every_bar_is_said_to():
    human, predicted = [0, 1, 2, 3] * 25, [0, 1, 2, 3] * 20 + [0, 2, 1, 3] * 5  # nine in ten exact, and inside
    page = validity_page(validity_of(graded(human, predicted, bands=((3, 0.4),))), [0], 0.95)
    assert "By these bars, yes: <strong>minilm</strong> meets all 6 that apply here." in page
    assert "missed</span>" not in page.split("<main>")[1].split("<figcaption>")[0]


def test_where_nothing_was_measured_the_page_says_so():
    outline = outline_of(validity_page([], (), 0.95))
    assert "Nothing was measured" in " ".join(outline.texts)
    assert validity_tree([], (), 0.95)["corpora"] == {}


def test_a_number_that_rounding_would_carry_across_its_bar_is_shown_more_closely():
    bar = Bar(low=0.7)
    assert shown(Measured(0.69996, bar=bar)) == ".69996"
    assert shown(Measured(0.7004, bar=bar)) == ".700"
    assert shown(Measured(0.92004, bar=Bar(high=0.92)), as_share=True) == "92.004%"
    assert (shown(Measured(math.nan)), shown(Measured(math.nan, bar=bar))) == ("–", "–")


def test_plots_place_numbers_between_the_ends_of_their_scale():
    scale = Scale(0.5, 1.0, 0.1)
    assert [scale.place(value) for value in (0.5, 0.75, 1.0, 0.2)] == [2, 50, 98, 2]
    assert scale.ticks() == [0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
    assert Scale(-0.3, 0.3, 0.1).ticks() == pytest.approx([-0.3, -0.2, -0.1, 0, 0.1, 0.2, 0.3])
    rows = [
        Row("a", Measured(0.75, (0.5, 1.0), Bar(0.75, 0.8)), (("raters", 1.0), ("length", math.nan))),
        Row("b", Measured(math.nan)),
    ]
    plot = dot_plot("two rows", rows, scale)
    (row,) = plot.rows
    assert (row.x, row.interval, plot.zone) == (50, (2, 98), (50, pytest.approx(59.6)))
    assert [(mark.kind, mark.x) for mark in row.marks] == [("raters", 98)]


def test_hand_off_curves_run_from_all_essays_to_the_fewest_and_from_none_to_all():
    (curve,) = curve_plot("shares", [1.0, 0.85, 0.7], [("exact", [0.0, 0.5, 1.0])]).curves
    assert curve.points == ((14, 150), (56, 75), (98, 0))


@pytest.mark.slow
def test_axe_finds_nothing_and_nothing_sticks_out(models, browser, tmp_path):
    path = tmp_path / "validity.html"
    path.write_text(validity_page(models, [0, 1], 0.95), encoding="utf-8")
    page = browser.new_page()
    page.goto(path.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    for scheme, width in product(("light", "dark"), (1200, 320)):
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": width, "height": 900})
        results = Axe().run(page)
        assert results.violations_count == 0, results.generate_report()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.close()
