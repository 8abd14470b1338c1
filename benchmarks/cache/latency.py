"""How long look-ups take, by store and number of entries, and what a hit saves end to end.

The stores are filled with random vectors, the hardest case for a neighbour graph, and real essays among them are asked
for. Wall times are of a machine that does other work; processor times of the embedded store are of the look-up alone.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from benchmarks.cache.variants import variant
from benchmarks.speed.chosen import ChosenEssay
from deploy import local_postgres
from essays.console import say
from serving.cache.result_cache import Pending, ResultCache
from serving.cache.rows import NewEntry, Space
from serving.cache.settings import CacheSettings
from serving.cache.sketch import DIMENSIONS
from serving.desk import Desk
from serving.inference import Run
from serving.routes import create_app
from serving.swagger import swagger_folder

QUERIES = 1_000
_BATCH = 1_000
_RUN = Run(0.5, 400, False, tokenize_ms=0.5, infer_ms=80.0)
SETTLE_TIMEOUT_S = 1_800


def measure_stores(folder: Path, sizes: Sequence[int], essays: Sequence[ChosenEssay]) -> list[dict[str, Any]]:
    """A row for each store and size."""
    rows = []
    for store in ("embedded", "postgresql"):
        server = local_postgres.started(folder / "postgres") if store == "postgresql" else nullcontext("embedded")
        with server as address:
            rows += _measure_sizes(store, address, folder / "latency", sizes, essays)
    return rows


def _measure_sizes(
    store: str, address: str, folder: Path, sizes: Sequence[int], essays: Sequence[ChosenEssay]
) -> list[dict[str, Any]]:
    settings = {"store": address, "folder": folder, "max_entries": 10 * max(sizes), "max_bytes": 10**10}
    settings |= {"patience_ms": 5_000, "near": "on"}
    rows, filled = [], 0
    cache = _open(settings)
    for essay in essays:
        cache.keep(Pending(cache.essay(essay.text), _space(cache, essay), b"", _RUN))
    cache.settle()
    for size in sorted(sizes):
        started = time.perf_counter()
        _fill(cache, _space(cache, essays[0]), filled, size - len(essays))
        fill_s, filled = time.perf_counter() - started, size - len(essays)
        cache.close()
        started = time.perf_counter()
        cache = _open(settings)
        rows.append(
            {
                "store": store,
                "entries": size,
                "filled_in_s": fill_s,
                "searchable_after_start_s": time.perf_counter() - started,
                **_look_ups(cache, essays),
            }
        )
        say(f"latency: {store} at {size}")
    cache.close()
    return rows


def _open(settings: dict[str, Any]) -> ResultCache:
    cache = ResultCache(CacheSettings.model_validate(settings))
    deadline = time.monotonic() + SETTLE_TIMEOUT_S
    while not cache.searchable and time.monotonic() < deadline:
        time.sleep(0.01)
    return cache


def _look_ups(cache: ResultCache, essays: Sequence[ChosenEssay]) -> dict[str, Any]:
    chosen = [essays[number % len(essays)] for number in range(QUERIES)]
    spaces = [_space(cache, essay) for essay in chosen]
    slips = [variant("one_word_replaced", essay.essay_id, essay.text, "") for essay in chosen]
    others = [variant("words_shuffled", essay.essay_id, essay.text, "") for essay in chosen]

    def exact(number: int) -> bool:
        return bool(cache.exact(cache.essay(chosen[number].text), [spaces[number]]))

    def near(texts: Sequence[str]) -> Callable[[int], bool]:
        return lambda number: bool(cache.near(cache.essay(texts[number]), [spaces[number]]))

    def missed(number: int) -> bool:
        return bool(cache.exact(cache.essay(others[number]), [spaces[number]]))

    return {
        "exact_hit": _timed(exact),
        "exact_miss": _timed(missed),
        "near_hit": _timed(near(slips)),
        "near_miss": _timed(near(others)),
    }


def _timed(ask: Callable[[int], bool]) -> dict[str, float]:
    """Percentiles in milliseconds, of wall time and of this thread's processor time."""
    for number in range(20):
        ask(number)
    walls, cpus, hits = [], [], 0
    for number in range(QUERIES):
        wall, cpu = time.perf_counter(), time.thread_time()
        hits += ask(number)
        cpus.append(time.thread_time() - cpu)
        walls.append(time.perf_counter() - wall)
    return {"hit_rate": hits / QUERIES, **percentiles(walls), **percentiles(cpus, "cpu_")}


def percentiles(seconds: Sequence[float], prefix: str = "") -> dict[str, float]:
    """Median and 99th percentile in milliseconds."""
    p50, p99 = np.percentile(seconds, [50, 99]) * 1000
    return {f"{prefix}p50_ms": round(float(p50), 4), f"{prefix}p99_ms": round(float(p99), 4)}


def _fill(cache: ResultCache, space: Space, start: int, end: int) -> None:
    """Entries of nobody: random vectors, and words of an essay's number."""
    assert cache.store is not None
    if not cache.store.is_local:
        # Made again, at once, when the store is opened next.
        with cache.store.writing() as connection:
            connection.run(f"DROP INDEX IF EXISTS prints_by_{cache.settings.metric}")
    rng = np.random.default_rng(start)
    for first in range(start, end, _BATCH):
        number = min(_BATCH, end - first)
        vectors = rng.normal(size=(number, DIMENSIONS)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        cache.store.write([_entry(space, first + place, vector, rng) for place, vector in enumerate(vectors)])


def _entry(space: Space, number: int, vector: np.ndarray, rng: np.random.Generator) -> NewEntry:
    key = number.to_bytes(16, "little")
    words = rng.integers(0, 2**32, 450, dtype=np.uint32).tobytes()
    return NewEntry(space, key, key, words, vector, b"", key, b"", time.time(), b"")


def _space(cache: ResultCache, essay: ChosenEssay) -> Space:
    return cache.space(model="bench", digest="0" * 64, runtime="none", prompt_id=essay.prompt_id, schema=0)


def measure_end_to_end(desk: Desk, essays: Sequence[ChosenEssay]) -> dict[str, Any]:
    """Whole HTTP requests in this process, by model: computed, and answered from the cache."""
    return asyncio.run(_end_to_end(desk, essays))


async def _end_to_end(desk: Desk, essays: Sequence[ChosenEssay]) -> dict[str, Any]:
    app = create_app(lambda: desk, swagger_folder())
    cache = desk.scorer().cache
    assert cache is not None
    report = {}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service") as client:
        for name in desk.catalogue().models:
            times: dict[str, list[float]] = {"bypass": [], "exact": []}
            for essay in essays:
                body = {"essay": essay.text, "prompt_id": essay.prompt_id, "model": name, "advisory": True}
                for tier, headers in (("bypass", {"Cache-Control": "no-cache"}), ("exact", {})):
                    started = time.perf_counter()
                    answer = await client.post("/score", json=body, headers=headers)
                    times[tier].append(time.perf_counter() - started)
                    assert answer.headers["X-Cache"] == tier, answer.text
                    cache.settle()
            computed, kept = np.median(times["bypass"]), np.median(times["exact"])
            report[name] = {
                "computed": percentiles(times["bypass"]),
                "exact_hit": percentiles(times["exact"]),
                "times_faster": round(float(computed / kept), 1),
            }
    return report
