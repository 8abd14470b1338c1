"""The validity of one class: the pipeline's verdicts on the pipeline's essays, and honest words for small classes."""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from starlette.testclient import TestClient

from data.asap import read_asap
from essays.calibration import read_calibration
from essays.metrics import quadratic_weighted_kappa, seen_range, spread_ratio
from essays.prompts import get_prompt
from serving.desk import Desk
from serving.routes import create_app
from serving.schemas import MarkedEssay
from serving.validity import SMALLEST_CLASS, ClassValidity, class_validity, rater_agreement, spread_interval
from training.evaluate import Evaluator, rater_pairs
from training.evaluation_config import EvaluateConfig
from training.fold_scores import read_fold_scores
from training.summary import summarise
from training.validity import validity

MODELS = ("ensemble", "lexical", "lstm", "minilm", "probe")
PROMPTS = tuple(f"asap-{number}" for number in range(1, 9))
PLAIN = {"score": 3, "unit_score": 0.5, "interval": [2, 4]}
RECORDED = Path("reports/asap/seed-7")


@pytest.fixture
def client(desk: Desk, tmp_path: Path) -> Iterator[TestClient]:
    with TestClient(create_app(lambda: desk, tmp_path)) as opened:
        yield opened


def marked(human: np.ndarray, grades: np.ndarray, half_width: float = 1.0) -> list[MarkedEssay]:
    """Essays of the scale from 1 to 5, with intervals around each score."""
    return [
        MarkedEssay(
            score=ours,
            unit_score=(ours - 1) / 4,
            interval=(ours - half_width, ours + half_width),
            human_score=theirs,
        )
        for theirs, ours in zip(human.tolist(), grades.tolist(), strict=True)
    ]


def class_of(num: int, *, error: float = 0.4, shift: float = 0.0) -> list[MarkedEssay]:
    """A class whose scores are the teacher's, off by so much."""
    rng = np.random.default_rng(num)
    scale = get_prompt("ellipse-overall").score_range
    human = scale.round(rng.normal(3, 0.9, num))
    return marked(human, scale.round(human + rng.normal(shift, error, num)))


def judge(essays: list[MarkedEssay], calibration_of: Desk) -> ClassValidity:
    calibration = calibration_of.catalogue().model("lexical").calibration
    return class_validity(essays, get_prompt("ellipse-overall"), calibration)


@pytest.fixture(scope="module")
def raters(mirror: Path) -> dict[str, tuple[float, float]]:
    """Of ASAP, by essay."""
    return rater_pairs(read_asap(mirror / "asap-aes").essays)


@pytest.mark.parametrize("model", MODELS)
def test_the_verdicts_on_asaps_test_essays_are_the_pipelines(
    raters: dict[str, tuple[float, float]], model: str
) -> None:
    """Scores and calibration as recorded; the same grades held against the bars on both roads."""
    scores = read_fold_scores(RECORDED / "scores" / model / "fold-0" / "scores.parquet")
    calibration = read_calibration(RECORDED / "calibration" / model / "fold-0.json")
    evaluator = Evaluator(EvaluateConfig(num_resamples=100, interval_coverage=0.95), 7, raters)
    (theirs,) = validity(summarise(evaluator.fold_results(model, 0, scores, calibration)), {}, 0.95)
    by_prompt = {prompt.prompt_id: prompt for prompt in theirs.prompts}
    num_compared = 0
    for prompt_id in PROMPTS:
        own = scores.select("test", prompt_id)
        prompt = get_prompt(prompt_id)
        graded = calibration.grades(prompt, own.raw_unit_scores)
        given = zip(
            graded.scores.tolist(), graded.unit_scores.tolist(), graded.lows.tolist(), graded.highs.tolist(),
            own.human_scores.tolist(), own.essay_ids.tolist(), strict=True,
        )  # fmt: skip
        essays = [
            MarkedEssay(
                score=score,
                unit_score=unit,
                interval=(low, high),
                human_score=human,
                rater_scores=raters.get(essay_id),
            )
            for score, unit, low, high, human, essay_id in given
        ]
        for judged in class_validity(essays, prompt, calibration).judged:
            if judged.bar == "band_coverage":
                expected = all(band.coverage.met for band in by_prompt[prompt_id].bands)
                assert all(band.num_essays >= SMALLEST_CLASS for band in by_prompt[prompt_id].bands)
            else:
                number = getattr(by_prompt[prompt_id], judged.bar)
                assert judged.measured.value == pytest.approx(number.value)
                assert judged.measured.bar == number.bar
                expected = number.met
            assert judged.verdict == ("met" if expected else "missed"), (prompt_id, judged.bar)
            num_compared += 1
    assert num_compared >= 50


def test_a_small_class_gets_no_verdict_however_good(desk: Desk) -> None:
    small = judge(class_of(SMALLEST_CLASS - 1, error=0.0), desk)
    assert small.use == "cannot_tell"
    assert {each.verdict for each in small.judged} == {"cannot_tell"}
    assert judge(class_of(SMALLEST_CLASS, error=0.2), desk).use != "cannot_tell"


def test_a_shifted_model_is_found_out_and_more_essays_make_it_sure(desk: Desk) -> None:
    few, many = (judge(class_of(num, shift=shift), desk) for num, shift in ((40, 0.2), (2000, 0.5)))
    assert [each.bar for each in many.of("missed") if each.measured.sure][:1] == ["smd"]
    assert many.use == "no"
    assert few.use in ("unlikely", "likely")


def test_the_interval_of_a_spread_is_what_resampling_gives() -> None:
    rng = np.random.default_rng(1)
    human = rng.normal(0, 1, 300)
    grades = 0.9 * human + rng.normal(0, 0.5, 300)
    picks = rng.integers(0, 300, (3000, 300))
    draws = [spread_ratio(grades[pick], human[pick]) for pick in picks]
    found = spread_interval(spread_ratio(grades, human), grades, human)
    assert found == pytest.approx(np.quantile(draws, [0.025, 0.975]), rel=0.03)
    assert all(map(math.isnan, spread_interval(math.nan, np.ones(5), np.ones(5))))


def ask(client: TestClient, given: list[MarkedEssay], **change: object) -> dict:
    body = {"prompt_id": "ellipse-overall", "model": "lexical", "essays": [each.model_dump() for each in given]}
    answer = client.post("/validity", json={**body, **change})
    return {"status": answer.status_code, **answer.json()}


def test_the_call_answers_in_words_and_numbers(client: TestClient) -> None:
    found = ask(client, class_of(200))
    assert found["status"] == 200
    assert found["num_essays"] == 200
    assert found["model"]["name"] == "lexical"
    bars = {each["bar"]: each for each in found["bars"]}
    assert list(bars) == ["qwk", "smd", "sd_ratio", "coverage", "band_coverage"]
    assert bars["qwk"]["low"] < bars["qwk"]["value"] < bars["qwk"]["high"]
    assert (bars["qwk"]["at_least"], bars["qwk"]["at_most"], bars["qwk"]["asked"]) == (0.7, None, "at least 0.70")
    small = ask(client, class_of(12))
    assert small["use"] == "cannot_tell"
    assert small["answer"].startswith("Cannot tell: 12 marked essays are too few")
    one = ask(client, class_of(1))
    assert one["answer"].startswith("Cannot tell: 1 marked essay is too few")
    assert {each["value"] for each in one["bars"] if each["bar"] == "qwk"} <= {None, 0.0, 1.0}


def test_two_raters_bring_one_more_bar(client: TestClient) -> None:
    essays = [each.model_copy(update={"rater_scores": (each.human_score, each.score)}) for each in class_of(60)]
    bars = {each["bar"]: each for each in ask(client, essays)["bars"]}
    assert bars["degradation"]["value"] == pytest.approx(0, abs=1e-9)
    assert bars["degradation"]["verdict"] == "met"


def test_two_raters_agree_as_by_the_matrix_of_their_grades_whatever_their_scale() -> None:
    rng = np.random.default_rng(3)
    first = rng.integers(0, 7, 80).astype(float)
    second = np.clip(first + rng.integers(-2, 3, 80), 0, 6)
    expected = quadratic_weighted_kappa(first, second, seen_range(first, second, 1.0))
    for factor, offset in ((1.0, 0.0), (0.37, -4.1), (1e5, 12.0)):
        pairs = list(zip(factor * first + offset, factor * second + offset, strict=True))
        assert rater_agreement(pairs) == pytest.approx(expected, abs=1e-9)
    assert math.isnan(rater_agreement([(3.3, 3.3)] * 7))
    assert math.isnan(rater_agreement([(1.0, 2.0)]))


@pytest.mark.parametrize("spread", [0.37, 1e6])
def test_two_raters_on_any_scale_of_theirs_take_no_more_memory(client: TestClient, spread: float) -> None:
    """A matrix of all grades between them would take terabytes."""
    essays = [
        each.model_copy(update={"rater_scores": (0.0 if number % 2 else spread, each.human_score)})
        for number, each in enumerate(class_of(60))
    ]
    found = ask(client, essays)
    assert found["status"] == 200
    assert "degradation" in {each["bar"] for each in found["bars"]}


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"essays": [{**PLAIN, "human_score": 3, "rater_scores": [1e7, 1]}]}, 422, "invalid_request"),
        ({"essays": []}, 422, "invalid_request"),
        ({"essays": [{**PLAIN, "human_score": 3.3}] * 2}, 422, "invalid_request"),
        ({"essays": [{**PLAIN, "human_score": 9}]}, 422, "invalid_request"),
        ({"model": "gpt"}, 404, "unknown_model"),
        ({"prompt_id": "nowhere"}, 404, "unknown_prompt"),
    ],
)  # fmt: skip
def test_marks_off_the_scale_and_unknown_names_are_refused(
    client: TestClient, change: dict, status: int, code: str
) -> None:
    found = ask(client, class_of(3), **change)
    assert (found["status"], found["error"]["code"]) == (status, code)
