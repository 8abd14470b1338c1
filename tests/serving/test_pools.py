"""Large models on lanes of their own: what that spares the small ones, and admission by memory."""

import asyncio
import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from essays.manifest import RunMemory
from serving import memory
from serving.catalogue import LocalArtifact, read_model
from serving.errors import NotEnoughMemory, Overloaded, reply_to
from serving.lanes import Job, Lane, LanePool
from serving.loading import load_and_warm
from serving.pools import OWN_NICENESS, Pools

LARGE, SMALL = "large", "small"


def pools(max_open_jobs: int = 4) -> Pools:
    shared = LanePool([Lane(0, {SMALL: None})], max_open_jobs=max_open_jobs)  # type: ignore[dict-item]
    own = LanePool([Lane(1, {LARGE: None})], max_open_jobs=max_open_jobs, niceness=OWN_NICENESS)  # type: ignore[dict-item]
    return Pools(shared, {LARGE: own})


def job(flow: str, work: Callable[[], Any] = time.monotonic) -> Job[Any]:
    return Job(lambda _: work(), flow, 1000)


def test_a_large_model_s_run_holds_up_no_small_one_on_a_machine_with_one_lane() -> None:
    release = threading.Event()

    async def scene() -> list[Any]:
        both = pools()
        running = asyncio.create_task(both.run([job(LARGE, lambda: release.wait(10))], 20))
        await asyncio.sleep(0)
        answered = [await both.run([job(SMALL)], 5) for _ in range(3)]
        assert both.open_jobs == 1
        release.set()
        assert (await running)[0].result is True
        both.close()
        return answered

    assert len(asyncio.run(scene())) == 3


def test_results_come_in_the_order_of_the_jobs_whichever_pool_they_ran_in() -> None:
    async def scene() -> list[str]:
        both = pools()
        done = await both.run([job(name, lambda name=name: name) for name in (SMALL, LARGE, SMALL)], 5)
        both.close()
        return [each.result for each in done]

    assert asyncio.run(scene()) == [SMALL, LARGE, SMALL]


def test_where_one_pool_has_no_room_nothing_stays_in_the_others() -> None:
    release = threading.Event()

    async def scene() -> int:
        both = pools()
        held = [asyncio.create_task(both.run([job(name, lambda: release.wait(10))], 20)) for name in (LARGE, SMALL)]
        held += [asyncio.create_task(both.run([job(LARGE)], 20)) for _ in range(3)]
        await asyncio.sleep(0.05)
        before = both.open_jobs
        with pytest.raises(Overloaded):
            await both.run([job(SMALL), job(LARGE)], 5)
        left = both.open_jobs - before
        release.set()
        await asyncio.gather(*held)
        both.close()
        return left

    assert asyncio.run(scene()) == 0


def test_a_large_model_s_thread_stands_back_and_no_other() -> None:
    def niceness() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    async def scene() -> list[int]:
        both = pools()
        done = await both.run([job(SMALL, niceness), job(LARGE, niceness)], 5)
        both.close()
        return [each.result for each in done]

    usual = niceness()
    assert asyncio.run(scene()) == [usual, max(usual, OWN_NICENESS)]


@pytest.fixture
def large(artifacts: list[LocalArtifact]) -> Any:
    """`tiny` as if it took a gigabyte to load and 100 MB for a thousand tokens."""
    model = read_model(next(artifact for artifact in artifacts if artifact.name == "tiny"))
    needs = RunMemory(
        load_bytes=10**9, bytes_per_token=0, bytes_per_token_pair=100, attention_bytes_per_token_pair=10_000
    )
    return replace(model, manifest=model.manifest.model_copy(update={"memory": needs}))


class Runs:
    runtime = "openvino 1 cpu fp32"


class SpellsOut:
    runtime = "onnxruntime 1 cpu fp32"


def test_an_essay_is_run_where_what_it_takes_is_there(large: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_bytes", lambda: 10**9)
    monkeypatch.setattr(memory, "total_bytes", lambda: 3 * 10**9)
    memory.require_room_to_run(large, Runs(), 2000)  # type: ignore[arg-type]
    with pytest.raises(Overloaded, match=r"tiny: 3000 tokens take about 1100 MB and 1000 MB are free; try again later"):
        memory.require_room_to_run(large, Runs(), 3000)  # type: ignore[arg-type]
    with pytest.raises(NotEnoughMemory, match="too small for so long an essay") as refused:
        memory.require_room_to_run(large, Runs(), 8000)  # type: ignore[arg-type]
    assert reply_to(refused.value).status == 503
    with pytest.raises(NotEnoughMemory):
        memory.require_room_to_run(large, SpellsOut(), 2000)  # type: ignore[arg-type]
    small = replace(large, manifest=large.manifest.model_copy(update={"memory": None}))
    memory.require_room_to_run(small, Runs(), 10**6)  # type: ignore[arg-type]


def test_a_model_is_loaded_where_there_is_room(
    large: Any, artifacts: list[LocalArtifact], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.loading.read_model", lambda _: large)
    monkeypatch.setattr(memory, "free_bytes", lambda: 10**9)
    with pytest.raises(NotEnoughMemory, match=r"tiny: loading it takes about 1000 MB .* serve fewer models"):
        load_and_warm([large.artifact], 1, lambda _: None)
    monkeypatch.setattr(memory, "free_bytes", lambda: 2 * 10**9)
    assert load_and_warm([large.artifact], 1, lambda _: None).lanes


def test_free_memory_is_a_container_s_where_it_has_less(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = memory.free_bytes()
    assert 0 < machine <= memory.total_bytes()
    monkeypatch.setattr(memory, "_GROUP", tmp_path)
    for name, value in {
        "memory.max": "5000000",
        "memory.current": "4000000",
        "memory.stat": "inactive_file 7\n",
    }.items():
        (tmp_path / name).write_text(f"{value}\n")
    assert memory.free_bytes() == 1_000_007
    assert memory.total_bytes() == 5_000_000
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.free_bytes() > 5_000_000


def test_free_memory_is_that_of_the_group_around_with_the_least(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As under systemd: the limit is the service's, and the process may stand in a group inside it."""
    own = tmp_path / "system.slice" / "fairmark.service"
    (own / "inner").mkdir(parents=True)
    (tmp_path / "cgroup").write_text("0::/system.slice/fairmark.service/inner\n")
    monkeypatch.setattr(memory, "_GROUP", tmp_path)
    monkeypatch.setattr(memory, "_OWN_GROUP", tmp_path / "cgroup")
    for folder, limit in ((own, 5_000_000), (own / "inner", 8_000_000)):
        (folder / "memory.max").write_text(f"{limit}\n")
        (folder / "memory.current").write_text("1000000\n")
    assert memory.free_bytes() == 4_000_000
    assert memory.total_bytes() == 5_000_000
