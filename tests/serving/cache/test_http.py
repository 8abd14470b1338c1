"""The cache over HTTP: headers, what a request allows, purging by an operator alone, status and metrics."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from serving.access import digest_of
from serving.catalogue import LocalArtifact
from serving.config import ServiceSettings
from serving.desk import Desk
from serving.routes import create_app

TOKEN = "operators-own-token"
OPERATOR = {"Authorization": f"Bearer {TOKEN}"}
ACCESS = {"keys": [{"name": "operator", "sha256": digest_of(TOKEN), "scopes": ["admin"]}]}
CANARY = "zebracanary"


@pytest.fixture
def desk(artifacts: list[LocalArtifact], tmp_path: Path) -> Iterator[Desk]:
    """A service with a cache of its own."""
    settings = {"lanes": 1, "cache": {"folder": tmp_path / "cache"}, "access": ACCESS}
    opened = Desk(ServiceSettings(**settings))
    opened.open(artifacts, lambda _: None)
    yield opened
    opened.close()


@pytest.fixture
def client(desk: Desk, tmp_path: Path) -> Iterator[TestClient]:
    with TestClient(create_app(lambda: desk, tmp_path)) as opened:
        yield opened


@pytest.fixture
def good(helpers: Any) -> dict[str, str]:
    return {"essay": helpers.ESSAY, "prompt_id": "ellipse-overall"}


def settled(desk: Desk) -> None:
    cache = desk.scorer().cache
    assert cache
    cache.settle()


def test_an_answer_says_where_it_came_from_and_how_old_it_is(
    client: TestClient, desk: Desk, good: dict[str, str]
) -> None:
    first = client.post("/score", json=good)
    settled(desk)
    second = client.post("/score", json=good)
    assert (first.headers["X-Cache"], "Age" in first.headers) == ("miss", False)
    assert (second.headers["X-Cache"], second.headers["Age"]) == ("exact", "0")
    assert second.json()["cache"]["tier"] == "exact"
    # What a browser or proxy may do with it is another matter.
    assert second.headers["Cache-Control"] == "no-store"
    compared = client.post("/compare", json=good)
    assert compared.headers["X-Cache"] == "exact"
    half = {"essays": [good, {**good, "prompt_id": "asap-1"}]}
    assert client.post("/score_batch", json=half).headers["X-Cache"] == "miss"
    assert "X-Cache" not in client.get("/prompts").headers


@pytest.mark.parametrize("directive", ["no-store", "No-Store, max-age=5", "private, no-store"])
def test_no_store_neither_looks_nor_keeps(directive: str, client: TestClient, desk: Desk, good: dict[str, str]) -> None:
    for _ in range(2):
        answer = client.post("/score", json=good, headers={"Cache-Control": directive})
        assert answer.headers["X-Cache"] == "bypass"
        settled(desk)
    assert client.post("/score", json=good).headers["X-Cache"] == "miss"


@pytest.mark.parametrize("directive", ["no-cache", "max-age=0"])
def test_no_cache_computes_and_keeps(directive: str, client: TestClient, desk: Desk, good: dict[str, str]) -> None:
    assert client.post("/score", json=good, headers={"Cache-Control": directive}).headers["X-Cache"] == "bypass"
    settled(desk)
    assert client.post("/score", json=good).headers["X-Cache"] == "exact"


@pytest.mark.parametrize(
    ("scope", "purged"),
    [({"model": "tiny"}, 1), ({"prompt_id": "ellipse-overall"}, 2), ({"everything": True}, 2), ({"model": "none"}, 0)],
)
def test_an_operator_purges(
    scope: dict[str, Any], purged: int, client: TestClient, desk: Desk, good: dict[str, str]
) -> None:
    client.post("/score", json=good)
    settled(desk)
    answer = client.post("/cache/purge", json=scope, headers=OPERATOR)
    assert (answer.status_code, answer.json()) == (200, {"purged": purged})
    assert client.post("/score", json=good).headers["X-Cache"] == ("miss" if purged else "exact")


def test_an_essay_is_purged_however_its_accents_and_line_ends_are_written(
    client: TestClient, desk: Desk, good: dict[str, str]
) -> None:
    essay = f"{good['essay']}\nIn the caf\u00e9."
    client.post("/score", json={**good, "essay": essay})
    settled(desk)
    other = essay.replace("\u00e9", "e\u0301").replace("\n", "\r\n")
    answer = client.post("/cache/purge", json={"essay": other}, headers=OPERATOR)
    assert answer.json() == {"purged": 2}


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": TOKEN[:-1]}])
def test_nobody_else_purges(headers: dict[str, str], client: TestClient) -> None:
    answer = client.post("/cache/purge", json={"everything": True}, headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "not_authenticated")
    assert TOKEN not in answer.text


def test_without_an_admins_key_nobody_purges(artifacts: list[LocalArtifact], tmp_path: Path) -> None:
    desk = Desk(ServiceSettings(lanes=1, cache={"store": "off"}))
    desk.open(artifacts, lambda _: None)
    with TestClient(create_app(lambda: desk, tmp_path)) as client:
        for headers in ({}, {"Authorization": "Bearer "}, OPERATOR):
            assert client.post("/cache/purge", json={"everything": True}, headers=headers).status_code == 401
        assert client.get("/status").json()["cache"]["store"] == "off"
    desk.close()


@pytest.mark.parametrize("scope", [{}, {"everything": False}, {"everything": True, "model": "tiny"}])
def test_a_purge_must_say_what(scope: dict[str, Any], client: TestClient) -> None:
    answer = client.post("/cache/purge", json=scope, headers=OPERATOR)
    assert (answer.status_code, answer.json()["error"]["field"]) == (422, "everything")


def test_a_purge_that_could_not_be_done_is_said(artifacts: list[LocalArtifact], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    settings = {"lanes": 1, "cache": {"folder": tmp_path / "file" / "cache"}, "access": ACCESS}
    desk = Desk(ServiceSettings(**settings))
    desk.open(artifacts, lambda _: None)
    with TestClient(create_app(lambda: desk, tmp_path)) as client:
        answer = client.post("/cache/purge", json={"everything": True}, headers=OPERATOR)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "cache_unavailable")
    desk.close()


def test_status_and_metrics_show_what_the_cache_does(client: TestClient, desk: Desk, good: dict[str, str]) -> None:
    for _ in range(3):
        client.post("/score", json={**good, "model": "tiny"})
        settled(desk)
    cache = desk.scorer().cache
    assert cache
    cache.tend()
    status = client.get("/status").json()["cache"]
    assert (status["store"], status["working"], status["fault"], status["entries"]) == ("embedded", True, None, 1)
    tiny = next(model for model in status["models"] if model["model"] == "tiny")
    assert (tiny["exact"], tiny["near"], tiny["computed"]) == (2, 0, 1)
    assert tiny["hit_rate"] == pytest.approx(2 / 3)
    assert tiny["saved_s"] > 0
    assert tiny["lookup_s"] > 0
    assert tiny["near_tier"]["state"] == "trying"
    assert tiny["near_tier"]["bound"] == 1.0
    metrics = client.get("/metrics").text
    assert 'fairmark_cache_runs_total{model="tiny",tier="exact"} 2.0' in metrics
    assert "fairmark_cache_working 1.0" in metrics
    assert "fairmark_cache_saved_seconds_total" in metrics


@pytest.mark.row(52)
def test_a_canary_reaches_no_file_log_metric_or_status(
    client: TestClient, desk: Desk, good: dict[str, str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    body = {**good, "essay": f"{good['essay']} My {CANARY} sings."}
    for _ in range(2):
        assert client.post("/score", json=body).status_code == 200
        settled(desk)
    client.post("/cache/purge", json={"essay": body["essay"], "prompt_id": CANARY}, headers=OPERATOR)
    shown = client.get("/metrics").text + json.dumps(client.get("/status").json()) + caplog.text
    desk.close()
    kept = b"".join(path.read_bytes() for path in (tmp_path / "cache").rglob("*") if path.is_file())
    assert kept
    assert CANARY not in shown
    assert CANARY.encode() not in kept
    assert TOKEN not in shown
