"""Drift: an alarm on essays of another prompt, none on fresh ones of the same; counts that hold no text and outlive a
restart.
"""

import json
import math
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import chi2
from starlette.testclient import TestClient

from data.asap import read_asap
from essays.calibration import read_calibration
from essays.drift import (
    SCORE_QUANTITY,
    TEXT_QUANTITIES,
    DriftReference,
    PromptReference,
    histogram_of,
    meter_of,
    prompt_reference,
)
from essays.text import normalize_text
from serving.access import digest_of
from serving.catalogue import LocalArtifact
from serving.desk import Desk
from serving.drift.settings import DriftSettings
from serving.drift.sketch import empty_sketch
from serving.drift.statistics import chi_squared_quantile, difference
from serving.routes import create_app
from tests.made_essays import made_essay
from training.fold_scores import read_fold_scores

RECORDED = Path("reports/asap/seed-7")
PROMPTS = tuple(f"asap-{number}" for number in range(1, 9))
NUM_DRAWS, DRAWN = 50, 100
Values = dict[str, np.ndarray]


# --- On ASAP


@pytest.fixture(scope="module")
def asap(mirror: Path) -> dict[str, tuple[PromptReference, Values, Values]]:
    """By prompt: a reference made of dev essays; quantities of test essays of the same; and of all other prompts."""
    root = Path(__file__).parents[3]
    scores = read_fold_scores(root / RECORDED / "scores/lexical/fold-0/scores.parquet")
    calibration = read_calibration(root / RECORDED / "calibration/lexical/fold-0.json")
    essays = {essay.essay_id: essay for essay in read_asap(mirror / "asap-aes").essays}
    texts = {name: normalize_text(essay.text) for name, essay in essays.items()}
    held_out = set(scores.essay_ids.tolist())
    chance = random.Random(1)
    made = {}
    for prompt_id in PROMPTS:
        train = [texts[name] for name, each in essays.items() if each.prompt_id == prompt_id and name not in held_out]
        parts = [scores.select(part, prompt_id) for part in ("dev", "test")]
        dev, test = (
            list(zip(
                [texts[name] for name in part.essay_ids.tolist()],
                calibration.unit_scores(prompt_id, part.raw_unit_scores).tolist(), strict=True,
            ))
            for part in parts
        )  # fmt: skip
        reference = prompt_reference(prompt_id, train, dev)
        others = [texts[name] for name in sorted(held_out) if essays[name].prompt_id != prompt_id]
        own = measured(reference, [text for text, _ in test])
        own[SCORE_QUANTITY] = np.array([score for _, score in test])
        made[prompt_id] = reference, own, measured(reference, chance.sample(others, 150))
    return made


def measured(reference: PromptReference, texts: list[str]) -> Values:
    meter = meter_of(reference)
    found = [meter(text) for text in texts]
    return {name: np.array([each[name] for each in found]) for name in TEXT_QUANTITIES}


def drifted(reference: PromptReference, values: Values, rng: np.random.Generator) -> set[str]:
    """The quantities that raise an alarm on one draw of essays."""
    found = set()
    size = len(next(iter(values.values())))
    chosen = rng.choice(size, min(DRAWN, size), replace=False)
    for name, all_values in values.items():
        histogram = reference.histograms[name]
        counts = np.zeros(len(histogram.counts), int)
        for value in all_values[chosen]:
            counts[histogram.bin_of(float(value))] += 1
        if difference(histogram.counts, counts.tolist()).drifted:
            found.add(name)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("prompt_id", PROMPTS)
def test_an_alarm_on_another_prompts_essays_and_none_on_fresh_ones(
    asap: dict[str, tuple[PromptReference, Values, Values]], prompt_id: str
) -> None:
    reference, own, others = asap[prompt_id]
    rng = np.random.default_rng(7)
    assert [drifted(reference, own, rng) for _ in range(NUM_DRAWS)] == [set()] * NUM_DRAWS
    assert all(drifted(reference, others, rng) for _ in range(NUM_DRAWS))


# --- Its parts


def test_the_bound_of_psi_is_chi_squareds_and_never_below() -> None:
    for freedom in range(1, 20):
        exact = chi2.ppf(1 - 1e-4, freedom)
        assert 1 <= chi_squared_quantile(freedom, 1 - 1e-4) / exact < (1.02 if freedom >= 6 else 1.08)
    assert chi_squared_quantile(0, 0.999) == 0


def test_chance_alone_passes_no_bound_and_a_shift_does() -> None:
    rng = np.random.default_rng(2)
    reference = histogram_of(rng.normal(0, 1, 400))

    def counts(values: np.ndarray) -> list[int]:
        return np.bincount([reference.bin_of(float(each)) for each in values], minlength=10).tolist()

    assert not any(difference(reference.counts, counts(rng.normal(0, 1, 60))).drifted for _ in range(500))
    assert all(difference(reference.counts, counts(rng.normal(1, 1, 100))).drifted for _ in range(50))
    tiny_shift = difference([10_000] * 10, [10_100] * 5 + [9_900] * 5)
    assert not tiny_shift.drifted  # sure, and too small to matter
    known = difference([50, 50], [90, 10])
    assert known.ks == pytest.approx(0.4)
    assert known.psi == pytest.approx(0.4 * math.log(0.9 / 0.1), rel=0.06)


def test_bins_of_equal_values_are_one() -> None:
    assert histogram_of([1.0] * 95 + [2.0] * 5).counts == (0, 95, 5)
    histogram = histogram_of([3.0] * 90)
    assert histogram.counts == (0, 90, 0)
    assert [histogram.bin_of(value) for value in (2.9, 3.0, 3.1)] == [0, 1, 2]
    assert not difference(histogram.counts, (0, 60, 0)).drifted
    assert difference(histogram.counts, (0, 0, 60)).drifted


def test_a_sketch_forgets_and_stays_small() -> None:
    sketch = empty_sketch((0, 0))
    for number in range(1000):
        sketch = sketch.with_one(int(number >= 900), 100)
        assert sketch.num_essays <= 100
    assert sketch.counts[0] == 0
    assert 50 <= sketch.counts[1] <= 100


# --- In the service

OpenDesk = Callable[..., Desk]
KEY = "fm_drift-key"
ACCESS = {"keys": [{"name": "admin", "sha256": digest_of(KEY), "scopes": ["admin"]}]}
HEADERS = {"Authorization": f"Bearer {KEY}"}


@pytest.fixture(scope="module")
def watched(bundles, tmp_path_factory: pytest.TempPathFactory, extract) -> list[LocalArtifact]:
    """`lexical` with a reference of made essays on one prompt."""
    train = [made_essay(number) for number in range(300)]
    held_out = [(made_essay(number), 0.5 + (number % 10) / 100) for number in range(300, 500)]
    reference = DriftReference(prompts=(prompt_reference("ellipse-overall", train, held_out),))

    def add(folder: Path) -> None:
        (folder / "reference.json").write_text(reference.model_dump_json())

    path = bundles.changed("lexical", add, tmp_path_factory.mktemp("watched"))
    return extract([path], tmp_path_factory.mktemp("watched-artifacts"))


def send(desk: Desk, essays: list[str], path: str = "/score", **more: object) -> TestClient:
    client = TestClient(create_app(lambda: desk, Path()))
    for essay in essays:
        client.post(path, json={"essay": essay, "prompt_id": "ellipse-overall", "model": "lexical", **more})
    return client


def report(client: TestClient) -> dict:
    answer = client.get("/drift", headers=HEADERS)
    assert answer.status_code == 200
    (prompt,) = answer.json()["prompts"]
    return {each["quantity"]: each for each in prompt["quantities"]} | {"drifted": prompt["drifted"]}


def test_ordinary_essays_raise_nothing_and_longer_ones_do(watched: list[LocalArtifact], open_desk: OpenDesk) -> None:
    desk = open_desk(watched, access=ACCESS)
    client = send(desk, [made_essay(number) for number in range(600, 660)])
    found = report(client)
    assert [found[name]["drifted"] for name in TEXT_QUANTITIES] == [False] * 3
    assert found["words"]["num_essays"] == found["unit_score"]["num_essays"] == 60
    assert found["unit_score"]["model"] == "lexical"
    send(desk, [made_essay(number, 30) for number in range(60)])
    found = report(client)
    assert found["drifted"] is True
    assert found["words"]["drifted"] is True
    bins = found["words"]["bins"]
    assert [each["high"] for each in bins[:-1]] == [each["low"] for each in bins[1:]]
    assert sum(each["found"] for each in bins) == pytest.approx(1)
    assert bins[-1]["found"] > 0.4 > bins[-1]["expected"]  # half of the last essays are longer than most
    metrics = client.get("/metrics").text
    assert 'fairmark_drifted{model="",prompt_id="ellipse-overall",quantity="words"} 1.0' in metrics
    assert 'fairmark_drift_psi{model="lexical",prompt_id="ellipse-overall",quantity="unit_score"}' in metrics


def test_few_essays_show_nothing_and_what_is_explained_counts_once(
    watched: list[LocalArtifact], open_desk: OpenDesk
) -> None:
    desk = open_desk(watched, access=ACCESS)
    essays = [made_essay(number) for number in range(20)]
    client = send(desk, essays)
    send(desk, essays[:3], "/explain")
    found = report(client)
    bins = found["words"].pop("bins")
    assert found["words"] == {
        "quantity": "words", "title": "Length in words", "model": None, "num_essays": 20, "drifted": None,
        "psi": None, "psi_bound": None, "ks": None, "ks_bound": None, "num_reference": 200,
    }  # fmt: skip
    assert {each["found"] for each in bins} == {None}
    assert sum(each["expected"] for each in bins) == pytest.approx(1)
    assert "fairmark_drift_psi{" not in client.get("/metrics").text
    refused = client.get("/drift")
    assert (refused.status_code, refused.json()["error"]["code"]) == (401, "not_authenticated")


def test_essays_that_get_no_score_are_seen_all_the_same(watched: list[LocalArtifact], open_desk: OpenDesk) -> None:
    desk = open_desk(watched, access=ACCESS)
    client = send(desk, ["Nosotros vivimos en una casa muy grande con nuestros padres y abuelos " * 3] * 60)
    found = report(client)
    assert found["unknown_words"]["drifted"] is True
    assert found["unit_score"]["num_essays"] == 0


def test_counts_outlive_a_restart_and_hold_no_word(
    watched: list[LocalArtifact], open_desk: OpenDesk, tmp_path: Path
) -> None:
    settings = {"access": ACCESS, "drift": DriftSettings(file=tmp_path / "drift.json", save_s=1e-6)}
    first = open_desk(watched, **settings)
    client = send(first, [f"Zebracanary. {made_essay(number)}" for number in range(60)])
    client.get("/metrics")  # whoever asks for the numbers has them kept too
    kept = (tmp_path / "drift.json").read_text()
    assert "zebra" not in kept.lower()
    halves = [half for sketch in json.loads(kept).values() for half in sketch.values()]
    assert all(isinstance(count, int) for half in halves for count in half)
    again = send(open_desk(watched, **settings), [made_essay(99)])
    assert report(again)["words"]["num_essays"] == 61
    (tmp_path / "drift.json").write_text('{"ellipse-overall words": [1')
    assert report(send(open_desk(watched, **settings), []))["words"]["num_essays"] == 0
