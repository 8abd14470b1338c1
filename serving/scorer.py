"""From an essay to an answer: the same road as in evaluation, over lanes. Knows neither BentoML nor HTTP.

Normal form and gate -> encoding -> graph -> calibration -> flags. An ensemble's members run side by side; their
calibrated unit scores are mixed, and its own calibration makes the grade.
"""

import asyncio
import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from essays.errors import BadInput, FairmarkError
from essays.gate import Finding, FlaggedEssay, near_duplicates, readable_text
from essays.prompts import Prompt
from serving.advice import flags_for, gate_flags
from serving.cache.result_cache import ResultCache
from serving.cache.runs import CachedRuns, CacheMode, Part
from serving.catalogue import Catalogue, ServedModel
from serving.drift.watch import DriftWatch
from serving.errors import DeadlinePassed, InvalidRequest, internal_error, reply_to
from serving.explaining import Explainer, ExplainSettings
from serving.inference import Run, member_unit_scores, raw_unit_score
from serving.metrics import Metrics
from serving.mistakes import log_mistake
from serving.pools import Pools
from serving.schemas import (
    BatchItem,
    BatchResponse,
    CacheMarker,
    CacheTier,
    ComparisonResponse,
    Disagreement,
    ExplanationResponse,
    ModelIdentity,
    ScoreRequest,
    ScoreResponse,
    SentenceContribution,
    Timing,
    TraitScore,
)
from serving.tracing import Tracing
from serving.traits import TraitSource, trait_source

_LONG_CHARACTERS = 8_000
"""Beyond this an essay is read in a thread: the gate takes about a millisecond for 1,000, and others would wait."""


@dataclass(frozen=True)
class RequestLimits:
    """What one request may take."""

    timeout_s: float
    """For one essay."""
    own_lane_timeout_s: float
    """For one essay on a model with a lane of its own, if that is longer."""
    batch_timeout_s: float
    """After so long, a batch begins no further essay."""
    max_batch_essays: int


class Scorer:
    """Answers for every served model."""

    def __init__(
        self,
        catalogue: Catalogue,
        pool: Pools,
        metrics: Metrics,
        limits: RequestLimits,
        *,
        explaining: ExplainSettings,
        drift: DriftWatch,
        cache: ResultCache | None,
        tracing: Tracing,
    ) -> None:
        self.catalogue = catalogue
        self.pool = pool
        self.metrics = metrics
        self.limits = limits
        self.drift = drift
        self.cache = cache
        self._runs = CachedRuns(catalogue, pool, cache, tracing)
        self._explainer = Explainer(catalogue, pool, explaining)

    async def score(
        self,
        essay: str,
        prompt_id: str,
        model_name: str,
        mode: CacheMode = CacheMode.USE,
        *,
        advisory: bool = False,
        copy: Finding | None = None,
    ) -> ScoreResponse:
        """One model's answer; `advisory` asks for one whatever the gate finds, `copy` is what a batch found.

        Raises a BadInput, FlaggedEssay among them, Overloaded or DeadlinePassed.
        """
        model = self.catalogue.model(model_name)
        prompt = self.catalogue.prompt(prompt_id, model)
        self._require_room([model])
        admitted = await self._admitted(essay, prompt, advisory, copy)
        (answer,) = await self._answers(admitted, prompt, [model], mode)
        return answer

    async def compare(
        self, essay: str, prompt_id: str, mode: CacheMode = CacheMode.USE, *, advisory: bool = False
    ) -> ComparisonResponse:
        """Every model's answer to one essay; no graph runs twice."""
        models = self.catalogue.models_for(prompt_id)
        prompt = self.catalogue.prompt(prompt_id, models[0])
        self._require_room(models)
        admitted = await self._admitted(essay, prompt, advisory)
        answers = await self._answers(admitted, prompt, models, mode)
        scores = [answer.score for answer in answers]
        unit_scores = [answer.unit_score for answer in answers]
        apart = Disagreement(lowest=min(scores), highest=max(scores), unit_spread=max(unit_scores) - min(unit_scores))
        return ComparisonResponse(prompt_id=prompt_id, results=answers, disagreement=apart)

    async def explain(
        self,
        essay: str,
        prompt_id: str,
        model_name: str,
        mode: CacheMode = CacheMode.USE,
        *,
        advisory: bool = False,
    ) -> ExplanationResponse:
        """One model's answer, and what each sentence adds to it. Raises what `score` and `Explainer.explain` raise."""
        model = self.catalogue.model(model_name)
        prompt = self.catalogue.prompt(prompt_id, model)
        self._require_room([model])
        admitted = await self._admitted(essay, prompt, advisory, is_new=False)
        explanation = await self._explainer.explain(admitted.text, prompt, model)
        (answer,) = await self._answers(admitted, prompt, [model], mode)
        scale = prompt.score_range.high - prompt.score_range.low
        sentences = [
            SentenceContribution(text=part, points=contribution * scale)
            for part, contribution in zip(explanation.parts, explanation.contributions, strict=True)
        ]
        return ExplanationResponse(result=answer, sentences=sentences)

    async def score_batch(self, requests: Sequence[ScoreRequest], mode: CacheMode = CacheMode.USE) -> BatchResponse:
        """One result or one error for each essay, in order; a batch never takes more room than there are lanes."""
        if len(requests) > self.limits.max_batch_essays:
            raise InvalidRequest(
                f"essays: {len(requests)} essays, at most {self.limits.max_batch_essays} are taken at a time",
                field="essays",
                hint="send them in several requests",
            )
        room = asyncio.Semaphore(len(self.pool.lanes))
        last_start = time.monotonic() + self.limits.batch_timeout_s

        # A large batch takes a while, and other requests must not wait for it.
        copies = await asyncio.to_thread(_copies, requests)

        async def one(place: int, request: ScoreRequest) -> BatchItem:
            async with room:
                try:
                    if time.monotonic() > last_start:
                        raise DeadlinePassed(
                            f"the batch took more than {self.limits.batch_timeout_s:g} s; send this essay again"
                        )
                    result = await self.score(
                        request.essay,
                        request.prompt_id,
                        request.model,
                        mode,
                        advisory=request.advisory,
                        copy=copies.get(place),
                    )
                    return BatchItem(result=result)
                except FairmarkError as error:
                    return BatchItem(error=reply_to(error).detail)
                except Exception as error:  # noqa: BLE001 - one essay that breaks something must not cost the others
                    log_mistake("answering one essay of a batch", error)
                    return BatchItem(error=internal_error().detail)

        return BatchResponse(results=list(await asyncio.gather(*map(one, range(len(requests)), requests))))

    def _require_room(self, models: Sequence[ServedModel]) -> None:
        # Also for what the cache may hold: to know that, the essay would have to be read, and the gate takes longest.
        self.pool.require_room([model.name for model in self.catalogue.runs_needed(models)])

    async def _admitted(
        self, essay: str, prompt: Prompt, advisory: bool, copy: Finding | None = None, *, is_new: bool = True
    ) -> "_Admitted":
        """The essay past the gate; one that is explained was scored before, and is not counted anew.

        Raises FlaggedEssay where it finds something and no advice was asked for.
        """
        if len(essay) <= _LONG_CHARACTERS:
            return self._admit(essay, prompt, advisory, copy, is_new)
        return await asyncio.to_thread(self._admit, essay, prompt, advisory, copy, is_new)

    def _admit(self, essay: str, prompt: Prompt, advisory: bool, copy: Finding | None, is_new: bool) -> "_Admitted":
        started = time.perf_counter()
        text = readable_text(essay)
        if is_new:
            self.drift.saw_text(prompt.prompt_id, text)
        findings = [*self.catalogue.gate.findings(text, prompt.prompt_id), *([copy] if copy else [])]
        if findings and not advisory:
            self.metrics.refused_essay(found.reason for found in findings)
            raise FlaggedEssay(findings)
        return _Admitted(text, findings, started, is_new)

    async def _answers(
        self, admitted: "_Admitted", prompt: Prompt, models: Sequence[ServedModel], mode: CacheMode
    ) -> list[ScoreResponse]:
        runs = await self._runs.collect(admitted.text, prompt, models, mode, self._timeout_s(models))
        if admitted.is_new:
            # Each graph's own score, whoever asked for it: an ensemble's moves with them.
            for name, part in runs.items():
                unit_score = self.catalogue.models[name].calibration.unit_scores(
                    prompt.prompt_id, part.run.raw_unit_score
                )
                self.drift.saw_score(prompt.prompt_id, name, float(unit_score))
        return [self._answer(model, prompt, runs, mode, admitted) for model in models]

    def _timeout_s(self, models: Sequence[ServedModel]) -> float:
        if any(self.pool.has_own_lane(name) for model in models for name in model.graph_names):
            return max(self.limits.timeout_s, self.limits.own_lane_timeout_s)
        return self.limits.timeout_s

    def _answer(
        self, model: ServedModel, prompt: Prompt, runs: Mapping[str, Part], mode: CacheMode, admitted: "_Admitted"
    ) -> ScoreResponse:
        parts = [runs[name] for name in model.graph_names]
        raw = {name: runs[name].run.raw_unit_score for name in model.graph_names}
        members = member_unit_scores(self.catalogue, model, prompt.prompt_id, raw)
        grade = model.calibration.grade(prompt, raw_unit_score(model, prompt.prompt_id, raw, members))
        source = trait_source(self.catalogue, model, prompt.prompt_id)
        truncated = any(part.run.truncated for part in parts)
        flags = gate_flags(admitted.findings) + flags_for(
            score_range=prompt.score_range,
            interval=grade.interval,
            truncated=truncated,
            member_unit_scores={
                name: members[name] for name, weight in model.weights(prompt.prompt_id).items() if weight
            },
        )
        timing = _timing(parts, admitted.started)
        infer_s = timing.infer / 1000 if any(part.tier == "computed" for part in parts) else None
        self.metrics.scored(
            model.name, prompt.prompt_id, grade.unit_score, flags, wait_s=timing.queue / 1000, infer_s=infer_s
        )
        return ScoreResponse(
            score=grade.score,
            score_range=prompt.score_range,
            unit_score=grade.unit_score,
            interval=grade.interval,
            coverage=model.calibration.coverage,
            traits=_traits(source, {name: part.run for name, part in runs.items()}) if source else [],
            flags=flags,
            hand_off=bool(flags),
            advisory=bool(admitted.findings),
            truncated=truncated,
            tokens_used=max(part.run.tokens_used for part in parts),
            model=self.identity(model),
            cache=self._marker(parts, mode),
            timing_ms=timing,
        )

    def _marker(self, parts: Sequence[Part], mode: CacheMode) -> CacheMarker:
        if self.cache is None:
            return CacheMarker(tier="off")
        if mode is not CacheMode.USE:
            return CacheMarker(tier="bypass")
        tiers = {part.tier for part in parts}
        tier: CacheTier = "near" if "near" in tiers else "miss" if "computed" in tiers else "exact"
        age_s = None if tier == "miss" else round(max(part.age_s or 0.0 for part in parts), 3)
        return CacheMarker(tier=tier, age_s=age_s)

    def identity(self, model: ServedModel) -> ModelIdentity:
        """Which model this is, down to its bytes and what runs it."""
        runtimes = {self.pool.sessions[name].runtime for name in model.graph_names}
        artifact = model.artifact
        return ModelIdentity(
            name=artifact.name, version=artifact.version, digest=artifact.digest, runtime=", ".join(sorted(runtimes))
        )


@dataclass(frozen=True)
class _Admitted:
    """An essay that is scored, perhaps against the gate's advice."""

    text: str
    findings: Sequence[Finding]
    started: float
    is_new: bool
    """Whether it counts where drift is watched."""


def _copies(requests: Sequence[ScoreRequest]) -> dict[int, Finding]:
    """Near-duplicates by place, among essays for the same prompt and model: one may be sent to several models."""
    groups: dict[tuple[str, str], dict[int, str]] = {}
    for place, request in enumerate(requests):
        # Whatever cannot be read gets its own error in its turn.
        with contextlib.suppress(BadInput):
            groups.setdefault((request.prompt_id, request.model), {})[place] = readable_text(request.essay)
    return {place: finding for texts in groups.values() for place, finding in near_duplicates(texts).items()}


def _traits(source: TraitSource, runs: Mapping[str, Run]) -> list[TraitScore]:
    return [
        TraitScore(trait=name, score=grade.score, low=grade.interval[0], high=grade.interval[1])
        for name, grade in zip(source.traits.names, source.grades(source.raw(runs)), strict=True)
    ]


def _timing(parts: Sequence[Part], started: float) -> Timing:
    """Of this request: a run that was kept took none of its time."""
    now = [part for part in parts if part.tier == "computed"]
    return Timing(
        queue=_milliseconds(max(part.waited_ms for part in parts)),
        tokenize=_milliseconds(max((part.run.tokenize_ms for part in now), default=0.0)),
        infer=_milliseconds(max((part.run.infer_ms for part in now), default=0.0)),
        total=_milliseconds((time.perf_counter() - started) * 1000),
    )


def _milliseconds(value: float) -> float:
    # Microseconds are as fine as these clocks are worth reading.
    return round(value, 3)
