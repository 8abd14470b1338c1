"""The JSON calls, one row each: routes and the OpenAPI document are both made from this table."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Literal

from essays.prompts import Prompt
from essays.source_texts import answers_source
from serving.access import Scope
from serving.cache.runs import CacheMode
from serving.catalogue import ServedModel
from serving.desk import Desk
from serving.drift.report import drift_response
from serving.schemas import (
    BatchRequest,
    BatchResponse,
    ComparisonRequest,
    ComparisonResponse,
    CorpusInfo,
    DriftResponse,
    ExplanationResponse,
    MemberWeights,
    ModelInfo,
    ModelsResponse,
    PromptInfo,
    PromptQuality,
    PromptsResponse,
    PurgeRequest,
    PurgeResponse,
    Schema,
    ScoreRequest,
    ScoreResponse,
    StatusResponse,
    TraitInfo,
    ValidityRequest,
    ValidityResponse,
)
from serving.scorer import Scorer
from serving.traits import trait_source
from serving.validity import answer_in_words, bar_verdict, class_validity


@dataclass(frozen=True)
class Call:
    """A path, what it takes and what it gives."""

    method: Literal["GET", "POST"]
    path: str
    summary: str
    takes: type[Schema] | None
    gives: type[Schema]
    # The request's type is `takes`, which a frozen table of different calls cannot say.
    answer: Callable[[Desk, Any, CacheMode], Coroutine[Any, Any, Schema]]
    errors: tuple[int, ...]
    """Statuses other than 200 that it may answer."""
    scope: Scope | None = None
    """What an API key must allow, where one is required; none is open to everybody."""


async def _score(desk: Desk, request: ScoreRequest, mode: CacheMode) -> ScoreResponse:
    with desk.in_use() as scorer:
        return await scorer.score(request.essay, request.prompt_id, request.model, mode, advisory=request.advisory)


async def _score_batch(desk: Desk, request: BatchRequest, mode: CacheMode) -> BatchResponse:
    with desk.in_use() as scorer:
        return await scorer.score_batch(request.essays, mode)


async def _compare(desk: Desk, request: ComparisonRequest, mode: CacheMode) -> ComparisonResponse:
    with desk.in_use() as scorer:
        return await scorer.compare(request.essay, request.prompt_id, mode, advisory=request.advisory)


async def _explain(desk: Desk, request: ScoreRequest, mode: CacheMode) -> ExplanationResponse:
    with desk.in_use() as scorer:
        return await scorer.explain(request.essay, request.prompt_id, request.model, mode, advisory=request.advisory)


async def _validity(desk: Desk, request: ValidityRequest, _: CacheMode) -> ValidityResponse:
    scorer = desk.scorer()
    model = scorer.catalogue.model(request.model)
    prompt = scorer.catalogue.prompt(request.prompt_id, model)
    found = await asyncio.to_thread(class_validity, request.essays, prompt, model.calibration)
    return ValidityResponse(
        prompt_id=prompt.prompt_id,
        model=scorer.identity(model),
        num_essays=found.num_essays,
        use=found.use,
        answer=answer_in_words(found),
        bars=[bar_verdict(each) for each in found.judged],
    )


async def _drift(desk: Desk, _: None, __: CacheMode) -> DriftResponse:
    return drift_response(desk.drift)


async def _purge(desk: Desk, request: PurgeRequest, _: CacheMode) -> PurgeResponse:
    return await desk.purge(request)


async def _models(desk: Desk, _: None, __: CacheMode) -> ModelsResponse:
    scorer = desk.scorer()
    infos = [_model_info(scorer, model) for model in scorer.catalogue.models.values()]
    return ModelsResponse(default=scorer.catalogue.default_model, models=infos)


async def _prompts(desk: Desk, _: None, __: CacheMode) -> PromptsResponse:
    catalogue = desk.catalogue()
    return PromptsResponse(
        prompts=[
            _prompt_info(prompt, [model.name for model in catalogue.models_for(prompt.prompt_id)])
            for prompt in catalogue.prompts
        ]
    )


async def _status(desk: Desk, _: None, __: CacheMode) -> StatusResponse:
    return desk.status()


_ERRORS = (406, 431)
_ABOUT_ERRORS = (*_ERRORS, 503)
_READING_ERRORS = (*_ERRORS, 400, 401, 403, 408, 413, 415, 422, 503)
_SCORING_ERRORS = (*_READING_ERRORS, 404, 429, 504)

CALLS: tuple[Call, ...] = (
    Call("POST", "/score", "Score an essay", ScoreRequest, ScoreResponse, _score, _SCORING_ERRORS, "score"),
    Call(
        "POST",
        "/score_batch",
        "Score several essays; each gets its result or its error",
        BatchRequest,
        BatchResponse,
        _score_batch,
        _READING_ERRORS,
        "score",
    ),
    Call(
        "POST",
        "/compare",
        "Score an essay with every model",
        ComparisonRequest,
        ComparisonResponse,
        _compare,
        _SCORING_ERRORS,
        "score",
    ),
    Call(
        "POST",
        "/explain",
        "Score an essay, and say what each sentence adds",
        ScoreRequest,
        ExplanationResponse,
        _explain,
        _SCORING_ERRORS,
        "score",
    ),
    Call(
        "POST",
        "/validity",
        "Hold a model against a class that its teacher marked",
        ValidityRequest,
        ValidityResponse,
        _validity,
        (*_READING_ERRORS, 404),
        "score",
    ),
    Call(
        "GET",
        "/models",
        "What is served, and how well it agrees with people",
        None,
        ModelsResponse,
        _models,
        _ABOUT_ERRORS,
    ),
    Call("GET", "/prompts", "Writing tasks and their score ranges", None, PromptsResponse, _prompts, _ABOUT_ERRORS),
    Call("GET", "/status", "State, queue, cache, limits and versions", None, StatusResponse, _status, _ERRORS),
    Call(
        "GET",
        "/drift",
        "Whether essays are still like those that the models were made for",
        None,
        DriftResponse,
        _drift,
        (*_ERRORS, 401, 403),
        "admin",
    ),
    Call(
        "POST",
        "/cache/purge",
        "Forget kept scores of a model, a prompt or an essay",
        PurgeRequest,
        PurgeResponse,
        _purge,
        _READING_ERRORS,
        "admin",
    ),
)


def _model_info(scorer: Scorer, model: ServedModel) -> ModelInfo:
    manifest = model.manifest
    identity = scorer.identity(model)
    return ModelInfo(
        name=identity.name,
        version=identity.version,
        digest=identity.digest,
        runtime=identity.runtime,
        kind=manifest.kind,
        precision=None if model.is_ensemble else scorer.pool.sessions[model.name].precision,
        precisions=["fp32", *(each.precision for each in manifest.precisions)],
        size_bytes=model.size_bytes,
        prompts=[
            PromptQuality.model_validate(quality.model_dump(include=set(PromptQuality.model_fields)))
            for quality in manifest.metrics
        ],
        not_measured=model.unmeasured,
        traits=_trait_infos(scorer, model),
        members=[MemberWeights(**member.model_dump()) for member in manifest.members],
        corpora=[CorpusInfo(**corpus.model_dump()) for corpus in manifest.corpora],
        git_commit=manifest.git_commit,
        card=model.card,
    )


def _trait_infos(scorer: Scorer, model: ServedModel) -> list[TraitInfo]:
    sources = [trait_source(scorer.catalogue, model, prompt_id) for prompt_id in model.manifest.prompt_ids]
    return [
        TraitInfo(
            trait=trait.name,
            prompt_id=source.traits.prompt_id,
            score_range=source.traits.score_range,
            num_essays=trait.quality.num_essays if trait.quality else None,
            qwk=trait.quality.qwk if trait.quality else None,
            qwk_interval=trait.quality.qwk_interval if trait.quality else None,
            holistic_qwk=trait.quality.holistic_qwk if trait.quality else None,
            better_than_holistic=trait.quality.beats_holistic if trait.quality else None,
        )
        for source in sources
        if source
        for trait in source.traits.traits
    ]


def _prompt_info(prompt: Prompt, models: list[str]) -> PromptInfo:
    return PromptInfo(
        prompt_id=prompt.prompt_id,
        title=prompt.title,
        description=prompt.description,
        writers=prompt.writers,
        score_range=prompt.score_range,
        answers_source=answers_source(prompt.prompt_id),
        models=models,
    )
