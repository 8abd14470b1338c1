"""Short essays to a small model, alone and beside a long one on the decoder, on lanes as the service makes them."""

import asyncio
import time
from typing import Any

import numpy as np

from benchmarks.long.one_run import made_arrays, open_session
from benchmarks.long.subject import Subject
from essays.encoding import Arrays
from essays.manifest import Precision
from serving.config import ServiceSettings
from serving.lanes import Job, Lane, LanePool
from serving.pools import OWN_NICENESS, SHARED_NICENESS, Pools

SHORT_TOKENS = 400
_INTERVAL_S = 0.5
"""Between two short essays: about a fifth of one core."""


def beside(small: Subject, large: Subject, num_tokens: int, num_short: int, precision: Precision) -> dict[str, Any]:
    """Milliseconds of short essays without and with the long one, and seconds of the long one."""
    settings = ServiceSettings()
    sessions = {each.name: open_session(each.folder, each.graph, "openvino", precision) for each in (small, large)}
    shared = LanePool([Lane(0, {small.name: sessions[small.name]})], max_open_jobs=64, niceness=SHARED_NICENESS)
    own = LanePool([Lane(1, {large.name: sessions[large.name]})], max_open_jobs=64, niceness=OWN_NICENESS)
    pools = Pools(shared, {large.name: own})

    async def scene() -> dict[str, Any]:
        # First runs compile kernels.
        for name, tokens in ((small.name, SHORT_TOKENS), (large.name, 64)):
            await pools.run([_job(name, made_arrays(tokens))], 60)
        alone = await _traffic(pools, small.name, num_short)
        long_run = asyncio.create_task(_long(pools, large.name, num_tokens))
        with_it = []
        while not long_run.done():
            with_it += await _traffic(pools, small.name, 4)
        pools.close()
        took_s = await long_run
        return {
            "long_tokens": num_tokens,
            "long_wall_s": round(took_s, 1),
            "deadline_s": settings.decoder_timeout_s,
            "within_deadline": took_s <= settings.decoder_timeout_s,
            "short_tokens": SHORT_TOKENS,
            "alone": _summed_up(alone),
            "beside": _summed_up(with_it),
            "p99_ratio": round(float(np.percentile(with_it, 99) / np.percentile(alone, 99)), 2),
        }

    return asyncio.run(scene())


async def _traffic(pools: Pools, name: str, number: int) -> list[float]:
    """An essay at every tick, whatever the others took: milliseconds of each."""
    arrays = made_arrays(SHORT_TOKENS)

    async def one(place: int) -> float:
        await asyncio.sleep(place * _INTERVAL_S)
        started = time.perf_counter()
        await pools.run([_job(name, arrays)], 60)
        return (time.perf_counter() - started) * 1000

    return list(await asyncio.gather(*map(one, range(number))))


async def _long(pools: Pools, name: str, num_tokens: int) -> float:
    started = time.perf_counter()
    await pools.run([_job(name, made_arrays(num_tokens))], 1800)
    return time.perf_counter() - started


def _job(name: str, arrays: Arrays) -> Job[Any]:
    return Job(lambda lane: lane.sessions[name].outputs(arrays), name, 4 * arrays["input_ids"].shape[1])


def _summed_up(milliseconds: list[float]) -> dict[str, float]:
    p50, p99 = np.percentile(milliseconds, [50, 99])
    return {"essays": len(milliseconds), "p50_ms": round(float(p50), 1), "p99_ms": round(float(p99), 1)}
