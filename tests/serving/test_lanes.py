"""The queue before the lanes: bounded by work, fair between models, and nothing run that nobody waits for."""

import asyncio
import threading
import time
from collections.abc import Callable

import pytest

from serving.errors import DeadlinePassed, Overloaded
from serving.fair_queue import FairQueue
from serving.lanes import Job, Lane, LanePool
from serving.pace import Pace

HEAVY, LIGHT = "heavy", "light"


def pool_of(num_lanes: int = 1, **bounds: float) -> LanePool:
    """Lanes of two models."""
    sessions = dict.fromkeys((HEAVY, LIGHT))
    settings = {"max_open_jobs": 100, **bounds}
    return LanePool([Lane(number, sessions) for number in range(num_lanes)], **settings)  # type: ignore[arg-type]


def sleeping(duration_s: float, flow: str, num_characters: int = 1000) -> Job[float]:
    def work(_: Lane) -> float:
        time.sleep(duration_s)
        return time.monotonic()

    return Job(work, flow, num_characters)


async def teach(pool: LanePool, heavy_s: float, light_s: float) -> None:
    """Let the pool see how long runs take."""
    for _ in range(3):
        await pool.run([sleeping(heavy_s, HEAVY), sleeping(light_s, LIGHT)], 10)


def test_a_flow_with_short_work_does_not_wait_behind_one_with_long() -> None:
    queue: FairQueue[str] = FairQueue()
    for number in range(4):
        queue.put(HEAVY, f"heavy {number}", 1.0)
    for number in range(4):
        queue.put(LIGHT, f"light {number}", 0.25)
    assert [queue.take() for _ in range(8)] == [
        "heavy 0", "light 0", "light 1", "light 2", "light 3", "heavy 1", "heavy 2", "heavy 3",
    ]  # fmt: skip
    with pytest.raises(IndexError):
        queue.take()


def test_an_idle_flow_saves_nothing_up_and_what_was_taken_out_is_not_charged() -> None:
    queue: FairQueue[str] = FairQueue()
    for number in range(3):
        queue.put(HEAVY, f"heavy {number}", 1.0)
    assert [queue.take(), queue.take()] == ["heavy 0", "heavy 1"]
    late = [f"light {number}" for number in range(3)]
    for item in late:
        queue.put(LIGHT, item, 1.0)
    assert queue.discard(LIGHT, late[0])
    assert not queue.discard(LIGHT, late[0])
    # Had it credit for its idle time, both would come first.
    assert [queue.take() for _ in range(3)] == ["light 1", "heavy 2", "light 2"]


def test_the_pace_follows_what_runs_take_and_grows_with_the_essay() -> None:
    pace = Pace()
    for _ in range(50):
        pace.learn(HEAVY, 2000, 0.4)
    assert pace.expected_s(HEAVY, 2000) == pytest.approx(0.4)
    assert pace.expected_s(HEAVY, 6000) == pytest.approx(1.2)
    assert pace.expected_s(HEAVY, 10) == pytest.approx(0.1)
    for _ in range(50):
        pace.learn(HEAVY, 2000, 0.1)
    assert pace.expected_s(HEAVY, 2000) == pytest.approx(0.1, rel=0.05)


def test_a_run_during_which_the_process_was_paused_hardly_counts_and_one_that_is_slow_from_now_on_does() -> None:
    pace = Pace()
    pace.learn(HEAVY, 2000, 0.1)
    pace.learn(HEAVY, 2000, 600.0)
    assert pace.expected_s(HEAVY, 2000) == pytest.approx(0.13)
    for _ in range(30):
        pace.learn(HEAVY, 2000, 1.0)
    assert pace.expected_s(HEAVY, 2000) == pytest.approx(1.0, rel=0.2)


def refusals(max_wait_s: float, duration_s: float) -> tuple[int, list[Overloaded]]:
    """Of 150 jobs at once: how many were taken, and what the others were told."""

    async def scene() -> tuple[int, list[Overloaded]]:
        pool = pool_of(max_wait_s=max_wait_s)
        await teach(pool, duration_s, duration_s)
        gate = threading.Event()
        running = [asyncio.create_task(pool.run([Job(lambda _: gate.wait(10), HEAVY, 1000)], 30)) for _ in range(150)]
        await asyncio.sleep(0.1)
        gate.set()
        outcomes = await asyncio.gather(*running, return_exceptions=True)
        pool.close()
        refused = [outcome for outcome in outcomes if isinstance(outcome, Overloaded)]
        return len(outcomes) - len(refused), refused

    return asyncio.run(scene())


def test_a_queue_of_long_work_is_shorter_than_one_of_short() -> None:
    # A fifth of a second each, or somewhat more on a busy machine: about five fit into a second of waiting.
    long, told = refusals(max_wait_s=1.0, duration_s=0.2)
    assert 2 <= long <= 6
    assert "would wait about 1." in str(told[0])
    assert told[0].retry_after_s >= 1
    # Of short ones the number is the bound, and one place in eight is kept for the other model.
    short, told = refusals(max_wait_s=60.0, duration_s=0.001)
    assert short == 88
    assert "at most 100 may be" in str(told[0])


@pytest.mark.row(25)
def test_a_model_that_fills_the_queue_leaves_room_and_time_to_another() -> None:
    async def scene() -> tuple[list[float], list[float], int]:
        pool = pool_of(max_wait_s=1.0)
        await teach(pool, 0.05, 0.002)
        heavy = [asyncio.create_task(pool.run([sleeping(0.05, HEAVY)], 30)) for _ in range(60)]
        await asyncio.sleep(0.02)
        started = time.monotonic()
        light = await asyncio.gather(*(pool.run([sleeping(0.002, LIGHT)], 30) for _ in range(5)))
        outcomes = await asyncio.gather(*heavy, return_exceptions=True)
        pool.close()
        done = [outcome[0].result for outcome in outcomes if not isinstance(outcome, BaseException)]
        refused = sum(isinstance(outcome, Overloaded) for outcome in outcomes)
        return [each[0].result - started for each in light], [at - started for at in done], refused

    light, heavy, refused = asyncio.run(scene())
    assert refused > 20
    # Behind what ran and a few of the others, not behind all of them.
    assert max(light) < max(heavy) / 2


@pytest.mark.row(29)
def test_a_job_that_raises_costs_nobody_else_anything() -> None:
    def poison(_: Lane) -> float:
        raise MemoryError("a graph that breaks")

    async def scene() -> list[object]:
        pool = pool_of(num_lanes=2)
        jobs = [Job(poison, HEAVY, 10) if number % 3 == 1 else sleeping(0.01, HEAVY) for number in range(12)]
        outcomes = await asyncio.gather(*(pool.run([job], 10) for job in jobs), return_exceptions=True)
        assert pool.open_jobs == 0
        assert pool.open_work_s == 0
        assert len(await pool.run([sleeping(0.001, HEAVY)] * 4, 10)) == 4
        pool.close()
        return list(outcomes)

    outcomes = asyncio.run(scene())
    assert [isinstance(outcome, MemoryError) for outcome in outcomes] == [number % 3 == 1 for number in range(12)]


def waits_in_vain(leave: Callable[["asyncio.Task[object]"], None], timeout_s: float) -> tuple[type, int, list[int]]:
    """What a job behind a busy lane came to, how many were told to be dropped, and what ran."""
    ran: list[int] = []
    drops: list[int] = []
    release = threading.Event()

    async def scene() -> type:
        pool = LanePool([Lane(0, {})], max_open_jobs=9, on_drop=lambda: drops.append(1))
        busy = asyncio.create_task(pool.run([Job(lambda _: release.wait(10), HEAVY, 1)], 10))
        await asyncio.sleep(0.05)
        waiting = asyncio.create_task(pool.run([Job(lambda _: ran.append(1), LIGHT, 1)], timeout_s))
        await asyncio.sleep(0.05)
        assert pool.open_jobs == 2
        leave(waiting)
        (outcome,) = await asyncio.gather(waiting, return_exceptions=True)
        assert pool.open_jobs == 1
        release.set()
        await busy
        await pool.run([Job(lambda _: None, LIGHT, 1)], 10)
        pool.close()
        return type(outcome)

    return asyncio.run(scene()), len(drops), ran


@pytest.mark.row(26)
def test_a_job_whose_client_left_is_dropped_before_it_runs_and_counted() -> None:
    assert waits_in_vain(lambda task: task.cancel(), 10) == (asyncio.CancelledError, 1, [])


@pytest.mark.row(27)
def test_a_job_that_waited_past_its_deadline_is_dropped_before_it_runs_and_counted() -> None:
    assert waits_in_vain(lambda task: None, 0.2) == (DeadlinePassed, 1, [])


def test_a_closed_pool_ends_its_threads_and_drops_what_waits() -> None:
    async def scene() -> BaseException | list[object]:
        pool = pool_of()
        running = asyncio.create_task(pool.run([sleeping(0.2, HEAVY)], 10))
        await asyncio.sleep(0.05)
        waiting = asyncio.create_task(pool.run([sleeping(0.0, HEAVY)], 10))
        await asyncio.sleep(0.05)
        pool.close()
        assert len(await running) == 1
        (outcome,) = await asyncio.gather(waiting, return_exceptions=True)
        return outcome  # type: ignore[return-value]

    before = {thread.ident for thread in threading.enumerate()}
    assert isinstance(asyncio.run(scene()), asyncio.CancelledError)
    deadline = time.monotonic() + 5
    while left := [each for each in threading.enumerate() if each.ident not in before and each.name.startswith("lane")]:
        assert time.monotonic() < deadline, left
        time.sleep(0.01)
