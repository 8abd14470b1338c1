"""The runs that answers need, from the cache where it has them and from the lanes where not.

Runs of single models are kept, never grades: so an ensemble, a comparison and a single model help each other, and a new
ensemble of the same members starts warm. A near-duplicate's run is handed out only where its model, and each ensemble
that mixes it, is proved (`proof`), and where the risk of another grade is small. Of an answer that needs several runs,
the cheap ones are made: only what takes time comes from a near-duplicate.
"""

import asyncio
import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from functools import partial
from typing import Literal, TypeVar

from essays.encoding import TokenEncoding
from essays.prompts import Prompt
from serving.cache.answers import Answers
from serving.cache.flights import Flights, LeaderGone
from serving.cache.proof import shift_scale
from serving.cache.result_cache import EssayText, Found, Pending, ResultCache
from serving.cache.rows import Space
from serving.cache.sql_store import Check
from serving.catalogue import Catalogue, ServedModel
from serving.errors import DeadlinePassed
from serving.inference import Encoded, Run, encode, infer
from serving.lanes import Job, Lane
from serving.pools import Pools
from serving.tracing import Tracing

CHEAP_SHARE = 0.1
"""A run that takes less of an answer's time than this is made, and has its own score."""
SCHEMA = 2
"""Of what a run holds and means; another number is another space."""

Answer = TypeVar("Answer")


class CacheMode(Enum):
    """What a request allows."""

    USE = "use"
    REFRESH = "refresh"
    """Compute, and keep the result (`Cache-Control: no-cache`)."""
    BYPASS = "bypass"
    """Compute, and keep nothing (`Cache-Control: no-store`)."""


@dataclass(frozen=True)
class Part:
    """One model's run, and where it came from."""

    run: Run
    tier: Literal["computed", "exact", "near"]
    age_s: float | None = None
    waited_ms: float = 0.0
    edits: int = 0
    """Words in which a near one's essay differs."""


Parts = dict[str, Part]
"""By model name."""


class CachedRuns:
    """Gets runs for a scorer; all its methods are called from one event loop."""

    def __init__(self, catalogue: Catalogue, pool: Pools, cache: ResultCache | None, tracing: Tracing) -> None:
        self.catalogue = catalogue
        self.pool = pool
        self.cache = cache
        self.tracing = tracing
        self._flights: Flights[Part] = Flights()

    async def collect(
        self, text: str, prompt: Prompt, asked: Sequence[ServedModel], mode: CacheMode, timeout_s: float
    ) -> Parts:
        """A run of every model that answers for `asked` need. Raises what LanePool.run raises."""
        request = _Request(self, text, prompt, asked, mode, time.monotonic() + timeout_s)
        return await request.parts()

    def runtime(self, model: ServedModel) -> str:
        """What runs a single model's graph."""
        return self.pool.sessions[model.name].runtime


class _Request:
    """One essay on its way."""

    def __init__(
        self,
        runs: CachedRuns,
        text: str,
        prompt: Prompt,
        asked: Sequence[ServedModel],
        mode: CacheMode,
        deadline: float,
    ) -> None:
        self.catalogue, self.pool, self.flights = runs.catalogue, runs.pool, runs._flights
        self.cache = None if mode is CacheMode.BYPASS else runs.cache
        self.counted = runs.cache
        self.tracing = runs.tracing
        self.text, self.prompt, self.asked, self.mode, self.deadline = text, prompt, asked, mode, deadline
        self.needed = self.catalogue.runs_needed(asked)
        self.essay: EssayText | None = None
        self.spaces: dict[str, Space] = {}
        if self.cache is not None:
            self.essay = self.cache.essay(text)
            self.spaces = {
                model.name: self.cache.space(
                    model=model.name,
                    digest=model.artifact.digest,
                    runtime=runs.runtime(model),
                    prompt_id=prompt.prompt_id,
                    schema=SCHEMA,
                )
                for model in self.needed
            }

    async def parts(self) -> Parts:
        """Exact ones, near ones that may be used, and computed ones."""
        if self.cache is None or self.mode is CacheMode.REFRESH:
            return await self._compute([model.name for model in self.needed])
        parts = await self._exact(self.cache, [model.name for model in self.needed])
        near = await self._near(self.cache, [model.name for model in self.needed if model.name not in parts])
        verified = self._to_verify(self.cache, near)
        usable = {name: part for name, part in near.items() if name not in verified}
        parts |= await self._compute([each.name for each in self.needed if each.name not in {**parts, **usable}])
        unsteady = self._unsteady(self.cache, {**parts, **usable})
        parts |= {name: part for name, part in usable.items() if name not in unsteady}
        parts |= await self._compute(sorted(unsteady))
        self._learn(self.cache, {name: near[name] for name in verified}, parts)
        for name, part in parts.items():
            if part.tier != "computed":
                self.cache.ledger.hit(name, part.tier, (part.run.tokenize_ms + part.run.infer_ms) / 1000)
        return parts

    async def _exact(self, cache: ResultCache, names: Sequence[str]) -> Parts:
        started = time.perf_counter()
        essay, spaces = self._keys()
        wanted = [spaces[name] for name in names]
        with self.tracing.step("cache.exact"):
            found = await self._asked(cache, lambda: cache.exact(essay, wanted), inline=cache.is_local)
        took_s = time.perf_counter() - started
        for name in names:
            cache.ledger.looked_up(name, took_s / len(names))
        return self._parts(found or {})

    async def _near(self, cache: ResultCache, names: Sequence[str]) -> Parts:
        wanted = [name for name in names if self._looks_for_near(cache, name)]
        if not wanted or not cache.searchable:
            return {}
        started = time.perf_counter()
        essay, spaces = self._keys()
        with self.tracing.step("cache.near"):
            found = await self._asked(cache, lambda: cache.near(essay, [spaces[name] for name in wanted]), inline=False)
        parts = self._parts(found or {})
        took_s = time.perf_counter() - started
        for name in wanted:
            cache.ledger.looked_near(name, took_s, found=name in parts)
        return parts

    async def _asked(self, cache: ResultCache, ask: Callable[[], Answer], *, inline: bool) -> Answer | None:
        """The cache's answer, or None when it does not come in time."""
        if inline:
            return ask()
        patience_s = cache.settings.patience_ms / 1000
        try:
            return await asyncio.wait_for(asyncio.get_running_loop().run_in_executor(cache.threads, ask), patience_s)
        except TimeoutError:
            cache.note_fault("timeout", f"no answer within {patience_s * 1000:g} ms")
        except RuntimeError:
            cache.note_fault("closed", "the cache is closed")
        return None

    async def _compute(self, names: Sequence[str]) -> Parts:
        """Run these on lanes, or wait for who runs the same now."""
        parts: Parts = {}
        left = list(names)
        while left:
            if self.cache is None or self.mode is CacheMode.REFRESH:
                return parts | await self._run(left)
            by_key = {self.spaces[name].key + self._keys()[0].key: name for name in left}
            leading, following = self.flights.take(by_key)
            try:
                names = [by_key[key] for key in leading]
                # Since the first look somebody may have computed the same and landed. Asked only after the lead was
                # taken: what landed before is in the store by now.
                landed = await self._exact(self.cache, names) if names else {}
                landed |= await self._run([name for name in names if name not in landed])
            except BaseException:
                self.flights.crash(leading)
                raise
            self.flights.land({key: landed[by_key[key]] for key in leading})
            # Not before the runs are in the store: in between, another request would find neither.
            self.cache.once_kept(partial(self.flights.drop, leading))
            parts |= landed
            left = []
            for key, future in following.items():
                if (part := await self._followed(future)) is None:
                    left.append(by_key[key])
                else:
                    parts[by_key[key]] = replace(part, tier="exact", age_s=0.0, waited_ms=0.0)
        return parts

    async def _followed(self, future: "asyncio.Future[Part]") -> Part | None:
        """What the leader got; None when it got nothing."""
        if future.done() and not future.exception():
            return future.result()
        try:
            # Whoever waits may leave; the leader's future is not theirs to cancel.
            return await asyncio.wait_for(asyncio.shield(future), self._left_s())
        except LeaderGone:
            return None
        except TimeoutError:
            raise DeadlinePassed("no score within the time for one request; try again later") from None

    async def _run(self, names: Sequence[str]) -> Parts:
        if not names:
            return {}
        models = [self.catalogue.models[name] for name in names]
        with self.tracing.step("lanes"):
            done = await self.pool.run([self._job(model) for model in models], self._left_s())
        parts = {name: replace(each.result, waited_ms=each.waited_ms) for name, each in zip(names, done, strict=True)}
        if self.counted is not None:
            for name, part in parts.items():
                if part.tier == "computed":
                    run_s = (part.run.tokenize_ms + part.run.infer_ms) / 1000
                    self.counted.ledger.computed(name, run_s, bypassed=self.mode is CacheMode.BYPASS)
        return parts

    def _job(self, model: ServedModel) -> Job[Part]:
        """What a lane does: encode, look whether the graph was given just this before, else run it and keep the run."""
        cache, essay, text, prompt_id = self.cache, self.essay, self.text, self.prompt.prompt_id
        space = self.spaces.get(model.name)
        reads = self.mode is CacheMode.USE and isinstance(model.manifest.encoding, TokenEncoding)
        tracing, asked_here = self.tracing, self.tracing.here()

        def on_lane(lane: Lane) -> Part:
            with tracing.step("run", asked_here, model=model.name, lane=lane.number):
                return encode_and_run(lane)

        def encode_and_run(lane: Lane) -> Part:
            with tracing.step("encode"):
                encoded = encode(model, text, prompt_id)
            if cache is None or essay is None or space is None:
                return Part(inferred(lane, encoded), "computed")
            input_key = cache.input_key(encoded.arrays)
            # Texts that differ in what a tokenizer does not see; n-grams and features see everything.
            if reads and (found := cache.same_input(space, input_key)):
                return Part(found.run, "exact", found.age_s)
            run = inferred(lane, encoded)
            if all(map(math.isfinite, (run.raw_unit_score, *run.raw_trait_scores))):
                cache.keep(Pending(essay, space, input_key, run))
            return Part(run, "computed")

        def inferred(lane: Lane, encoded: Encoded) -> Run:
            with tracing.step("infer", tokens=encoded.tokens_used):
                return infer(lane, model, encoded)

        return Job(on_lane, flow=model.name, num_characters=len(text))

    def _looks_for_near(self, cache: ResultCache, name: str) -> bool:
        if cache.settings.near == "off":
            return False
        if any(cache.proof.state(model.artifact.digest) == "alarm" for model in self._asked_that_use({name})):
            return False
        if cache.ledger.is_cheap(name, [model.name for model in self.needed], CHEAP_SHARE):
            return False
        return cache.settings.near == "on" or cache.ledger.worth_trying(name)

    def _to_verify(self, cache: ResultCache, near: Parts) -> set[str]:
        """The near parts that are scored anyway: while an answer they would go into is not proved, and a sample."""
        unproved: set[str] = set()
        for model in self._asked_that_use(near):
            if cache.proof.state(model.artifact.digest) != "proved":
                unproved |= set(model.graph_names) & near.keys()
        return unproved or (set(near) if near and cache.is_sample() else set())

    def _unsteady(self, cache: ResultCache, parts: Parts) -> set[str]:
        """The near parts of answers of which a grade could well be another one."""
        near = {name for name, part in parts.items() if part.tier == "near"}
        unsteady: set[str] = set()
        for model in self._asked_that_use(near):
            if not _is_steady(cache, model, self._risk(cache, model, parts)):
                unsteady |= near & set(model.graph_names)
        for name in unsteady:
            cache.ledger.unsteady(name)
        return unsteady

    def _risk(self, cache: ResultCache, model: ServedModel, parts: Parts) -> float | None:
        """The share of known shifts that would change a grade of the answer; None while too few are known."""
        answers = self._answers(model)
        raw = answers.raw(_runs(parts))
        shifts = cache.proof.shifts(model.artifact.digest, _edits(model, parts), len(raw))
        return None if shifts is None else answers.risk(raw, shifts / self._shift_scale())

    def _learn(self, cache: ResultCache, near: Mapping[str, Part], real: Parts) -> None:
        """From near parts that were scored anyway: how far off answers were, and whether they had other grades."""
        checks = []
        for model in self._asked_that_use(near):
            kept, answers = {**real, **near}, self._answers(model)
            before, after = answers.raw(_runs(kept)), answers.raw(_runs(real))
            risk = self._risk(cache, model, kept)
            # Only what would have been handed out says how often that would have been wrong.
            steady = _is_steady(cache, model, risk)
            checks.append(
                Check(
                    subject=model.artifact.digest,
                    edits=_edits(model, kept),
                    shifts=tuple(((after - before) * self._shift_scale()).tolist()),
                    risk=risk,
                    changed=answers.differ(before, after) if steady else None,
                )
            )
        if checks:
            cache.verify(checks)

    def _answers(self, model: ServedModel) -> Answers:
        return Answers(self.catalogue, model, self.prompt)

    def _shift_scale(self) -> float:
        return shift_scale(len(self._keys()[0].tokens))

    def _asked_that_use(self, names: Collection[str]) -> list[ServedModel]:
        return [model for model in self.asked if not set(model.graph_names).isdisjoint(names)]

    def _parts(self, found: Mapping[bytes, Found]) -> Parts:
        by_key = {space.key: name for name, space in self.spaces.items()}
        return {by_key[key]: Part(each.run, each.tier, each.age_s, edits=each.edits) for key, each in found.items()}

    def _keys(self) -> tuple[EssayText, dict[str, Space]]:
        assert self.essay is not None, "without a cache nothing is looked up"
        return self.essay, self.spaces

    def _left_s(self) -> float:
        return max(self.deadline - time.monotonic(), 0.0)


def _is_steady(cache: ResultCache, model: ServedModel, risk: float | None) -> bool:
    """Whether an answer's grades would hardly be others if its essay were scored."""
    return risk is not None and risk <= cache.proof.limit(model.artifact.digest)


def _runs(parts: Parts) -> dict[str, Run]:
    return {name: part.run for name, part in parts.items()}


def _edits(model: ServedModel, parts: Parts) -> int:
    """The most edits among the parts of one answer."""
    return max(parts[name].edits for name in model.graph_names)
