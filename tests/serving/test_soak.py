"""Many requests, right and wrong, to one service: its memory and its open files must not grow with their number."""

import itertools
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from essays.settings import StoreSettings
from essays.store import open_store
from tests.serving.processes import serving
from tests.serving.traffic import Bodies, closed_loop

pytestmark = pytest.mark.slow

CONCURRENCY = 8
MAX_ENTRIES = 200
MEGABYTE = 1e6
LONG_RUN = 10_000
SLOPE_MB = 1.0
"""Per 1,000 requests, over a long run."""
QUICK_SLOPE_MB = 20.0
"""Allocators settle during the first thousands; a short run can only find a leak of whole requests."""
MORE_FILES = 20
NUM_SAMPLES = 60
"""Evenly over the requests, so that a fast machine gives as many as a slow one."""


def requests() -> Bodies:
    """Most essays are new, some were there before, some are wrong."""
    for number in itertools.count():
        text = (
            f"My school is small, and I like it {number - number % 4} times. The teachers know every pupil by name, so"
            " when somebody is sad they see it. However we have no laboratory, and I want to learn chemistry."
        )
        body = {"essay": text, "prompt_id": "ellipse-overall", "model": ("ensemble", "tiny", "lexical")[number % 3]}
        wrong: list[dict[str, Any]] = [{"essay": "?"}, {"essay": [text]}, {"prompt_id": "nowhere"}, {"extra": text}]
        yield {**body, **wrong[number // 10 % 4]} if number % 10 == 9 else body


@pytest.mark.row(37)
def test_memory_and_open_files_do_not_grow_with_requests(
    bundles: Any,
    tmp_path: Path,
    figure: Callable[[str], None],
    claim_nothing: Callable[[], None],
    request: pytest.FixtureRequest,
) -> None:
    number = request.config.getoption("--soak-requests")
    if number < LONG_RUN:
        claim_nothing()
    store = open_store(StoreSettings(url=(tmp_path / "store").as_uri()))
    bundles.publish(store)
    environment = {
        "FAIRMARK_STORE__URL": store.url,
        "FAIRMARK_SERVICE__ARTIFACT_FOLDER": str(tmp_path / "models"),
        "FAIRMARK_SERVICE__CACHE__FOLDER": str(tmp_path / "cache"),
        "FAIRMARK_SERVICE__CACHE__MAX_ENTRIES": str(MAX_ENTRIES),
        "FAIRMARK_SERVICE__CACHE__NEAR": "on",
        "FAIRMARK_SERVICE__LANES": "2",
    }
    samples: list[tuple[int, int, int]] = []
    with serving(tmp_path, environment) as service:
        service.wait_until_ready()
        worker = max(psutil.Process(service.process.pid).children(), key=lambda each: each.memory_info().rss)
        started = time.monotonic()
        with closed_loop(service.port, requests(), CONCURRENCY) as traffic:
            for sample in range(1, NUM_SAMPLES + 1):
                while len(traffic.answers) < number * sample // NUM_SAMPLES:
                    time.sleep(0.01)
                    assert service.process.poll() is None, service.log
                samples.append((len(traffic.answers), worker.memory_full_info().uss, worker.num_fds()))
        took_s = time.monotonic() - started
        assert worker.is_running()
        metrics = service.http.get("/metrics").text
    statuses = {answer.status for answer in traffic.answers}
    assert statuses == {200, 404, 422}
    assert 'fairmark_cache_runs_total{model="tiny",tier="exact"}' in metrics
    slope_mb = _slope_mb([sample for sample in samples if sample[0] > number / 4])
    (_, first_uss, first_files), (_, last_uss, last_files) = samples[len(samples) // 4], samples[-1]
    assert slope_mb < (SLOPE_MB if number >= LONG_RUN else QUICK_SLOPE_MB)
    assert last_files - first_files <= MORE_FILES
    figure(
        f"{len(traffic.answers)} requests in {took_s:.0f} s: {slope_mb:+.2f} MB per 1,000"
        f" ({first_uss / MEGABYTE:.0f} to {last_uss / MEGABYTE:.0f} MB), open files {first_files} to {last_files}"
    )


def _slope_mb(samples: list[tuple[int, int, int]]) -> float:
    """Megabytes per 1,000 requests, by least squares."""
    assert len(samples) > 3, json.dumps(samples)
    counts, sizes, _ = np.array(samples, dtype=float).T
    return float(np.polyfit(counts, sizes, 1)[0]) * 1000 / MEGABYTE
