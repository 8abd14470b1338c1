"""The client against the real application, and against servers that are busy, gone or something else."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
from pydantic import BaseModel

from fairmark import answers
from fairmark.client import Client, EssayRequest, retry_after_s
from fairmark.errors import BadAnswer, ClientError, Refused, ServiceAway, ServiceBusy
from serving import schemas
from serving.errors import ErrorDetail
from tests.serving.processes import free_port

SAME = {
    answers.BarVerdict: schemas.BarVerdict,
    answers.BatchAnswer: schemas.BatchResponse,
    answers.BatchItem: schemas.BatchItem,
    answers.CacheMarker: schemas.CacheMarker,
    answers.Comparison: schemas.ComparisonResponse,
    answers.Disagreement: schemas.Disagreement,
    answers.Drift: schemas.DriftResponse,
    answers.DriftBin: schemas.DriftBin,
    answers.ErrorDetail: ErrorDetail,
    answers.Flag: schemas.Flag,
    answers.Limits: schemas.Limits,
    answers.ModelIdentity: schemas.ModelIdentity,
    answers.ModelInfo: schemas.ModelInfo,
    answers.Models: schemas.ModelsResponse,
    answers.ModelState: schemas.ModelState,
    answers.PromptDrift: schemas.PromptDrift,
    answers.PromptInfo: schemas.PromptInfo,
    answers.PromptQuality: schemas.PromptQuality,
    answers.Prompts: schemas.PromptsResponse,
    answers.QuantityDrift: schemas.QuantityDrift,
    answers.Score: schemas.ScoreResponse,
    answers.ScoreRange: schemas.ScoreRange,
    answers.Status: schemas.StatusResponse,
    answers.Timing: schemas.Timing,
    answers.TraitInfo: schemas.TraitInfo,
    answers.TraitScore: schemas.TraitScore,
    answers.Validity: schemas.ValidityResponse,
}
BUSY = b'{"error": {"code": "overloaded", "message": "too many essays wait", "field": null, "hint": null}}'
READY = b'{"ready": true, "models": [], "limits": {"max_body_bytes": 1, "max_characters": 1, "min_words": 1,\
 "max_batch_essays": 1, "timeout_s": 1}, "versions": {}}'
Answers = Sequence[tuple[int, dict[str, str], bytes]]


@contextmanager
def answering(replies: Answers) -> Iterator[tuple[str, list[float]]]:
    """A server that gives these answers one after the other, the last one for ever; with the moments it was asked."""
    asked: list[float] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, headers, body = replies[min(len(asked), len(replies) - 1)]
            asked.append(time.monotonic())
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_every_type_names_only_fields_that_the_service_gives() -> None:
    ours = {kind for kind in vars(answers).values() if isinstance(kind, type) and issubclass(kind, BaseModel)}
    assert ours - {BaseModel, answers.Answer} == set(SAME)
    unknown = {
        f"{kind.__name__}.{name}"
        for kind, theirs in SAME.items()
        for name in kind.model_fields
        if name not in theirs.model_fields
    }
    assert unknown == set()


@pytest.mark.parametrize("key", ["schlüssel", "fm_key\r", "two words"])
def test_a_key_that_cannot_be_one_is_said_to_be_wrong_and_never_shown(key: str) -> None:
    with pytest.raises(ClientError, match="the API key holds a character that none has") as caught:
        Client(api_key=key)
    assert key.strip() not in str(caught.value)


def test_answers_are_the_services(address: str, essay: str) -> None:
    with Client(address) as service, httpx.Client(base_url=address) as http:
        raw = http.post("/score", json={"essay": essay, "prompt_id": "asap-1", "model": "tiny"}).json()
        score = service.score(essay, "asap-1", "tiny")
        assert (score.score, list(score.interval)) == (raw["score"], raw["interval"])
        assert score.model.name == "tiny"
        assert [each.model.name for each in service.compare(essay, "asap-1").results] == ["lexical", "tiny", "ensemble"]
        good, bad = service.score_batch([EssayRequest(essay, "asap-1"), EssayRequest("short", "asap-1")])
        assert good.result
        assert bad.error
        assert bad.error.code == "too_short"
        assert service.models().default == "ensemble"
        assert [prompt.prompt_id for prompt in service.prompts().prompts] == ["ellipse-overall", "asap-1"]
        assert service.status().limits.max_batch_essays == 8


def test_a_refusal_says_why_and_is_not_tried_again(address: str) -> None:
    with Client(address) as service:
        started = time.monotonic()
        with pytest.raises(Refused, match="at least 21 are needed") as caught:
            service.score("Too short.", "asap-1")
        assert (caught.value.status, caught.value.detail.code) == (422, "too_short")
        with pytest.raises(Refused) as caught:
            service.score("Too short.", "asap-1", "gpt")
        assert caught.value.status == 404
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_service_is_asked_again_when_it_says(status: int) -> None:
    replies = [(status, {"Retry-After": "1"}, BUSY), (status, {"Retry-After": "2"}, BUSY), (200, {}, READY)]
    with answering(replies) as (url, asked), Client(url) as service:
        assert service.status().ready
    first, second, third = asked
    assert 1 <= second - first < 5
    assert 2 <= third - second < 6


@pytest.mark.parametrize(
    ("reply", "reason"),
    [((503, {"Retry-After": "30"}, BUSY), "too many essays wait"), ((502, {}, b"<html>"), "answers 502")],
)
def test_patience_ends_with_what_the_service_said(reply: tuple[int, dict[str, str], bytes], reason: str) -> None:
    started = time.monotonic()
    with answering([reply]) as (url, _), Client(url, patience_s=1) as service, pytest.raises(ServiceBusy, match=reason):
        service.status()
    assert time.monotonic() - started < 10


@pytest.mark.parametrize("reply", [(200, {}, b"<html>"), (200, {}, b'{"ready": true}'), (404, {}, b"nothing here")])
def test_another_program_is_told_from_a_service(reply: tuple[int, dict[str, str], bytes]) -> None:
    with answering([reply]) as (url, asked), Client(url) as service, pytest.raises(BadAnswer, match="Fairmark does"):
        service.status()
    assert len(asked) == 1


def test_a_service_that_never_answered_is_not_waited_for() -> None:
    started = time.monotonic()
    with Client(f"http://127.0.0.1:{free_port()}") as service, pytest.raises(ServiceAway, match="the address right"):
        service.status()
    assert time.monotonic() - started < 5


def test_closing_ends_what_waits_in_another_thread() -> None:
    with answering([(503, {"Retry-After": "60"}, BUSY)]) as (url, asked):
        service = Client(url, patience_s=600)
        faults: list[Exception] = []

        def ask() -> None:
            try:
                service.status()
            except ServiceBusy as fault:
                faults.append(fault)

        thread = threading.Thread(target=ask)
        thread.start()
        while not asked:
            time.sleep(0.01)
        time.sleep(0.2)
        service.close()
        thread.join(10)
        assert not thread.is_alive()
        assert faults


@pytest.mark.parametrize(
    ("value", "expected"),
    [("7", 7), ("", 0), ("soon", 0), ("Sun, 01 Nov 2026 00:00:00 GMT", 0)],
)
def test_retry_after_is_read_as_seconds_or_date(value: str, expected: float) -> None:
    assert retry_after_s(httpx.Response(503, headers={"Retry-After": value})) == expected


def test_retry_after_as_a_date_is_a_wait_from_now() -> None:
    when = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    assert 90 < retry_after_s(httpx.Response(503, headers={"Retry-After": when})) <= 100
