"""Scores of real graphs through lanes, compared with the same road walked by hand."""

import asyncio
import re
import threading

import numpy as np
import pytest

from essays.ensemble import mix_unit_scores
from essays.errors import UnknownModel, UnknownPrompt, UnscorableEssay
from essays.gate import FlaggedEssay
from essays.text import normalize_text
from serving.catalogue import LocalArtifact
from serving.config import ServiceSettings
from serving.desk import Desk
from serving.errors import DeadlinePassed, InvalidRequest, Overloaded
from serving.runtimes.onnxruntime_cpu import OnnxRuntimeCpu
from serving.schemas import ScoreRequest, ScoreResponse
from tests.serving.conftest import held_lane

ESSAY = (
    "My school is small, and I like it. The teachers know every pupil by name, so when somebody is sad they see it."
    " However we have no laboratory, and I want to learn chemistry. People say a big school has more to offer."
)
LONG_ESSAY = " ".join([ESSAY] * 8)


def score(
    desk: Desk,
    essay: str = ESSAY,
    prompt_id: str = "ellipse-overall",
    model: str = "ensemble",
    *,
    advisory: bool = False,
) -> ScoreResponse:
    return asyncio.run(desk.scorer().score(essay, prompt_id, model, advisory=advisory))


def raw_by_hand(desk: Desk, name: str, essay: str, prompt_id: str) -> float:
    """The graph's own answer, without lanes or scorer."""
    model = desk.catalogue().models[name]
    (session,) = OnnxRuntimeCpu().open(model.manifest.graphs[0], model.artifact.folder, 1)
    assert model.encoder
    encoded = model.encoder.encode(normalize_text(essay), model.manifest.prompt_ids.index(prompt_id))
    return float(session.outputs(model.encoder.collate([encoded])).raw_unit_scores[0])


@pytest.mark.parametrize("name", ["lexical", "tiny"])
@pytest.mark.parametrize("prompt_id", ["ellipse-overall", "asap-1"])
def test_a_single_models_score_is_its_graphs_through_its_calibration(desk: Desk, name: str, prompt_id: str) -> None:
    answer = score(desk, prompt_id=prompt_id, model=name)
    model = desk.catalogue().models[name]
    prompt = desk.catalogue().prompt(prompt_id, model)
    expected = model.calibration.grade(prompt, raw_by_hand(desk, name, ESSAY, prompt_id))
    assert (answer.score, answer.interval) == (expected.score, expected.interval)
    assert answer.unit_score == pytest.approx(expected.unit_score, abs=1e-6)
    assert answer.score in prompt.score_range.grades()
    assert answer.model.digest == model.artifact.digest


def test_an_ensemble_mixes_calibrated_scores_and_calibrates_the_mix(desk: Desk) -> None:
    answer = score(desk)
    catalogue = desk.catalogue()
    members = {
        name: float(
            catalogue.models[name].calibration.unit_scores(
                "ellipse-overall", raw_by_hand(desk, name, ESSAY, "ellipse-overall")
            )
        )
        for name in ("lexical", "tiny")
    }
    ensemble = catalogue.models["ensemble"]
    mixed = float(mix_unit_scores({"lexical": 0.4, "tiny": 0.6}, members))
    expected = ensemble.calibration.grade(catalogue.prompt("ellipse-overall", ensemble), mixed)
    assert answer.unit_score == pytest.approx(expected.unit_score, abs=1e-6)
    assert answer.score == expected.score


@pytest.mark.row(30)
def test_an_essay_gets_one_score_alone_in_a_batch_and_reordered(desk: Desk) -> None:
    essays = [ESSAY, LONG_ESSAY, ESSAY.upper(), ESSAY.replace("school", "house")]
    # As advice, since they are near-duplicates.
    requests = [ScoreRequest(essay=essay, prompt_id="asap-1", model="tiny", advisory=True) for essay in essays]
    scorer = desk.scorer()
    forward = asyncio.run(scorer.score_batch(requests)).results
    backward = asyncio.run(scorer.score_batch(requests[::-1])).results[::-1]
    for essay, first, second in zip(essays, forward, backward, strict=True):
        alone = score(desk, essay, "asap-1", "tiny", advisory=True)
        assert first.result
        assert second.result
        assert first.result.unit_score == second.result.unit_score == alone.unit_score
    assert len({item.result.unit_score for item in forward if item.result}) > 1


def test_a_batch_gives_each_essay_its_result_or_its_error(desk: Desk) -> None:
    requests = [
        ScoreRequest(essay=ESSAY, prompt_id="asap-1"),
        ScoreRequest(essay="too short", prompt_id="asap-1"),
        ScoreRequest(essay=ESSAY, prompt_id="nowhere"),
        ScoreRequest(essay=ESSAY, prompt_id="asap-1", model="lexical"),
    ]
    results = asyncio.run(desk.scorer().score_batch(requests)).results
    assert [item.error.code if item.error else None for item in results] == [None, "too_short", "unknown_prompt", None]
    assert [item.result is None for item in results] == [False, True, True, False]


def test_a_flagged_essay_gets_reasons_and_a_score_only_as_advice(desk: Desk) -> None:
    with pytest.raises(FlaggedEssay) as caught:
        score(desk, LONG_ESSAY, model="lexical")
    assert [finding.reason for finding in caught.value.findings] == ["repetitive"]
    advice = score(desk, LONG_ESSAY, model="lexical", advisory=True)
    assert advice.advisory
    assert advice.hand_off
    assert advice.flags[0].code == "repetitive"
    ordinary = score(desk, model="lexical", advisory=True)
    assert not ordinary.advisory
    assert ordinary.flags == score(desk, model="lexical").flags


def test_near_duplicates_of_a_batch_are_refused_unless_as_advice_or_for_another_model(desk: Desk) -> None:
    changed = ESSAY.replace("chemistry", "physics")
    asked = [(ESSAY, "tiny", False), (ESSAY, "lexical", False), (changed, "tiny", False), (changed, "tiny", True)]
    requests = [
        ScoreRequest(essay=essay, prompt_id="asap-1", model=model, advisory=advisory)
        for essay, model, advisory in asked
    ]
    first, other, second, advice = asyncio.run(desk.scorer().score_batch(requests)).results
    assert other.result
    assert not other.result.advisory
    assert first.error
    assert second.error
    assert first.error.code == second.error.code == "near_duplicate"
    assert advice.result
    assert advice.result.advisory
    assert advice.result.unit_score == score(desk, changed, "asap-1", "tiny").unit_score


def test_a_batch_has_a_bound(desk: Desk) -> None:
    requests = [ScoreRequest(essay=ESSAY, prompt_id="asap-1")] * 9
    with pytest.raises(InvalidRequest, match="9 essays, at most 8"):
        asyncio.run(desk.scorer().score_batch(requests))


def test_a_comparison_holds_every_model_and_agrees_with_single_scores(desk: Desk) -> None:
    comparison = asyncio.run(desk.scorer().compare(ESSAY, "asap-1"))
    assert [answer.model.name for answer in comparison.results] == ["lexical", "tiny", "ensemble"]
    for answer in comparison.results:
        assert answer.unit_score == score(desk, prompt_id="asap-1", model=answer.model.name).unit_score
    unit_scores = [answer.unit_score for answer in comparison.results]
    assert comparison.disagreement.unit_spread == pytest.approx(max(unit_scores) - min(unit_scores))


def test_a_truncated_essay_says_so_and_is_handed_off(desk: Desk) -> None:
    answer = score(desk, LONG_ESSAY, model="tiny", advisory=True)
    assert answer.truncated
    assert answer.tokens_used == 128
    assert "truncated" in [flag.code for flag in answer.flags]
    assert answer.hand_off
    whole = score(desk, ESSAY, model="tiny")
    assert (whole.truncated, whole.tokens_used) == (False, len(re.findall(r"\w+|[^\w\s]+", ESSAY)))


def test_composed_and_decomposed_letters_get_one_score(desk: Desk) -> None:
    composed = ESSAY.replace("small", "caf\u00e9")
    decomposed = ESSAY.replace("small", "cafe\u0301")
    assert score(desk, composed, model="lexical").unit_score == score(desk, decomposed, model="lexical").unit_score


def test_timing_parts_fit_into_the_total(desk: Desk) -> None:
    timing = score(desk).timing_ms
    assert timing.infer > 0
    assert timing.total >= max(timing.queue, timing.tokenize, timing.infer)


def test_a_long_essay_is_read_beside_the_event_loop_and_a_short_one_on_it(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = []
    saw = desk.drift.saw_text
    monkeypatch.setattr(desk.drift, "saw_text", lambda *seen: threads.append(threading.current_thread()) or saw(*seen))
    for essay in (ESSAY, " ".join([ESSAY] * 40)):
        score(desk, essay, model="lexical", advisory=True)
    assert [thread is threading.main_thread() for thread in threads] == [True, False]


def test_unknown_names_list_the_known_ones(desk: Desk) -> None:
    with pytest.raises(UnknownModel, match="known: lexical, tiny, ensemble") as model:
        score(desk, model="gpt")
    assert model.value.field == "model"
    with pytest.raises(UnknownPrompt, match="known: ellipse-overall, asap-1") as prompt:
        score(desk, prompt_id="asap-2")
    assert prompt.value.field == "prompt_id"


def test_an_unscorable_essay_gets_no_number(desk: Desk) -> None:
    with pytest.raises(UnscorableEssay):
        score(desk, "   ")


def opened(artifacts: list[LocalArtifact], **settings: float) -> Desk:
    desk = Desk(ServiceSettings(**{"lanes": 1, "cache": {"store": "off"}, **settings}))
    desk.open(artifacts, lambda _: None)
    return desk


def test_beyond_the_bound_a_request_is_refused_and_nothing_of_it_started(artifacts: list[LocalArtifact]) -> None:
    desk = opened(artifacts, max_open_jobs=2)
    with held_lane(desk):
        # An ensemble of two needs two jobs, and there is room for one.
        with pytest.raises(Overloaded, match="1 jobs are open and at most 2"):
            score(desk, model="ensemble")
        assert desk.scorer().pool.open_jobs == 1
    assert score(desk, model="ensemble").score
    assert desk.scorer().pool.open_jobs == 0
    desk.close()


@pytest.mark.row(27)
def test_an_essay_that_waits_past_its_deadline_is_dropped_and_a_running_one_keeps_its_lane(
    artifacts: list[LocalArtifact],
) -> None:
    desk = opened(artifacts, timeout_s=0.2)
    with held_lane(desk):
        with pytest.raises(DeadlinePassed, match=r"within 0\.2 s"):
            score(desk, model="tiny")
        assert desk.scorer().pool.open_jobs == 1
    assert np.isfinite(score(desk, model="tiny").unit_score)
    desk.close()
