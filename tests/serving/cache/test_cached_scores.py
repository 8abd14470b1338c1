"""Scores of real graphs through the cache: the same as without it, or said to be near and proved to be safe."""

import asyncio
import itertools
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from essays.ensemble import mix_unit_scores
from serving.cache.proof import MIN_GRADES, shift_scale
from serving.cache.runs import CacheMode
from serving.cache.sql_store import Check
from serving.catalogue import LocalArtifact
from serving.config import ServiceSettings
from serving.desk import Desk
from serving.errors import DeadlinePassed, Overloaded
from serving.lanes import Job
from serving.schemas import ScoreResponse
from serving.traits import trait_source

PROMPT = "ellipse-overall"
OpenDesk = Callable[..., Desk]


@pytest.fixture
def open_desk(artifacts: list[LocalArtifact], tmp_path: Path) -> Iterator[OpenDesk]:
    """Opens services of the three small models, by default with one cache file, and closes them."""
    opened: list[Desk] = []

    def open_one(models: list[LocalArtifact] | None = None, lanes: int = 2, **cache: Any) -> Desk:
        desk = Desk(ServiceSettings(lanes=lanes, cache={"folder": tmp_path / "cache", "near": "on", **cache}))
        desk.open(models or artifacts, lambda _: None)
        opened.append(desk)
        return desk

    yield open_one
    for desk in opened:
        desk.close()


def score(
    desk: Desk, essay: str, model: str = "ensemble", mode: CacheMode = CacheMode.USE, prompt_id: str = PROMPT
) -> ScoreResponse:
    answer = asyncio.run(desk.scorer().score(essay, prompt_id, model, mode))
    cache = desk.scorer().cache
    if cache is not None:
        cache.settle()
    return answer


def said(answer: ScoreResponse) -> dict[str, Any]:
    """What an answer says of the essay."""
    return answer.model_dump(exclude={"cache", "timing_ms"})


@pytest.mark.parametrize("model", ["lexical", "tiny", "ensemble"])
def test_a_kept_answer_is_the_computed_one(model: str, desk: Desk, open_desk: OpenDesk, helpers: Any) -> None:
    cached = open_desk()
    plain = score(desk, helpers.ESSAY, model)
    first, second = score(cached, helpers.ESSAY, model), score(cached, helpers.ESSAY, model)
    assert said(plain) == said(first) == said(second)
    assert (plain.cache.tier, first.cache.tier, second.cache.tier) == ("off", "miss", "exact")
    assert first.cache.age_s is None
    assert second.cache.age_s is not None
    assert second.timing_ms.infer == 0


def test_members_an_ensemble_and_a_comparison_help_each_other(open_desk: OpenDesk, helpers: Any) -> None:
    desk = open_desk()
    score(desk, helpers.ESSAY, "ensemble")
    for model in ("lexical", "tiny"):
        assert score(desk, helpers.ESSAY, model).cache.tier == "exact"
    comparison = asyncio.run(desk.scorer().compare(helpers.ESSAY, PROMPT))
    assert [answer.cache.tier for answer in comparison.results] == ["exact"] * 3
    slip = helpers.ESSAY.replace("pupil", "teacher")
    score(desk, slip, "tiny")
    half = score(desk, slip, "ensemble")
    assert half.cache.tier == "miss"
    cache = desk.scorer().cache
    assert cache
    assert cache.ledger.account("tiny").computed == 2
    assert cache.ledger.account("lexical").computed == 2


def test_another_prompt_is_another_score(open_desk: OpenDesk, helpers: Any) -> None:
    desk = open_desk()
    score(desk, helpers.ESSAY)
    assert score(desk, helpers.ESSAY, prompt_id="asap-1").cache.tier == "miss"


def test_texts_that_a_tokenizer_does_not_tell_apart_share_a_run(open_desk: OpenDesk, helpers: Any) -> None:
    desk = open_desk()
    first = score(desk, helpers.ESSAY, "tiny")
    spaced = score(desk, helpers.ESSAY.replace(" ", "\n"), "tiny")
    assert spaced.cache.tier == "exact"
    assert spaced.unit_score == first.unit_score
    assert score(desk, helpers.ESSAY.replace(" ", "\n"), "lexical").cache.tier == "miss"


def test_no_store_keeps_nothing_and_no_cache_keeps_a_new_one(open_desk: OpenDesk, helpers: Any) -> None:
    desk = open_desk()
    assert score(desk, helpers.ESSAY, mode=CacheMode.BYPASS).cache.tier == "bypass"
    assert score(desk, helpers.ESSAY).cache.tier == "miss"
    assert score(desk, helpers.ESSAY, mode=CacheMode.BYPASS).cache.tier == "bypass"
    assert score(desk, helpers.ESSAY, mode=CacheMode.REFRESH).cache.tier == "bypass"
    again = score(desk, helpers.ESSAY)
    assert again.cache.tier == "exact"


def together(desk: Desk, essays: list[str], model: str = "ensemble") -> list[ScoreResponse]:
    async def all_at_once() -> list[ScoreResponse]:
        return await asyncio.gather(*(desk.scorer().score(essay, PROMPT, model) for essay in essays))

    return asyncio.run(all_at_once())


def test_identical_essays_in_flight_are_computed_once(open_desk: OpenDesk, helpers: Any) -> None:
    desk = open_desk()
    answers = together(desk, [helpers.ESSAY] * 16 + [f"{helpers.ESSAY} No!"])
    assert len({answer.unit_score for answer in answers[:16]}) == 1
    cache = desk.scorer().cache
    assert cache
    assert cache.ledger.account("tiny").computed == 2
    assert cache.ledger.account("lexical").computed == 2
    cache.settle()
    assert len(desk.scorer()._runs._flights) == 0


def test_a_leader_that_leaves_takes_nobody_with_it(open_desk: OpenDesk, helpers: Any) -> None:
    desk = open_desk(lanes=1)

    async def leave() -> ScoreResponse:
        scorer = desk.scorer()
        leader = asyncio.create_task(scorer.score(helpers.ESSAY, PROMPT, "tiny"))
        await asyncio.sleep(0)
        follower = asyncio.create_task(scorer.score(helpers.ESSAY, PROMPT, "tiny"))
        await asyncio.sleep(0)
        leader.cancel()
        return await follower

    assert math.isfinite(asyncio.run(leave()).unit_score)
    cache = desk.scorer().cache
    assert cache
    cache.settle()
    assert len(desk.scorer()._runs._flights) == 0


def test_a_follower_waits_no_longer_than_it_may(artifacts: list[LocalArtifact], tmp_path: Path, helpers: Any) -> None:
    settings = {"lanes": 1, "timeout_s": 0.3, "max_open_jobs": 2, "cache": {"folder": tmp_path / "cache"}}
    desk = Desk(ServiceSettings(**settings))
    desk.open(artifacts, lambda _: None)

    async def wait() -> list[Any]:
        pool = desk.scorer().pool
        block = asyncio.create_task(pool.run([Job(lambda _: time.sleep(1), "held", 1)], 5))
        await asyncio.sleep(0.05)
        essays = (desk.scorer().score(helpers.ESSAY, PROMPT, "tiny") for _ in range(3))
        outcomes = await asyncio.gather(*essays, return_exceptions=True)
        await block
        return outcomes

    assert {type(outcome) for outcome in asyncio.run(wait())} <= {DeadlinePassed, Overloaded}
    assert math.isfinite(score(desk, helpers.ESSAY, "tiny").unit_score)
    desk.close()


def slips(essay: str, number: int) -> list[str]:
    """The essay with one of its words replaced, in many ways."""
    words = essay.split(" ")
    return [" ".join([*words[:place], f"w{place}x", *words[place + 1 :]]) for place in range(3, 3 + number)]


def prove(desk: Desk, shift: float) -> None:
    """As if enough had been verified of every model, half of the scores shifted up by this and half down."""
    cache = desk.scorer().cache
    assert cache
    for model in desk.catalogue().models.values():
        source = trait_source(desk.catalogue(), model, PROMPT)
        grades = 1 + (len(source.traits.traits) if source else 0)
        checks = [Check(model.artifact.digest, 1, (sign * shift,) * grades, 0.0, False) for sign in (-1, 1)]
        cache.verify(checks * (MIN_GRADES // 2))
    cache.settle()


def test_unproved_a_slip_is_found_verified_and_scored(open_desk: OpenDesk, desk: Desk, helpers: Any) -> None:
    cached = open_desk()
    score(cached, helpers.ESSAY, "lexical")
    for slip in slips(helpers.ESSAY, 5):
        answer = score(cached, slip, "lexical")
        assert answer.cache.tier == "miss"
        assert said(answer) == said(score(desk, slip, "lexical"))
    cache = cached.scorer().cache
    assert cache
    assert cache.ledger.account("lexical").near_found == 5
    digest = cached.catalogue().models["lexical"].artifact.digest
    # A word and the mark behind it are two.
    shifts = [shift for (subject, *_), known in cache.proof._shifts.items() if subject == digest for shift in known]
    assert len(shifts) == 5
    size = shift_scale(len(cache.essay(helpers.ESSAY).tokens))
    assert all(0 <= abs(shift[0]) < 0.2 * size for shift in shifts)
    assert any(shift[0] for shift in shifts)
    assert cache.proof.state(digest) == "proving"


def test_proved_a_slip_gets_the_kept_run_says_so_and_is_not_kept_itself(open_desk: OpenDesk, helpers: Any) -> None:
    desk = open_desk(verified_share=0.0)
    original = score(desk, helpers.ESSAY)
    prove(desk, shift=1e-9)
    near = score(desk, helpers.SLIP)
    assert near.cache.tier == "near"
    assert near.cache.age_s is not None
    assert said(near) == said(original)
    cache = desk.scorer().cache
    assert cache
    cache.tend()
    assert cache.entries == 1
    # A chain of slips does not lead away: the second is compared with the essay that was scored.
    words = helpers.ESSAY.split(" ")
    far = " ".join(["Our", *words[1:5], "adore", *words[6:-1], "give."])
    assert score(desk, far).cache.tier == "miss"


def test_of_a_near_ensemble_the_cheap_member_is_made_and_the_answer_says_near(
    open_desk: OpenDesk, desk: Desk, helpers: Any
) -> None:
    cached = open_desk(verified_share=0.0)
    original = score(cached, helpers.ESSAY)
    prove(cached, shift=1e-9)
    cache = cached.scorer().cache
    assert cache
    # As if the encoder were a large one.
    cache.ledger.computed("tiny", 10.0, bypassed=False)
    near = score(cached, helpers.SLIP)
    assert near.cache.tier == "near"
    assert near.cache.age_s is not None
    made, kept = score(desk, helpers.SLIP, "lexical"), score(desk, helpers.ESSAY, "tiny")
    mixed = mix_unit_scores(
        cached.catalogue().models["ensemble"].weights(PROMPT),
        {"lexical": made.unit_score, "tiny": kept.unit_score},
    )
    calibration = cached.catalogue().models["ensemble"].calibration
    assert near.unit_score == pytest.approx(float(calibration.unit_scores(PROMPT, mixed)), abs=1e-6)
    assert near.unit_score != original.unit_score
    assert cache.ledger.account("lexical").computed == 2


def test_proved_but_at_risk_of_another_grade_a_slip_is_scored(open_desk: OpenDesk, desk: Desk, helpers: Any) -> None:
    cached = open_desk(verified_share=0.0)
    score(cached, helpers.ESSAY)
    prove(cached, shift=10.0)
    answer = score(cached, helpers.SLIP)
    assert answer.cache.tier == "miss"
    assert said(answer) == said(score(desk, helpers.SLIP))
    cache = cached.scorer().cache
    assert cache
    assert cache.ledger.account("tiny").unsteady == 1


def test_an_alarm_closes_the_tier_for_its_model_and_every_answer_that_mixes_it(
    open_desk: OpenDesk, helpers: Any
) -> None:
    desk = open_desk(verified_share=0.0)
    score(desk, helpers.ESSAY)
    prove(desk, shift=1e-9)
    cache = desk.scorer().cache
    assert cache
    ensemble = desk.catalogue().models["ensemble"].artifact.digest
    cache.verify([Check(ensemble, 1, (0.0,), 0.0, True)] * 10)
    assert score(desk, helpers.SLIP, "ensemble").cache.tier == "miss"
    info = {each.model: each.near_tier for each in desk.status().cache.models}
    assert info["ensemble"].state == "alarm"
    assert info["ensemble"].alarm
    assert "another grade" in info["ensemble"].alarm
    assert b'fairmark_cache_alarm{model="ensemble"} 1.0' in desk.render_metrics()


def test_by_itself_the_tier_is_on_only_where_it_pays(open_desk: OpenDesk, helpers: Any) -> None:
    desk = open_desk(near="auto", verified_share=0.0)
    score(desk, helpers.ESSAY, "tiny")
    prove(desk, shift=1e-9)
    cache = desk.scorer().cache
    assert cache

    def state() -> str:
        return next(info.near_tier.state for info in desk.status().cache.models if info.model == "tiny")

    assert state() == "trying"
    for _ in range(250):
        cache.ledger.looked_near("tiny", 0.001, found=False)
    assert state() == "does_not_pay"
    for _ in range(250):
        cache.ledger.looked_near("tiny", 1e-9, found=True)
    cache.ledger.computed("tiny", 100.0, bypassed=False)
    assert state() == "on"
    assert score(desk, helpers.SLIP, "tiny").cache.tier == "near"


def test_switched_off_no_slip_is_looked_for(open_desk: OpenDesk, helpers: Any) -> None:
    desk = open_desk(near="off")
    score(desk, helpers.ESSAY)
    score(desk, helpers.SLIP)
    cache = desk.scorer().cache
    assert cache
    assert cache.ledger.account("tiny").near_lookups == 0
    assert {info.near_tier.state for info in desk.status().cache.models} == {"off"}


@pytest.mark.row(31)
@pytest.mark.parametrize("broken", ["file in the way", "nobody there"])
def test_without_a_working_cache_every_score_is_computed(
    broken: str, open_desk: OpenDesk, desk: Desk, helpers: Any, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    settings = (
        {"folder": tmp_path / "file" / "cache"}
        if broken == "file in the way"
        else {"store": "postgresql://127.0.0.1:9/x", "key": "sixteen characters"}
    )
    cached = open_desk(**settings)
    for _ in range(2):
        answer = score(cached, helpers.ESSAY)
        assert answer.cache.tier == "miss"
        assert said(answer) == said(score(desk, helpers.ESSAY))
    status = cached.status().cache
    assert not status.working
    assert status.fault


@pytest.fixture
def versions(
    other_bundles: Any, artifacts: list[LocalArtifact], extract: Any, tmp_path: Path
) -> list[list[LocalArtifact]]:
    """The tiny model in two versions that score apart."""
    changed = extract([other_bundles.paths["tiny"]], tmp_path / "extracted")
    return [[each for each in artifacts if each.name == "tiny"], changed]


@pytest.mark.row(23)
def test_a_version_swapped_under_load_never_gets_the_others_scores(
    versions: list[list[LocalArtifact]], open_desk: OpenDesk, helpers: Any
) -> None:
    old, new = (open_desk(version, verified_share=0.0) for version in versions)
    essays = [f"{helpers.ESSAY} Sentence {number} is here, the people think." for number in range(12)]
    off = [open_desk(version, store="off") for version in versions]
    expected = {
        desk.catalogue().models["tiny"].artifact.digest: {
            essay: score(plain, essay, "tiny").unit_score for essay in essays
        }
        for desk, plain in zip((old, new), off, strict=True)
    }
    assert len(expected) == 2
    first, second = expected.values()
    assert all(abs(first[essay] - second[essay]) > 1e-3 for essay in essays)
    served = [old]

    async def load(number: int) -> list[tuple[str, float, str]]:
        answers = []
        for essay in itertools.islice(itertools.cycle(essays), number, number + 60):
            answer = await served[0].scorer().score(essay, PROMPT, "tiny")
            answers.append((answer.model.digest, answer.unit_score, essay))
            if number == 0 and len(answers) in (20, 45):
                served[0] = new if len(answers) == 20 else old
        return answers

    async def loads() -> list[list[tuple[str, float, str]]]:
        return await asyncio.gather(*map(load, range(4)))

    answers = [answer for part in asyncio.run(loads()) for answer in part]
    assert {digest for digest, _, _ in answers} == set(expected)
    for digest, unit_score, essay in answers:
        assert unit_score == expected[digest][essay]


def test_two_instances_on_one_postgres_share_hits_and_purges(
    postgres_url: str, open_desk: OpenDesk, helpers: Any
) -> None:
    first, second = (open_desk(store=postgres_url) for _ in range(2))
    computed = score(first, helpers.ESSAY)
    shared = score(second, helpers.ESSAY)
    assert (computed.cache.tier, shared.cache.tier) == ("miss", "exact")
    assert said(computed) == said(shared)
    cache = second.scorer().cache
    assert cache
    assert cache.purge(text=helpers.ESSAY) == 2
    assert score(first, helpers.ESSAY, "tiny").cache.tier == "miss"
    assert score(second, helpers.ESSAY, "tiny").cache.tier == "exact"
