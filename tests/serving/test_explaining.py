"""Explanations by leaving sentences out: right to the last digit, bounded, and no one else's wait."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from starlette.testclient import TestClient

from essays.manifest import RunMemory
from serving import memory
from serving.catalogue import LocalArtifact
from serving.desk import Desk
from serving.errors import DeadlinePassed, Overloaded
from serving.routes import create_app
from serving.sentences import split_sentences
from tests.made_essays import made_essay

ESSAY = made_essay(3, 6)
GOOD = {"essay": ESSAY, "prompt_id": "ellipse-overall", "model": "tiny"}
OpenDesk = Callable[..., Desk]


@pytest.fixture
def client(desk: Desk, tmp_path: Path) -> TestClient:
    return TestClient(create_app(lambda: desk, tmp_path))


def unit_score(client: TestClient, essay: str, model: str) -> float:
    answer = client.post("/score", json={**GOOD, "essay": essay, "model": model, "advisory": True})
    return float(answer.json()["unit_score"])


@pytest.mark.parametrize("model", ["lexical", "tiny", "ensemble"])
def test_each_sentence_adds_what_the_score_loses_without_it(client: TestClient, model: str) -> None:
    explained = client.post("/explain", json={**GOOD, "model": model}).json()
    parts = split_sentences(ESSAY)
    assert [each["text"] for each in explained["sentences"]] == parts
    assert len(parts) == 6
    assert "".join(parts) == ESSAY
    whole = unit_score(client, ESSAY, model)
    assert explained["result"]["unit_score"] == whole
    for place, each in enumerate(explained["sentences"]):
        rest = "".join(parts[:place] + parts[place + 1 :]).strip()
        assert each["points"] == pytest.approx(4 * (whole - unit_score(client, rest, model)), abs=1e-6)
    assert len({round(each["points"], 4) for each in explained["sentences"]}) > 1


def test_many_sentences_are_explained_by_passages(artifacts: list[LocalArtifact], open_desk: OpenDesk) -> None:
    desk = open_desk(artifacts, explain={"max_parts": 5})
    client = TestClient(create_app(lambda: desk, Path()))
    explained = client.post("/explain", json={**GOOD, "essay": made_essay(4, 30)}).json()
    assert 4 <= len(explained["sentences"]) <= 5
    assert "".join(each["text"] for each in explained["sentences"]) == made_essay(4, 30)
    assert client.get("/status").json()["limits"]["max_explained_parts"] == 5


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"essay": " ".join(["and so we went on"] * 8)}, 422, "repetitive"),
        ({"essay": "school people learn because the teacher and a pupil think however they stay at home in the rain"
          " until the bus comes late again today"}, 422, "invalid_request"),
        ({"essay": ""}, 422, "empty"),
        ({"model": "gpt"}, 404, "unknown_model"),
    ],
)  # fmt: skip
def test_what_cannot_be_explained_is_refused_in_words(
    client: TestClient, change: dict[str, str], status: int, code: str
) -> None:
    answer = client.post("/explain", json={**GOOD, **change})
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert "teacher" not in answer.text


async def explain(desk: Desk, number: int) -> None:
    with desk.in_use() as scorer:
        await scorer.explain(made_essay(number, 12), "ellipse-overall", "tiny")


def test_only_so_many_essays_are_explained_at_a_time(artifacts: list[LocalArtifact], open_desk: OpenDesk) -> None:
    desk = open_desk(artifacts, explain={"at_once": 2})

    async def five() -> list[object]:
        return await asyncio.gather(*(explain(desk, number) for number in range(5)), return_exceptions=True)

    assert [type(outcome) for outcome in asyncio.run(five())] == [type(None)] * 2 + [Overloaded] * 3
    # Their places are free again, also after one that failed.
    asyncio.run(explain(desk, 9))
    late = open_desk(artifacts, explain={"at_once": 1, "timeout_s": 1e-6})
    for _ in range(2):
        with pytest.raises(DeadlinePassed):
            asyncio.run(explain(late, 1))
    assert late.scorer().pool.open_jobs == 0


def test_an_essay_is_explained_where_the_memory_for_its_runs_is_there(
    artifacts: list[LocalArtifact], open_desk: OpenDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = open_desk(artifacts)
    models = desk.catalogue().models
    needs = RunMemory(load_bytes=1, bytes_per_token=10**6, bytes_per_token_pair=0, attention_bytes_per_token_pair=0)
    tiny = models["tiny"]
    monkeypatch.setitem(models, "tiny", replace(tiny, manifest=tiny.manifest.model_copy(update={"memory": needs})))
    client = TestClient(create_app(lambda: desk, Path()))
    monkeypatch.setattr(memory, "free_bytes", lambda: 10**6 + memory.RESERVE_BYTES)
    for call in ("/score", "/explain"):
        answer = client.post(call, json=GOOD)
        assert (answer.status_code, answer.json()["error"]["code"]) == (429, "overloaded"), call
        assert int(answer.headers["retry-after"]) >= 1
    assert client.post("/explain", json={**GOOD, "model": "lexical"}).status_code == 200
    monkeypatch.setattr(memory, "free_bytes", lambda: 10**12)
    assert client.post("/explain", json=GOOD).status_code == 200


def test_a_score_does_not_wait_behind_an_explanation(artifacts: list[LocalArtifact], open_desk: OpenDesk) -> None:
    """One lane, and an explanation of forty runs in hand: a score comes before its end."""
    desk = open_desk(artifacts)
    transport = httpx.ASGITransport(create_app(lambda: desk, Path()))

    async def overtake() -> tuple[int, bool, int]:
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            explaining = asyncio.create_task(client.post("/explain", json={**GOOD, "essay": made_essay(5, 200)}))
            while not desk.scorer().pool.open_jobs:
                await asyncio.sleep(0)
            scored = await client.post("/score", json=GOOD)
            overtook = not explaining.done()
            return scored.status_code, overtook, len((await explaining).json()["sentences"])

    status, overtook, num_parts = asyncio.run(overtake())
    assert (status, overtook) == (200, True)
    assert num_parts > 30
