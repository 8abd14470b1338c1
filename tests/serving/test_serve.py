"""`bentoml serve` as a process of its own, against a real object store: how it starts, restarts, answers and fails."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import boto3
import psutil
import pytest

from essays.manifest import GOLDEN_FILE
from essays.registry import read_champion
from essays.store import Store
from serving.catalogue import LocalArtifact
from serving.config import ServiceSettings
from serving.desk import Desk
from tests.serving.processes import Service, bar_now, end_of, environment_for, free_port, serving, store_at
from tests.serving.traffic import HalfRequest, percentile, wait_until

pytestmark = pytest.mark.slow

ESSAY = (
    "My school is small, and I like it. The teachers know every pupil by name, so when somebody is sad they see it."
    " However we have no laboratory, and I want to learn chemistry. People say a big school has more to offer."
)
GOOD = {"essay": ESSAY, "prompt_id": "ellipse-overall"}
HEALTH_S = 0.1
LANES = 16
RESTART_TIMES = 1.5
"""Of the sum of its parts: they are not measured at the same moment."""
SCRAPERS = 30
CANARY = "zebracanary"
Figure = Callable[[str], None]
WRONG_KEY = "not-the-secret-key"


@pytest.fixture(scope="module")
def nobody() -> Iterator[socket.socket]:
    """Where collectors of runs and traces should be: it takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        yield listener


@pytest.fixture(scope="module")
def started(
    s3: Any, bundles: Any, nobody: socket.socket, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Any]]:
    """A service on a fresh folder, what `/readyz` said until it was ready, and what it was started with."""
    folder = tmp_path_factory.mktemp("serve")
    bucket = s3.make_bucket()
    bundles.publish(store_at(s3, bucket))
    # Many lanes take long enough to warm that somebody can see it.
    collector = f"http://127.0.0.1:{nobody.getsockname()[1]}"
    environment = {
        **environment_for(s3, bucket, folder),
        "FAIRMARK_SERVICE__LANES": str(LANES),
        "MLFLOW_TRACKING_URI": collector,
        "OTEL_TRACES_EXPORTER": "otlp",
        "OTEL_METRICS_EXPORTER": "otlp",
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector,
    }
    with serving(folder, environment) as service:
        seen = service.wait_until_ready()
        yield {"service": service, "seen": seen, "folder": folder, "environment": environment, "bucket": bucket}


@pytest.mark.row(20)
def test_it_is_ready_only_after_every_model_is_warm(started: dict[str, Any]) -> None:
    *waiting, last = started["seen"]
    assert last[0] == 200
    assert waiting, "it was ready before anybody could ask"
    assert {status for status, _ in waiting} == {503}
    for _, body in waiting:
        readiness = json.loads(body)
        assert readiness["ready"] is False
        assert readiness["models"] or readiness["reason"]
    assert {model["name"] for _, body in waiting for model in json.loads(body)["models"]} == {
        "lexical",
        "tiny",
        "ensemble",
    }
    states = {model["state"] for _, body in waiting for model in json.loads(body)["models"]}
    assert {"fetching", "waiting"} <= states
    assert started["service"].http.get("/status").json()["ready"] is True


@pytest.mark.row(20)
def test_health_is_answered_at_once_while_models_are_loaded(started: dict[str, Any], figure: Figure) -> None:
    took_s, bar = started["service"].health_s[:-1], bar_now(HEALTH_S)
    p95_s = percentile(took_s, 0.95)
    assert p95_s < bar.allowed_s
    figure(
        f"{len(took_s)} health checks while loading: p95 {p95_s * 1000:.0f} ms, the slowest {max(took_s) * 1000:.0f}"
        f" ms; {bar}"
    )


@pytest.mark.row(35)
def test_nobody_who_collects_numbers_is_waited_for(
    started: dict[str, Any], nobody: socket.socket, figure: Figure
) -> None:
    port, http = started["service"].port, started["service"].http
    with ExitStack() as stack:
        for number in range(SCRAPERS):
            scraper = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            # Half of them stop in the middle of asking, the others do not read what they asked for.
            scraper.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n" + b"\r\n" * (number % 2))
        answers = [http.post("/score", json={**GOOD, "model": "tiny"}) for _ in range(20)]
    assert {answer.status_code for answer in answers} == {200}
    with pytest.raises(BlockingIOError):
        nobody.accept()
    figure(f"20 of 20 scored beside {SCRAPERS} scrapers that hang; MLflow's and the traces' address was never asked")


def test_the_zips_are_gone_and_the_folders_are_named_by_digest(started: dict[str, Any]) -> None:
    models = started["folder"] / "models"
    assert list(models.rglob("*.zip")) == []
    served = started["service"].http.get("/models").json()["models"]
    assert {model["digest"] for model in served} <= {path.name for path in models.iterdir()}


def test_scores_over_the_wire_are_the_scores_of_the_library(started: dict[str, Any], desk: Desk) -> None:
    for model in ("lexical", "tiny", "ensemble"):
        answer = started["service"].http.post("/score", json={**GOOD, "model": model}).json()
        expected = asyncio.run(desk.scorer().score(ESSAY, "ellipse-overall", model))
        assert answer["unit_score"] == pytest.approx(expected.unit_score, abs=1e-6)


@pytest.mark.parametrize(
    ("path", "body", "status", "field"),
    [
        ("/score", {**GOOD, "prompt_id": "nowhere"}, 404, "prompt_id"),
        ("/score", {**GOOD, "model": "gpt"}, 404, "model"),
        ("/score", {**GOOD, "essay": ""}, 422, "essay"),
        ("/score", {**GOOD, "extra": 1}, 422, "extra"),
        ("/score", {**GOOD, "essay": 7}, 422, "essay"),
        ("/score", {**GOOD, "essay": "word " * 200_000}, 413, None),
        ("/score", {**GOOD, "essay": "x" * 30_000_000}, 413, None),
        ("/compare", {**GOOD, "prompt_id": "nowhere"}, 404, "prompt_id"),
        ("/nowhere", GOOD, 404, None),
        ("/models", GOOD, 405, None),
    ],
    ids=str,
)
def test_wrong_requests_get_their_status_in_the_one_form(
    started: dict[str, Any], path: str, body: object, status: int, field: str | None
) -> None:
    answer = started["service"].http.post(path, json=body)
    assert answer.status_code == status
    assert set(answer.json()["error"]) == {"code", "message", "field", "hint"}
    assert answer.json()["error"]["field"] == field


def test_page_docs_and_metrics_are_ours(started: dict[str, Any]) -> None:
    http = started["service"].http
    assert "Essay scores you can question" in http.get("/").text
    assert "googletagmanager" not in http.get("/docs").text
    assert http.get("/docs/assets/swagger-ui-bundle.js").status_code == 200
    assert "ScoreResponse" in http.get("/docs.json").json()["components"]["schemas"]
    metrics = http.get("/metrics").text
    assert "fairmark_requests_total" in metrics
    assert 'fairmark_model_ready{model="tiny"} 1.0' in metrics


def test_no_essay_reaches_the_log_or_the_metrics(started: dict[str, Any]) -> None:
    http = started["service"].http
    essay = f"{ESSAY} {CANARY}"
    for body in ({**GOOD, "essay": essay}, {**GOOD, "essay": [essay]}, {"essay": essay}, {**GOOD, essay: "1"}):
        http.post("/score", json=body)
        http.post("/score_batch", json={"essays": [body]})
        http.post("/", data=body)
    assert CANARY not in started["service"].log
    assert CANARY not in http.get("/metrics").text
    assert "/score_batch" in started["service"].log


def test_no_process_of_it_has_loaded_torch(started: dict[str, Any]) -> None:
    parent = psutil.Process(started["service"].process.pid)
    mapped = [
        " ".join(region.path for region in process.memory_maps())
        for process in (parent, *parent.children(recursive=True))
    ]
    # The worker alone holds models, and what runs them.
    assert [name in mapped[0] for name in ("onnxruntime", "openvino")] == [False, False]
    assert sum("onnxruntime" in paths for paths in mapped) == 1
    assert not [paths for paths in mapped if "torch" in paths]


@pytest.fixture(scope="module")
def restarted(started: dict[str, Any], s3: Any) -> Iterator[Service]:
    """Another service on the same folder, with every bundle gone from the store."""
    keys = {"aws_access_key_id": s3.access_key, "aws_secret_access_key": s3.secret_key}
    client = boto3.client("s3", endpoint_url=s3.endpoint, region_name="us-east-1", **keys)
    for key in store_at(s3, started["bucket"]).list_keys("models/"):
        if key.endswith(".zip"):
            client.delete_object(Bucket=started["bucket"], Key=key)
    client.close()
    with serving(started["folder"], started["environment"]) as again:
        again.wait_until_ready()
        yield again


@pytest.mark.row(19)
def test_a_restart_fetches_no_bundle_and_takes_no_longer_than_its_processes_and_its_warm_ups(
    started: dict[str, Any], restarted: Service, artifacts: list[LocalArtifact], figure: Figure
) -> None:
    assert restarted.log.count("found ") == 3
    assert restarted.http.post("/score", json=GOOD).status_code == 200
    warmed = Desk(ServiceSettings(lanes=LANES, artifact_folder=started["folder"] / "models", cache={"store": "off"}))
    began = time.monotonic()
    warmed.open(artifacts, lambda _: None)
    warm_s = time.monotonic() - began
    warmed.close()
    # The parent answers first, then its worker starts, which alone loads the models: two programs, one warm-up.
    least_s = 2 * restarted.alive_after_s + warm_s
    bar = bar_now(RESTART_TIMES * least_s)
    assert restarted.ready_after_s < bar.allowed_s
    figure(
        f"restart: no body fetched, ready after {restarted.ready_after_s:.1f} s; two programs that take"
        f" {restarted.alive_after_s:.1f} s until they answer and a warm-up of {warm_s:.1f} s are {least_s:.1f} s;"
        f" {bar}"
    )


def test_a_second_signal_ends_it_although_a_request_is_in_hand(restarted: Service) -> None:
    workers = psutil.Process(restarted.process.pid).children(recursive=True)
    request = HalfRequest(restarted.port, GOOD)
    restarted.process.send_signal(signal.SIGTERM)
    wait_until(lambda: "stopping: " in restarted.log, 30, lambda: restarted.log)
    assert restarted.process.poll() is None
    restarted.process.send_signal(signal.SIGTERM)
    assert restarted.process.wait(3) == 1
    request.socket.close()
    _, alive = psutil.wait_procs(workers, timeout=3)
    assert alive == []
    assert "a second signal" in restarted.log


def _nothing(_: Any, __: Store, ___: dict[str, str]) -> None:
    """An empty bucket."""


def _one_missing(bundles: Any, store: Store, _: dict[str, str]) -> None:
    bundles.publish(store, ["ensemble", "tiny"])


def _wrong_digest(bundles: Any, store: Store, _: dict[str, str]) -> None:
    bundles.publish(store)
    key = read_champion(store, "tiny").pointer.key
    content = bytearray(store.read(key).content)
    content[100] ^= 1
    store.put_bytes(key, bytes(content))


def _wrong_credentials(bundles: Any, store: Store, environment: dict[str, str]) -> None:
    bundles.publish(store)
    environment["FAIRMARK_STORE__SECRET_ACCESS_KEY"] = WRONG_KEY


def _store_down(_: Any, __: Store, environment: dict[str, str]) -> None:
    environment["FAIRMARK_STORE__ENDPOINT_URL"] = f"http://127.0.0.1:{free_port()}"


def _no_such_bucket(_: Any, __: Store, environment: dict[str, str]) -> None:
    environment["FAIRMARK_STORE__URL"] = "s3://not-there"


def _secrets_manager_down(_: Any, __: Store, environment: dict[str, str]) -> None:
    address = f"http://127.0.0.1:{free_port()}"
    environment |= {"FAIRMARK_SECRETS__ID": "fairmark/serve", "FAIRMARK_SECRETS__ENDPOINT_URL": address}
    environment |= {"AWS_ACCESS_KEY_ID": "AKIA", "AWS_SECRET_ACCESS_KEY": WRONG_KEY, "AWS_DEFAULT_REGION": "us-east-1"}


def _misspelt_setting(_: Any, __: Store, environment: dict[str, str]) -> None:
    environment["FAIRMARK_SERVICE__LANE"] = "2"


def _other_golden_scores(bundles: Any, store: Store, environment: dict[str, str]) -> None:
    def change(folder: Path) -> None:
        tree = json.loads((folder / GOLDEN_FILE).read_text())
        for essay in tree["essays"]:
            essay.update(raw_unit_score=0.001, score=1.0 if essay["prompt_id"].startswith("ellipse") else 2.0)
        (folder / GOLDEN_FILE).write_text(json.dumps(tree))

    folder = Path(environment["FAIRMARK_SERVICE__ARTIFACT_FOLDER"]).parent
    bundles.publish_paths(store, [bundles.changed("tiny", change, folder)])


@dataclass(frozen=True)
class Failed:
    """A start that ended."""

    code: int
    said: str


FAILING = {
    "empty bucket": (_nothing, "no model has a champion"),
    "one model missing": (_one_missing, "lexical has no champion"),
    "wrong digest": (_wrong_digest, "error: tiny-"),
    "wrong credentials": (_wrong_credentials, "access denied"),
    "store down": (_store_down, "nobody answers"),
    "no such bucket": (_no_such_bucket, "there is no bucket 'not-there'"),
    "secrets manager down": (_secrets_manager_down, "secret 'fairmark/serve': Secrets Manager"),
    "misspelt setting": (_misspelt_setting, "service.lane"),
    "other golden scores": (_other_golden_scores, "golden essay 1 on ellipse-overall got 0."),
}


WHOLE = ("one model missing", "other golden scores")
"""Started by `bentoml serve`, from the command to the exit code; the others by its hook alone: that is sooner done."""


@pytest.fixture(scope="module")
def failed_starts(s3: Any, bundles: Any, root: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Failed]:
    """Every start that must fail, side by side."""
    environments = {}
    for fault, (prepare, _) in FAILING.items():
        bucket = s3.make_bucket()
        environments[fault] = environment_for(s3, bucket, tmp_path_factory.mktemp("fails"))
        prepare(bundles, store_at(s3, bucket), environments[fault])
    with ThreadPoolExecutor(max_workers=len(WHOLE)) as threads:
        ending = [threads.submit(end_of, environments[fault]) for fault in WHOLE]
        by_hook = [fault for fault in FAILING if fault not in WHOLE]
        failed = subprocess.run(
            [sys.executable, str(root / "tests/serving/failed_starts.py")],
            input=json.dumps([environments[fault] for fault in by_hook]),
            env={**os.environ, "PYTHONPATH": str(root), "TMPDIR": str(tmp_path_factory.mktemp("hooks"))},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert failed.returncode == 0, failed.stderr
        found = {fault: Failed(**answer) for fault, answer in zip(by_hook, json.loads(failed.stdout), strict=True)}
        for fault, future in zip(WHOLE, ending, strict=True):
            ended = future.result()
            found[fault] = Failed(ended.returncode, ended.stdout + ended.stderr)
        return found


@pytest.mark.row(1, 5, 15, 17, 36)
@pytest.mark.parametrize("fault", FAILING)
def test_a_fault_at_start_ends_the_process_with_its_reason(
    s3: Any, failed_starts: dict[str, Failed], fault: str
) -> None:
    failed = failed_starts[fault]
    assert failed.code == 1
    assert failed.said.count("error: ") == 1
    assert FAILING[fault][1] in failed.said
    assert "Traceback" not in failed.said
    for secret in (s3.secret_key, WRONG_KEY):
        assert secret not in failed.said


def test_scoring_imports_no_torch_and_none_of_its_kin(artifacts: list[LocalArtifact]) -> None:
    script = (
        "import asyncio, sys, tempfile\n"
        "from serving.service import EssayScoring\n"
        "from serving.artifacts import handed_over\n"
        "from serving.config import ServiceSettings\n"
        "from serving.desk import Desk\n"
        "desk = Desk(ServiceSettings(lanes=1, cache={'folder': tempfile.mkdtemp()}))\n"
        "desk.open(handed_over(), lambda state: None)\n"
        f"asyncio.run(desk.scorer().score({ESSAY!r}, 'asap-1', 'ensemble'))\n"
        "EssayScoring.to_asgi()\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))\n"
    )
    rows = [{**asdict(artifact), "folder": str(artifact.folder)} for artifact in artifacts]
    ended = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": ".", "FAIRMARK_SERVED": json.dumps(rows)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 0, ended.stderr
    loaded = set(ended.stdout.split())
    assert {"onnxruntime", "bentoml", "tokenizers"} <= loaded
    forbidden = {"torch", "pandas", "transformers", "sklearn", "scipy", "datasets", "mlflow", "dvc", "matplotlib"}
    assert not loaded & forbidden
