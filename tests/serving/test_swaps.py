"""Champions that move while `bentoml serve` answers: switched without a failed request, refused if bad, moved back."""

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from essays.registry import bundle_key, find_champion, move_champion, read_champion
from essays.store import Store
from serving.config import ServiceSettings
from serving.desk import Desk
from tests.serving.conftest import with_nan_weights
from tests.serving.processes import Service, bar_now, environment_for, serving, store_at
from tests.serving.traffic import Answer, Traffic, closed_loop, endless, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.chaos]

PROMPT = "ellipse-overall"
ESSAYS = [
    "My school is small, and I like it. The teachers know every pupil by name, so when somebody is sad they see it."
    f" However we have no laboratory, and I want to learn chemistry. People say {number} times that a big school has"
    " more to offer, because the teacher there is an example."
    for number in range(40)
]
MODELS = ("tiny", "ensemble", "lexical")
STEP_TIMEOUT_S = 240
KILL_CALLERS = 4
BACK_S = 4.0
"""Three seconds, and one to load and warm one small model on two lanes."""


@pytest.fixture(scope="module")
def expected(bundles: Any, other_bundles: Any, extract: Any, tmp_path_factory: Any) -> dict[str, dict[str, float]]:
    """Unit scores by digest and essay, from the library, without a cache."""
    scores: dict[str, dict[str, float]] = {}
    for made in (bundles, other_bundles):
        desk = Desk(ServiceSettings(lanes=1, cache={"store": "off"}))
        desk.open(extract(list(made.paths.values()), tmp_path_factory.mktemp("expected")), lambda _: None)
        for name in MODELS:
            digest = desk.catalogue().models[name].artifact.digest
            scores[digest] = {
                essay: asyncio.run(desk.scorer().score(essay, PROMPT, name)).unit_score for essay in ESSAYS
            }
        desk.close()
    return scores


def digest_of(store: Store, name: str) -> str:
    return read_champion(store, name).pointer.sha256


def move(store: Store, made: Any, names: tuple[str, ...] = ("lexical", "tiny", "ensemble")) -> None:
    """Make these the champions as `publish` does: members first, the ensemble last."""
    for name in names:
        made.promote(store, made.paths[name])


BODIES = [
    {"essay": essay, "prompt_id": PROMPT, "model": MODELS[number % len(MODELS)]}
    for number, essay in enumerate(ESSAYS * len(MODELS))
]


def answered_by(loop: Traffic, digest: str) -> Callable[[], bool]:
    """Whether an answer to come names this digest."""
    begin = len(loop.answers)

    def holds() -> bool:
        return any(answer.body.get("model", {}).get("digest") == digest for answer in loop.answers[begin:])

    return holds


def update_of(service: Service) -> dict[str, Any]:
    update: dict[str, Any] = service.http.get("/status").json()["update"]
    return update


def refused(service: Service, reason: str) -> None:
    def holds() -> bool:
        update = update_of(service)
        return update["state"] == "refused" and reason in update["reason"]

    wait_until(holds, STEP_TIMEOUT_S, lambda: f"{update_of(service)} {service.log}")
    assert "fairmark_update_refused 1.0" in service.http.get("/metrics").text
    # Its own process says it, a moment after the state was set.
    wait_until(lambda: "error: changed champions are not served" in service.log, STEP_TIMEOUT_S, lambda: service.log)


@pytest.mark.row(23, 24)
def test_champions_move_under_load_without_a_failed_request_and_a_bad_one_never_takes_over(
    s3: Any,
    bundles: Any,
    other_bundles: Any,
    expected: dict[str, dict[str, float]],
    tmp_path: Path,
    figure: Callable[[str], None],
    request: pytest.FixtureRequest,
) -> None:
    bucket = s3.make_bucket()
    store = store_at(s3, bucket)
    bundles.publish(store)
    environment = {**environment_for(s3, bucket, tmp_path), "FAIRMARK_SERVICE__WATCH_S": "1"}
    old = {name: digest_of(store, name) for name in MODELS}
    with serving(tmp_path, environment) as service:
        service.wait_until_ready()
        with closed_loop(service.port, endless(BODIES), concurrency=8) as loop:
            wait_until(answered_by(loop, old["tiny"]), STEP_TIMEOUT_S, lambda: service.log)

            move(store, other_bundles)
            new = {name: digest_of(store, name) for name in MODELS}
            assert new["lexical"] == old["lexical"]
            forward_s = wait_until(answered_by(loop, new["ensemble"]), STEP_TIMEOUT_S, lambda: service.log)

            bad = bundles.changed("tiny", with_nan_weights, tmp_path / "bad")
            bundles.promote(store, bad)
            refused(service, "golden essay 1")
            damaged = read_champion(store, "tiny").pointer.model_copy(update={"version": "0" * 12, "sha256": "0" * 64})
            store.put_bytes(bundle_key("tiny", damaged.version), b"0" * damaged.size_bytes)
            move_champion(store, damaged, find_champion(store, "tiny"))
            refused(service, "tiny-" + damaged.version)
            wait_until(answered_by(loop, new["tiny"]), STEP_TIMEOUT_S, lambda: service.log)

            move(store, bundles)
            back_s = wait_until(answered_by(loop, old["ensemble"]), STEP_TIMEOUT_S, lambda: service.log)
            assert update_of(service)["state"] == "served"
            wanted = 2_000 if request.config.getoption("--reliability") else 300
            wait_until(lambda: len(loop.answers) >= wanted, 300, lambda: f"{len(loop.answers)} answers")
        _check(loop.answers, expected, {*old.values(), *new.values()})
        metrics = service.http.get("/metrics").text
        assert 'fairmark_updates_total{outcome="served"} 2.0' in metrics
        assert 'fairmark_updates_total{outcome="refused"} 2.0' in metrics
        assert "fairmark_update_refused 0.0" in metrics
        assert f'digest="{old["tiny"]}"' in metrics
        assert f'digest="{new["tiny"]}"' not in metrics
    rollback_s = back_s
    assert rollback_s < 10
    figure(
        f"{len(loop.answers)} requests at concurrency 8, 0 failed; new version after {forward_s:.1f} s,"
        f" back after {rollback_s:.1f} s"
    )


def _check(answers: list[Answer], expected: dict[str, dict[str, float]], digests: set[str]) -> None:
    failed = [answer for answer in answers if answer.status != 200]
    assert failed == []
    assert {answer.body["model"]["digest"] for answer in answers} == digests
    for answer in answers:
        scores = expected[answer.body["model"]["digest"]]
        assert answer.body["unit_score"] == pytest.approx(scores[answer.asked["essay"]], abs=1e-6)
    assert {answer.body["cache"]["tier"] for answer in answers} >= {"exact", "miss"}


@pytest.fixture(scope="module")
def lone(s3: Any, bundles: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Service, Store, Path]]:
    """A service of `tiny` alone, which looks for another champion when it is told; with its store and its folder."""
    bucket, folder = s3.make_bucket(), tmp_path_factory.mktemp("lone")
    store = store_at(s3, bucket)
    bundles.publish(store, ["tiny"])
    environment = {
        **environment_for(s3, bucket, folder),
        "FAIRMARK_SERVICE__MODELS": '["tiny"]',
        "FAIRMARK_SERVICE__WATCH_S": "0",
    }
    with serving(folder, environment) as service:
        service.wait_until_ready()
        yield service, store, folder


@pytest.mark.row(21, 23)
def test_a_worker_killed_under_load_is_back_in_seconds_and_serves_what_the_last_one_served(
    lone: tuple[Service, Store, Path], other_bundles: Any, figure: Callable[[str], None]
) -> None:
    service, store, _ = lone
    bodies = [{"essay": essay, "prompt_id": PROMPT, "model": "tiny"} for essay in ESSAYS]
    other_bundles.promote(store, other_bundles.paths["tiny"])
    time.sleep(0.5)
    assert update_of(service)["state"] == "none"
    parent = psutil.Process(service.process.pid)
    parent.send_signal(1)  # SIGHUP: look now
    wait_until(lambda: update_of(service)["state"] == "served", STEP_TIMEOUT_S, lambda: service.log)
    with closed_loop(service.port, endless(bodies), KILL_CALLERS) as loop:
        wait_until(lambda: len(loop.answers) > 20, STEP_TIMEOUT_S, lambda: service.log)
        with psutil.Popen(["true"]) as mark:  # the kernel's clock of processes is not the wall's
            killed = mark.create_time()
        bar = bar_now(BACK_S)
        worker_of(parent).kill()
        started, num_before = time.monotonic(), len(loop.answers)
        service.wait_until_ready()
        back_s, worker = time.monotonic() - started, worker_of(parent)
        busy_s, respawned_s = sum(worker.cpu_times()[:2]), worker.create_time() - killed
        wait_until(answered_by(loop, digest_of(store, "tiny")), STEP_TIMEOUT_S, lambda: service.log)
    after = loop.answers[num_before:]
    broken, refused = ([each for each in after if each.status == status] for status in (0, 503))
    assert {each.status for each in loop.answers} <= {200, 503, 0}
    # What each caller had in hand, and at most one more that the dying process had accepted.
    assert len(broken) <= 2 * KILL_CALLERS
    assert all(int(each.headers["retry-after"]) >= 1 for each in refused)
    # On a machine that does nothing else both are the same; programs that share a core slow its seconds down, too.
    assert min(back_s, respawned_s + busy_s) < bar.allowed_s
    figure(
        f"kill -9 of the worker under {KILL_CALLERS} callers: {len(broken)} broken off, {len(refused)} told 503,"
        f" a new one after {respawned_s:.1f} s, ready after {back_s:.1f} s, of which {busy_s:.1f} s on a processor;"
        f" {bar}"
    )


@pytest.mark.row(16)
def test_a_worker_that_cannot_be_ready_ends_the_service_with_its_reason(
    lone: tuple[Service, Store, Path], figure: Callable[[str], None]
) -> None:
    service, _, folder = lone
    # The next worker finds its model damaged.
    for graph in (folder / "models").glob("*/model.onnx"):
        graph.write_bytes(b"damaged")
    killed = time.monotonic()
    worker_of(psutil.Process(service.process.pid)).kill()
    assert service.process.wait(STEP_TIMEOUT_S) == 1
    figure(f"a killed worker whose model was damaged: ended with code 1 after {time.monotonic() - killed:.0f} s")
    assert "error: " in service.log
    assert "does not load" in service.log


def worker_of(parent: psutil.Process) -> psutil.Process:
    """The process that scores."""
    return max(parent.children(), key=lambda each: each.memory_info().rss)
