"""Traits in answers: from the pass that scores the whole, graded as they were calibrated, kept by the cache."""

import asyncio
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from essays.calibration import PromptCalibration, grade_of, grades_of
from essays.errors import WarmUpFailed
from essays.manifest import GOLDEN_FILE, Golden
from essays.text import normalize_text
from serving.cache.proof import shift_scale
from serving.cache.runs import CacheMode
from serving.cache.sql_store import Check
from serving.catalogue import LocalArtifact
from serving.config import ServiceSettings
from serving.desk import Desk
from serving.routes import create_app
from tests.serving.conftest import TRAITS, WORDS
from tests.serving.conftest import Bundles as MadeBundles

ESSAY = (
    "My school is small, and I like it. The teachers know every pupil by name, so when somebody is sad they see it."
    " However we have no laboratory, and I want to learn chemistry. People say a big school has more to offer."
)
PROMPT = TRAITS.prompt_id
OpenDesk = Callable[..., Desk]


@pytest.fixture
def client(trait_desk: Desk, tmp_path: Path) -> Iterator[TestClient]:
    with TestClient(create_app(lambda: trait_desk, tmp_path)) as opened:
        yield opened


def scored(desk: Desk, essay: str, model: str, prompt_id: str = PROMPT) -> Any:
    answer = asyncio.run(desk.scorer().score(essay, prompt_id, model))
    if cache := desk.scorer().cache:
        cache.settle()
    return answer


def by_hand(desk: Desk) -> list[dict[str, Any]]:
    """The traits of ESSAY from the graph's second output and each trait's own calibration."""
    model, session = desk.catalogue().models["tiny"], desk.scorer().pool.lanes[0].sessions["tiny"]
    assert model.encoder
    (raw,) = session.outputs(model.encoder.collate([model.encoder.encode(ESSAY, 0)])).raw_trait_scores
    grades = [
        grade_of(trait.calibration, TRAITS.score_range, float(each))
        for trait, each in zip(TRAITS.traits, raw, strict=True)
    ]
    return [
        {"trait": trait.name, "score": grade.score, "low": grade.interval[0], "high": grade.interval[1]}
        for trait, grade in zip(TRAITS.traits, grades, strict=True)
    ]


def test_a_model_answers_with_its_traits_and_an_ensemble_with_its_members(trait_desk: Desk, client: TestClient) -> None:
    expected = by_hand(trait_desk)
    assert len({(each["low"], each["high"]) for each in expected}) == 2, "two traits that a mix-up would show"
    for model, traits in (("tiny", expected), ("ensemble", expected), ("lexical", [])):
        body = client.post("/score", json={"essay": ESSAY, "prompt_id": PROMPT, "model": model}).json()
        assert body["traits"] == traits, model
    results = client.post("/compare", json={"essay": ESSAY, "prompt_id": PROMPT}).json()["results"]
    assert [result["traits"] for result in results] == [[], expected, expected]


def test_another_prompt_has_no_traits(client: TestClient) -> None:
    body = client.post("/score", json={"essay": ESSAY, "prompt_id": "asap-1", "model": "tiny"}).json()
    assert body["traits"] == []


def test_models_say_what_their_traits_are_worth(client: TestClient) -> None:
    models = {each["name"]: each["traits"] for each in client.get("/models").json()["models"]}
    assert models["lexical"] == []
    assert models["ensemble"] == models["tiny"]
    assert [(each["trait"], each["better_than_holistic"]) for each in models["tiny"]] == [
        ("cohesion", False),
        ("grammar", True),
    ]
    assert models["tiny"][0]["qwk_interval"] == [0.5, 0.7]
    assert models["tiny"][0]["score_range"] == {"low": 1.0, "high": 5.0, "step": 0.5}


@pytest.fixture
def open_cached(trait_artifacts: list[LocalArtifact], open_desk: OpenDesk, tmp_path: Path) -> OpenDesk:
    """Opens the three models with a cache file, near-duplicates on and none verified."""
    return lambda **cache: open_desk(
        trait_artifacts, cache={"folder": tmp_path / "cache", "near": "on", "verified_share": 0.0, **cache}
    )


def test_the_cache_keeps_traits_with_the_score(open_cached: OpenDesk, trait_desk: Desk) -> None:
    cached = open_cached()
    computed, kept = scored(cached, ESSAY, "ensemble"), scored(cached, ESSAY, "ensemble")
    assert (computed.cache.tier, kept.cache.tier) == ("miss", "exact")
    assert kept.traits == computed.traits == scored(trait_desk, ESSAY, "ensemble").traits != []


def test_a_near_run_is_given_only_where_traits_keep_their_grades_too(open_cached: OpenDesk) -> None:
    desk = open_cached()
    essay, margins = next(
        (essay, margins)
        for essay in map(known_words, range(40))
        if min((margins := to_nearest_edges(desk, essay))[1:]) < margins[0] / 2
    )
    prove(desk, essay, margins[0] * 0.9, repeats=500)
    assert scored(desk, essay.replace("a pupil.", "a teacher."), "tiny").cache.tier == "miss", (
        "its score alone was steady"
    )
    prove(desk, essay, min(margins) * 0.9, repeats=1_000)
    near = scored(desk, essay.replace("a pupil.", "a school."), "tiny")
    assert near.cache.tier == "near"
    assert near.traits == scored(desk, essay, "tiny").traits


def known_words(number: int) -> str:
    """An essay that ends in words that the small model knows; a slip in one of them is no other input by accident."""
    return f"{ESSAY} {' '.join(random.Random(number).choices(WORDS, k=20))} and a pupil."


def to_nearest_edges(desk: Desk, essay: str) -> list[float]:
    """How far the raw scores of an essay, its own and its traits', may move until their grades are others."""
    model = desk.catalogue().models["tiny"]
    prompt = desk.catalogue().prompt(PROMPT, model)
    parts = asyncio.run(desk.scorer()._runs.collect(normalize_text(essay), prompt, [model], CacheMode.USE, 10))
    run = parts["tiny"].run
    calibrations = [model.calibration.of(PROMPT), *(trait.calibration for trait in TRAITS.traits)]
    raw_scores = (run.raw_unit_score, *run.raw_trait_scores)
    return [to_nearest_edge(raw, part) for raw, part in zip(raw_scores, calibrations, strict=True)]


def to_nearest_edge(raw: float, part: PromptCalibration) -> float:
    moves = np.linspace(0.0, 0.5, 5_001)
    grades = [grades_of(part, TRAITS.score_range, raw + sign * moves).scores for sign in (1, -1)]
    return float(moves[np.argmax((grades[0] != grades[0][0]) | (grades[1] != grades[1][0]))])


def prove(desk: Desk, essay: str, shift: float, repeats: int) -> None:
    """As if many near-duplicates had been scored anyway, scores and traits shifted so far, none to another grade."""
    cache = desk.scorer().cache
    assert cache
    digest = desk.catalogue().models["tiny"].artifact.digest
    kept = shift * shift_scale(len(cache.essay(essay).tokens))
    shifts = [(sign * kept,) * (1 + len(TRAITS.traits)) for sign in (-1, 1)]
    cache.verify([Check(digest, edits, each, 0.0, False) for edits in (1, 2) for each in shifts] * repeats)
    cache.settle()


def test_a_graph_whose_traits_are_not_those_at_publication_is_not_served(
    tmp_path: Path, extract: Callable[[Sequence[Path], Path], list[LocalArtifact]]
) -> None:
    made = MadeBundles(tmp_path / "bundles")
    made.tiny(traits=TRAITS)

    def change(folder: Path) -> None:
        golden = Golden.model_validate_json((folder / GOLDEN_FILE).read_bytes())
        moved = [
            each.model_copy(update={"raw_trait_scores": tuple(raw + 0.01 for raw in each.raw_trait_scores)})
            for each in golden.essays
        ]
        (folder / GOLDEN_FILE).write_text(Golden(essays=tuple(moved)).model_dump_json())

    changed = extract([made.changed("tiny", change, tmp_path / "changed")], tmp_path / "extracted")
    desk = Desk(ServiceSettings(lanes=1, cache={"store": "off"}))
    with pytest.raises(WarmUpFailed, match="the traits of golden essay 1 are not those at publication"):
        desk.open(changed, lambda _: None)
