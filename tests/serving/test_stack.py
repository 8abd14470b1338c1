"""`make stack` for real: a request through nginx, service and shared cache, seen by Prometheus; MLflow beside."""

import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import psycopg
import pytest
from mlflow.tracking import MlflowClient

from deploy import local_s3
from essays.bundle import read_bundle_manifest
from essays.registry import pointer_to
from essays.signatures import make_key_pair, publish_signature
from tests.made_essays import made_essay
from tests.serving.processes import free_port, store_at
from tests.serving.traffic import wait_until

pytestmark = pytest.mark.slow
READY_S = 240


class Stack:
    """A running `deploy.stack`."""

    def __init__(self, folder: Path, root: Path, s3: local_s3.LocalS3) -> None:
        self.folder, self.s3 = folder, s3
        self.ports = {name: free_port() for name in ("https", "mlflow", "prometheus")}
        self.services = two_free_ports()
        environment = {
            **os.environ,
            "PYTHONPATH": str(root),
            "FAIRMARK_SERVICE__LANES": "1",
            "FAIRMARK_SERVICE__RUNTIME": "onnxruntime",
        }
        options = [f"--{name}-port={port}" for name, port in self.ports.items()] + [f"--port={self.services[0]}"]
        self.log = folder / "stack.log"
        with self.log.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "deploy.stack", *options],
                cwd=folder,
                env=environment,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    @property
    def said(self) -> str:
        return self.log.read_text("utf-8", errors="replace")

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + READY_S
        while "ready: Ctrl-C" not in self.said:
            assert self.process.poll() is None, self.said
            assert time.monotonic() < deadline, self.said
            time.sleep(0.1)

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {(self.folder / '.make/front/api-key').read_text().strip()}"}

    def score(self, address: str, essay: str) -> httpx.Response:
        tls = ssl.create_default_context(cafile=self.folder / ".make/front/certificate.pem")
        with httpx.Client(verify=tls, timeout=30) as client:
            body = {"essay": essay, "prompt_id": "asap-1", "model": "tiny"}
            return client.post(f"{address}/score", json=body, headers=self.headers)

    def query(self, expression: str) -> float:
        answer = httpx.get(f"http://127.0.0.1:{self.ports['prometheus']}/api/v1/query", params={"query": expression})
        result = answer.json()["data"]["result"]
        return float(result[0]["value"][1]) if result else 0.0


def two_free_ports() -> list[int]:
    """Neighbours, as the stack takes them."""
    while True:
        port = free_port()
        if port < 65_000 and not [each for each in psutil.net_connections("tcp") if each.laddr.port == port + 1]:
            return [port, port + 1]


@pytest.fixture(scope="module")
def stack(bundles: Any, root: Path) -> Iterator[Stack]:
    """Everything, with three small models that were signed and published beforehand."""
    folder = Path(tempfile.mkdtemp(prefix="fairmark-stack-"))
    folder.chmod(0o755)  # PostgreSQL does not run as root
    s3 = local_s3.start(folder / ".make" / "s3", usual_ports=False)
    signing = folder / ".make" / "signing"
    make_key_pair(signing / "private.pem", signing / "public.pem")
    store = store_at(s3, s3.bucket)
    bundles.publish(store)
    for path in bundles.paths.values():
        pointer = pointer_to(path, read_bundle_manifest(path))
        publish_signature(store, path, pointer.key, pointer.sha256, signing / "private.pem")
    started = Stack(folder, root, s3)
    try:
        started.wait_until_ready()
        yield started
    finally:
        if started.process.poll() is None:
            os.killpg(started.process.pid, signal.SIGINT)
            started.process.wait(60)
        local_s3.stop(folder / ".make" / "s3", patience_s=0)
        shutil.rmtree(folder)


def test_a_request_goes_through_nginx_and_a_service_into_the_cache_that_both_share(
    stack: Stack, figure: Callable[[str], None]
) -> None:
    essay = made_essay(7)
    first = stack.score(f"https://localhost:{stack.ports['https']}", essay)
    assert (first.status_code, first.headers["X-Cache"]) == (200, "miss"), first.text
    assert len(first.headers["X-Request-ID"]) == 32
    for port in stack.services:
        address = f"http://127.0.0.1:{port}"
        took_s = wait_until(
            lambda address=address: stack.score(address, essay).headers["X-Cache"] == "exact", 20, lambda: "not kept"
        )
        assert stack.score(address, essay).json()["unit_score"] == first.json()["unit_score"]
    wait_until(lambda: stack.query('sum(fairmark_cache_runs_total{tier="exact"})') >= 4, 30, lambda: "not scraped")
    assert stack.query('count(up{job="fairmark"} == 1)') == 2
    assert stack.query('sum(fairmark_cache_runs_total{tier="computed",model="tiny"})') == 1
    assert stack.query('sum(fairmark_unit_score_count{model="tiny"})') >= 5
    assert stack.query("min(fairmark_cache_working)") == 1
    figure(f"kept for both instances {took_s:.1f} s after it was computed; Prometheus counts it")


def test_prometheus_has_every_alert_and_none_fires(stack: Stack, root: Path) -> None:
    rules = httpx.get(f"http://127.0.0.1:{stack.ports['prometheus']}/api/v1/rules").json()["data"]["groups"]
    alerts = [rule for group in rules for rule in group["rules"]]
    written = (root / "deploy" / "prometheus" / "alerts.yaml").read_text("utf-8")
    named = re.findall(r"- alert: (\w+)", written)
    assert named
    assert [rule["name"] for rule in alerts] == named
    wait_until(lambda: stack.query('count(up{job="fairmark"} == 1)') == 2, 30, lambda: "not scraped")
    assert {rule["health"] for rule in alerts} <= {"ok", "unknown"}
    assert [rule["name"] for rule in alerts if rule["state"] == "firing"] == []


def test_mlflow_keeps_runs_in_postgresql_and_artifacts_in_s3(stack: Stack, tmp_path: Path) -> None:
    client = MlflowClient(f"http://127.0.0.1:{stack.ports['mlflow']}")
    run = client.create_run(client.create_experiment("stack"))
    client.log_metric(run.info.run_id, "qwk", 0.79)
    (tmp_path / "card.md").write_text("# A card\n")
    client.log_artifact(run.info.run_id, str(tmp_path / "card.md"))
    assert client.get_run(run.info.run_id).data.metrics == {"qwk": 0.79}
    fetched = client.download_artifacts(run.info.run_id, "card.md", str(tmp_path / "fetched"))
    assert Path(fetched).read_text() == "# A card\n"
    listed = stack.s3.client().list_objects_v2(Bucket=stack.s3.bucket, Prefix="mlflow/")["Contents"]
    assert [each["Key"] for each in listed if each["Key"].endswith(f"{run.info.run_id}/artifacts/card.md")]
    port = int((stack.folder / ".make/stack/postgresql/data/postmaster.pid").read_text().splitlines()[3])
    with psycopg.connect(f"postgresql://fairmark@127.0.0.1:{port}/mlflow") as connection:
        found = connection.execute("SELECT value FROM metrics WHERE run_uuid = %s", [run.info.run_id]).fetchone()
    assert found == (0.79,)


def test_a_second_one_is_refused_and_ctrl_c_ends_the_first_whole(stack: Stack) -> None:
    again = subprocess.run(
        [sys.executable, "-m", "deploy.stack", f"--port={free_port()}"],
        cwd=stack.folder,
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert again.returncode == 1
    assert f"process {stack.process.pid}" in again.stderr
    ours = psutil.Process(stack.process.pid).children(recursive=True)
    assert len(ours) > 8
    os.killpg(stack.process.pid, signal.SIGINT)
    assert stack.process.wait(60) == 0, stack.said
    assert [process for process in ours if process.is_running() and process.status() != psutil.STATUS_ZOMBIE] == []
    assert local_s3.status(stack.folder / ".make" / "s3") is None
    assert "Traceback" not in stack.said
