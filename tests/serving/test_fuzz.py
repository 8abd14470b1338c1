"""Schemathesis asks two real services, with keys and without, what their OpenAPI document allows and forbids."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from essays.settings import StoreSettings
from essays.store import open_store
from serving.access import digest_of, make_key
from tests.optional import ROOT, installed
from tests.serving.processes import Service, serving

pytestmark = pytest.mark.slow

KEY = make_key()
KEYS = json.dumps([{"name": "tester", "sha256": digest_of(KEY), "scopes": ["score", "admin"]}])
PHASES = {"examples", "coverage", "fuzzing", "stateful"}
LONG_RUN_S = 600
QUICK = ("--max-examples=3",)
"""Of each call in each phase: as much on a busy machine as on a free one."""


@pytest.fixture(scope="module")
def services(bundles: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Service]]:
    """One that asks for keys and one that does not, started side by side."""
    store = open_store(StoreSettings(url=tmp_path_factory.mktemp("store").as_uri()))
    bundles.publish(store)
    with ExitStack() as stack:
        started = {}
        for name, required in (("with keys", "true"), ("without keys", "false")):
            folder = tmp_path_factory.mktemp("service")
            environment = {
                "FAIRMARK_STORE__URL": store.url,
                "FAIRMARK_SERVICE__ARTIFACT_FOLDER": str(folder / "models"),
                "FAIRMARK_SERVICE__CACHE__FOLDER": str(folder / "cache"),
                "FAIRMARK_SERVICE__LANES": "1",
                "FAIRMARK_SERVICE__RUNTIME": "onnxruntime",
                "FAIRMARK_SERVICE__ACCESS__KEYS": KEYS,
                "FAIRMARK_SERVICE__ACCESS__REQUIRED": required,
            }
            started[name] = stack.enter_context(serving(folder, environment))
        for service in started.values():
            service.wait_until_ready()
        yield started


def fuzz(service: Service, folder: Path, how_long: Sequence[str]) -> tuple[dict[str, Any], str]:
    """Schemathesis' report on a service, and what it printed."""
    report = folder / "report.json"
    options = [*how_long, "--seed=56", "--report=json", f"--report-json-path={report}", "--no-color"]
    options += ["--generation-database=none", f"--header=Authorization: Bearer {KEY}"]
    program = [sys.executable, "-m", "schemathesis.cli", f"--config-file={ROOT / 'tests/serving/schemathesis.toml'}"]
    ended = subprocess.run(
        [*program, "run", *options, f"http://127.0.0.1:{service.port}/docs.json"],
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{installed('fuzz', '--no-deps')}"},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=LONG_RUN_S + 300,
    )
    assert report.exists(), ended.stdout + ended.stderr
    return json.loads(report.read_text("utf-8")), ended.stdout


@pytest.mark.row(56)
def test_schemathesis_finds_no_server_error_and_no_answer_that_was_not_promised(
    services: dict[str, Service],
    tmp_path: Path,
    figure: Callable[[str], None],
    claim_nothing: Callable[[], None],
    request: pytest.FixtureRequest,
) -> None:
    max_time_s = request.config.getoption("--fuzz-seconds")
    how_long = (f"--max-time={max_time_s}",) if max_time_s else QUICK
    if max_time_s < LONG_RUN_S:
        claim_nothing()
    folders = {name: tmp_path / name for name in services}
    for folder in folders.values():
        folder.mkdir()
    with ThreadPoolExecutor() as threads:
        reports = threads.map(fuzz, services.values(), folders.values(), [how_long] * len(services))
    for name, (report, said) in zip(services, reports, strict=True):
        assert (report["failures"], report["errors"]) == ([], []), said
        described = services[name].http.get("/docs.json").json()["paths"].values()
        assert report["operations"]["tested"] == report["operations"]["total"] == sum(map(len, described))
        assert {phase for phase, of in report["phases"].items() if of["status"] == "success"} == PHASES, said
        assert report["auth"]["reauth_count"] == 0
        metrics = services[name].http.get("/metrics").text
        assert 'fairmark_unit_score_count{model="ensemble"' in metrics, "nothing was scored"
        assert 'status="500"' not in metrics
        assert "mistake" not in services[name].log
        figure(
            f"{name}: {report['test_cases']['generated']} cases in {report['running_time']:.0f} s over"
            f" {len(PHASES)} phases, 0 server errors, 0 violations"
        )
