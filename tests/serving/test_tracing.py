"""Traces: off unless asked for, nothing of an essay in them, and no answer that waits for a collector."""

import logging
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from pydantic import ValidationError
from starlette.testclient import TestClient

from essays.settings import StoreSettings
from essays.store import open_store
from serving.catalogue import LocalArtifact
from serving.desk import Desk
from serving.routes import create_app
from serving.tracing import TracingSettings
from tests.made_essays import made_essay
from tests.serving.processes import serving
from tests.serving.traffic import wait_until

CANARY = "zebracanary"
PLAIN = {"essay": made_essay(1), "prompt_id": "asap-1"}
REQUEST_ID = "0123456789abcdef" * 2
ATTRIBUTES = {
    "http.request.method", "http.route", "http.response.status_code",
    "fairmark.request_id", "fairmark.model", "fairmark.lane", "fairmark.tokens",
}  # fmt: skip
OpenDesk = Callable[..., Desk]


class Collector:
    """Takes OTLP over HTTP, as an OpenTelemetry collector does, and keeps what came."""

    def __init__(self, pause: threading.Event | None = None) -> None:
        self.bodies: list[bytes] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if pause is not None:
                    pause.wait(30)
                collector.bodies.append(body)
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self.server.server_address[1]}/v1/traces"

    @property
    def spans(self) -> list[Span]:
        requests = [ExportTraceServiceRequest.FromString(body) for body in self.bodies]
        return [
            span
            for request in requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]


@contextmanager
def collecting(pause: threading.Event | None = None) -> Iterator[Collector]:
    collector = Collector(pause)
    thread = threading.Thread(target=collector.server.serve_forever)
    thread.start()
    try:
        yield collector
    finally:
        collector.server.shutdown()
        collector.server.server_close()
        thread.join()


def client_of(desk: Desk, folder: Path) -> TestClient:
    return TestClient(create_app(lambda: desk, folder), raise_server_exceptions=False)


def attributes(span: Span) -> dict[str, str | int]:
    return {each.key: each.value.string_value or each.value.int_value for each in span.attributes}


def test_a_trace_holds_every_step_and_nothing_of_the_caller(
    open_desk: OpenDesk, artifacts: list[LocalArtifact], tmp_path: Path
) -> None:
    with collecting() as collector:
        cache = {"folder": tmp_path / "cache", "near": "on"}
        desk = open_desk(artifacts, cache=cache, tracing={"endpoint": collector.endpoint})
        essay = f"{made_essay(1)} {CANARY}"
        headers = {"X-Request-ID": REQUEST_ID, "traceparent": f"00-{'a' * 32}-{'b' * 16}-01", "tracestate": CANARY}
        with client_of(desk, tmp_path) as client:
            good = {**PLAIN, "essay": essay}
            assert client.post("/score", json=good, headers=headers, params={CANARY: CANARY}).status_code == 200
            assert client.post("/score", json={**good, "model": CANARY}).status_code == 404
            assert client.post("/score", json={**good, CANARY: CANARY}).status_code == 422
        desk.close()
        spans = collector.spans
    assert CANARY.encode() not in b"".join(collector.bodies)
    first = next(span for span in spans if attributes(span).get("fairmark.request_id") == REQUEST_ID)
    assert (first.name, attributes(first)["http.response.status_code"]) == ("POST /score", 200)
    assert first.parent_span_id == b""
    assert first.trace_id != bytes.fromhex("a" * 32)
    trace = {span.span_id: span for span in spans if span.trace_id == first.trace_id}
    tree = sorted(
        (trace[span.parent_span_id].name if span.parent_span_id else "", span.name) for span in trace.values()
    )
    per_model = [("lanes", "run"), ("run", "encode"), ("run", "infer")]
    looked_up = [("POST /score", "cache.exact")] * 2 + [("POST /score", "cache.near")]
    assert tree == sorted([("", "POST /score"), *looked_up, ("POST /score", "lanes"), *per_model * 2])
    assert {attributes(span)["fairmark.model"] for span in trace.values() if span.name == "run"} == {"lexical", "tiny"}
    for span in trace.values():
        assert first.start_time_unix_nano <= span.start_time_unix_nano <= span.end_time_unix_nano
    assert {key for span in spans for key in attributes(span)} <= ATTRIBUTES
    assert not [span for span in spans if span.events]
    statuses = {attributes(span).get("http.response.status_code") for span in spans if not span.parent_span_id}
    assert statuses == {200, 404, 422}


def test_a_run_that_fails_is_marked_without_its_message(
    open_desk: OpenDesk, bundles: Any, extract: Callable[..., list[LocalArtifact]], tmp_path: Path
) -> None:
    made = type(bundles)(tmp_path / "bundles")
    artifacts = extract([made.poisoned("zyzzyva", "quagga")], tmp_path / "models")
    with collecting() as collector:
        desk = open_desk(artifacts, runtime="onnxruntime", tracing={"endpoint": collector.endpoint})
        with client_of(desk, tmp_path) as client:
            essay = f"{made_essay(1)} {CANARY} zyzzyva."
            assert client.post("/score", json={**PLAIN, "essay": essay, "model": "tiny"}).status_code == 500
        desk.close()
        (request,) = [span for span in collector.spans if not span.parent_span_id]
    assert {span.name for span in collector.spans} == {"POST /score", "lanes", "run", "encode", "infer"}
    assert (request.status.code, request.status.message) == (Status.STATUS_CODE_ERROR, "")
    assert not [span for span in collector.spans if span.events or span.status.message]
    assert CANARY.encode() not in b"".join(collector.bodies)


def test_a_share_is_traced_whole(open_desk: OpenDesk, artifacts: list[LocalArtifact], tmp_path: Path) -> None:
    with collecting() as collector:
        tracing = {"endpoint": collector.endpoint, "sampled_share": 0.5}
        desk = open_desk([each for each in artifacts if each.name == "lexical"], tracing=tracing)
        with client_of(desk, tmp_path) as client:
            assert {client.post("/score", json={**PLAIN, "model": "lexical"}).status_code for _ in range(40)} == {200}
        desk.close()
        spans = collector.spans
    traces = {span.trace_id for span in spans}
    # Of 40 at one half, fewer than 5 or more than 35 would come once in a million runs.
    assert 5 <= len(traces) <= 35
    assert len(spans) == len(traces) * 5


def test_nothing_is_traced_unless_asked_for(
    open_desk: OpenDesk, artifacts: list[LocalArtifact], tmp_path: Path
) -> None:
    with collecting() as collector:
        desk = open_desk(artifacts)
        with client_of(desk, tmp_path) as client:
            assert client.post("/score", json=PLAIN).status_code == 200
        desk.close()
    assert collector.bodies == []
    assert desk.tracing.here() is None
    assert not [thread for thread in threading.enumerate() if "Otel" in thread.name]


BENTOML_TRACING = """
services:
  fairmark:
    tracing:
      exporter_type: otlp
      sample_rate: 1.0
      otlp: {{protocol: http, endpoint: "{endpoint}"}}
"""


def test_bentomls_spans_of_requests_are_not_made_even_where_its_own_tracing_is_on(bundles: Any, tmp_path: Path) -> None:
    store = open_store(StoreSettings(url=(tmp_path / "store").as_uri()))
    bundles.promote(store, bundles.paths["lexical"])
    settings = tmp_path / "bentoml.yaml"
    with collecting() as collector:
        settings.write_text(BENTOML_TRACING.format(endpoint=collector.endpoint), "utf-8")
        environment = {
            "BENTOML_CONFIG": str(settings),
            "OTEL_BSP_SCHEDULE_DELAY": "50",  # milliseconds
            "FAIRMARK_STORE__URL": store.url,
            "FAIRMARK_SERVICE__ARTIFACT_FOLDER": str(tmp_path / "models"),
            "FAIRMARK_SERVICE__CACHE__STORE": "off",
        }
        with serving(tmp_path, environment) as service:
            service.wait_until_ready()
            assert service.http.post(f"/score?{CANARY}", json={**PLAIN, "model": "lexical"}).status_code == 200
            time.sleep(0.5)  # ten times what they would take to be sent
    assert [span.name for span in collector.spans] == []


@pytest.mark.row(35)
@pytest.mark.parametrize("state", ["away", "hanging"])
def test_a_collector_that_is_away_or_hangs_costs_no_answer(
    open_desk: OpenDesk,
    artifacts: list[LocalArtifact],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    figure: Callable[[str], None],
    state: str,
) -> None:
    caplog.set_level(logging.WARNING)
    lexical = [artifact for artifact in artifacts if artifact.name == "lexical"]
    pause = threading.Event()
    with collecting(pause) as collector:
        endpoint = collector.endpoint
        if state == "away":
            with socket.create_server(("127.0.0.1", 0)) as closed:
                endpoint = f"http://127.0.0.1:{closed.getsockname()[1]}/v1/traces"
        without = median_s(open_desk(lexical), tmp_path)
        desk = open_desk(lexical, tracing={"endpoint": endpoint})
        traced = median_s(desk, tmp_path)
        wait_until(lambda: b'outcome="lost"' in desk.render_metrics(), 15, lambda: "no span was lost")
        started = time.monotonic()
        desk.close()
        assert time.monotonic() - started < 3
        said = [record.getMessage() for record in caplog.records if "traces:" in record.getMessage()]
        pause.set()
    assert said == ["traces: the collector takes none; spans are lost meanwhile"]
    assert traced < without + 0.02
    figure(f"collector {state}: a request takes {traced * 1000:.1f} ms at the median, {without * 1000:.1f} untraced")


def test_an_address_with_a_password_is_refused_without_quoting_it() -> None:
    with pytest.raises(ValidationError) as refused:
        TracingSettings(endpoint=f"http://me:{CANARY}@collector:4318/v1/traces")
    assert CANARY not in str(refused.value)
    with pytest.raises(ValidationError):
        TracingSettings(endpoint="collector:4317")


def median_s(desk: Desk, folder: Path) -> float:
    """Of so many requests that their spans are more than a batch, so that some are sent while requests go on."""
    seconds = []
    with client_of(desk, folder) as client:
        for _ in range(120):
            started = time.perf_counter()
            answer = client.post("/score", json={**PLAIN, "model": "lexical"})
            seconds.append(time.perf_counter() - started)
            assert answer.status_code == 200
    return statistics.median(seconds)
