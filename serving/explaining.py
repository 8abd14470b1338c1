"""What each sentence adds to a score: the essay is scored again without it, once for each sentence.

Deletion is plain and honest (what the model says without it, by the model that is served), and dear: one run of every
graph for each part. So a long essay is explained by passages, few essays are explained at a time, and their runs are a
flow of their own in the lanes' fair queue: whoever only wants a score does not wait behind them. Nothing is kept: texts
with holes are nobody's essay, and would push essays out of the cache.
"""

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from pydantic import Field

from essays.prompts import Prompt
from essays.settings import SettingsSection
from serving.catalogue import Catalogue, ServedModel
from serving.errors import InvalidRequest, Overloaded
from serving.inference import member_unit_scores, raw_unit_score, run_graph
from serving.lanes import Job
from serving.pools import Pools
from serving.sentences import at_most, split_sentences


class ExplainSettings(SettingsSection):
    """How explanations are bounded: each takes many runs of a model."""

    max_parts: int = Field(default=40, ge=2, le=200)
    """Most parts of an essay; beyond it neighbouring sentences are taken together as passages."""
    at_once: int = Field(default=2, ge=1, le=64)
    """Essays explained at the same moment; beyond it requests get 429."""
    timeout_s: float = Field(default=60.0, gt=0, le=120)
    """The longest that one explanation may take, in seconds."""


@dataclass(frozen=True)
class Explanation:
    """Unit scores of an essay and of the essay without each of its parts."""

    parts: tuple[str, ...]
    """Joined they are the essay."""
    unit_score: float
    """Of the whole essay, stretched as in calibration, but neither rounded nor cut off at the ends of the scale: where
    a score is cut off, no sentence would seem to matter."""
    without: tuple[float, ...]
    """The same without each part."""

    @property
    def contributions(self) -> list[float]:
        """How much of the unit score is gone without each part: positive where the part raises it."""
        return [self.unit_score - left for left in self.without]


class Explainer:
    """Explains essays that passed the gate, on the lanes of the scorer."""

    def __init__(self, catalogue: Catalogue, pool: Pools, settings: ExplainSettings) -> None:
        self.catalogue = catalogue
        self.pool = pool
        self.settings = settings
        self._in_hand = 0

    async def explain(self, text: str, prompt: Prompt, model: ServedModel) -> Explanation:
        """One model's explanation of a normalized essay.

        Raises InvalidRequest for an essay of one part, Overloaded or DeadlinePassed.
        """
        parts = at_most(split_sentences(text), self.settings.max_parts)
        if len(parts) < 2:
            raise InvalidRequest(
                "essay: it is one sentence; without it nothing would be left to score",
                field="essay",
                hint="end its sentences with full stops",
            )
        with self._place():
            unit_scores = await self.unit_scores([text, *holes(parts)], prompt, model)
        return Explanation(tuple(parts), unit_scores[0], tuple(unit_scores[1:]))

    async def unit_scores(self, texts: Sequence[str], prompt: Prompt, model: ServedModel) -> list[float]:
        """`Explanation.unit_score` of each text, no more of them in the queue than there are lanes."""
        room = asyncio.Semaphore(len(self.pool.lanes))
        deadline = time.monotonic() + self.settings.timeout_s

        async def one(text: str) -> float:
            async with room:
                return await self._unit_score(text, prompt, model, max(deadline - time.monotonic(), 0.0))

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one(text)) for text in texts]
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None  # the others ended since this one did
        return [task.result() for task in tasks]

    async def _unit_score(self, text: str, prompt: Prompt, model: ServedModel, timeout_s: float) -> float:
        needed = self.catalogue.runs_needed([model])
        jobs = [
            Job(
                partial(run_graph, model=each, text=text, prompt_id=prompt.prompt_id),
                flow=f"{each.name}, explaining",
                model=each.name,
                num_characters=len(text),
            )
            for each in needed
        ]
        done = await self.pool.run(jobs, timeout_s)
        raw = {each.name: ran.result.raw_unit_score for each, ran in zip(needed, done, strict=True)}
        members = member_unit_scores(self.catalogue, model, prompt.prompt_id, raw)
        own = raw_unit_score(model, prompt.prompt_id, raw, members)
        part = model.calibration.of(prompt.prompt_id)
        return part.centre + part.offset + part.stretch * (own - part.centre)

    @contextmanager
    def _place(self) -> Iterator[None]:
        if self._in_hand >= self.settings.at_once:
            raise Overloaded(
                f"{self._in_hand} essays are being explained and at most {self.settings.at_once} may be at a time;"
                " try again later",
                retry_after_s=5,
            )
        self._in_hand += 1
        try:
            yield
        finally:
            self._in_hand -= 1


def holes(parts: Sequence[str]) -> list[str]:
    """The text without each part."""
    return [without(parts, {place}) for place in range(len(parts))]


def without(parts: Sequence[str], places: set[int]) -> str:
    """The text without the parts at these places."""
    return "".join(part for place, part in enumerate(parts) if place not in places).strip()
