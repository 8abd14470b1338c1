"""One worker's state: where each model stands, and the scorer once all are warm. The routes ask nothing else."""

import asyncio
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version

from essays.gate import MAX_CHARACTERS, MIN_WORDS
from essays.text import normalize_text
from serving.cache.result_cache import ResultCache
from serving.cache.status import CacheCollector, cache_info
from serving.catalogue import Catalogue, LocalArtifact
from serving.config import ServiceSettings
from serving.errors import InvalidRequest, NotReady
from serving.lanes import LanePool
from serving.loading import WarmModels, load_and_warm
from serving.metrics import Metrics
from serving.schemas import (
    CacheInfo,
    Limits,
    ModelState,
    PurgeRequest,
    PurgeResponse,
    QueueInfo,
    ReadinessResponse,
    StatusResponse,
)
from serving.scorer import RequestLimits, Scorer

SOFTWARE = ("bentoml", "onnxruntime", "openvino", "tokenizers", "numpy")


class Desk:
    """Filled once by `open`, then read by every request."""

    def __init__(self, settings: ServiceSettings) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self._scorer: Scorer | None = None
        self._states: dict[str, ModelState] = {}
        self._started = time.monotonic()

    def expect(self, artifacts: Sequence[LocalArtifact], refused: Mapping[str, str] | None = None) -> None:
        """List the models that `open` will load, as waiting, and those that were refused before, with the reason."""
        self._states = {artifact.name: ModelState(name=artifact.name, state="waiting") for artifact in artifacts}
        for name, reason in (refused or {}).items():
            self._states[name] = ModelState(name=name, state="failed", detail=reason)
        self.metrics.served_stale(sum(artifact.stale for artifact in artifacts))

    def open(self, artifacts: Sequence[LocalArtifact], report: Callable[[ModelState], None]) -> None:
        """Load and warm the models, then take requests. Blocks for seconds. Raises an ArtifactError."""

        def note(state: ModelState) -> None:
            self._states[state.name] = state
            report(state)

        runtimes, settings = self.settings.make_runtimes(), self.settings
        warm = load_and_warm(artifacts, settings.num_lanes, note, runtimes, require=settings.require)
        failed = {state.name: state.detail or "" for state in self._states.values() if state.state == "failed"}
        warm.catalogue.unavailable.update(failed)
        self._scorer = self._make_scorer(warm)

    def close(self) -> None:
        """Take no more requests."""
        if self._scorer is not None:
            self._scorer.pool.close()
            if self._scorer.cache is not None:
                self._scorer.cache.close()

    @property
    def ready(self) -> bool:
        """Whether every model is warm."""
        return self._scorer is not None

    def scorer(self) -> Scorer:
        """The scorer. Raises NotReady with where each model stands."""
        if self._scorer is None:
            raise NotReady(f"not ready: {_in_words(list(self._states.values()))}")
        return self._scorer

    def catalogue(self) -> Catalogue:
        """The served models. Raises NotReady."""
        return self.scorer().catalogue

    def readiness(self) -> ReadinessResponse:
        """Whether requests may come, and where each model stands."""
        return ReadinessResponse(ready=self.ready, models=list(self._states.values()))

    def status(self) -> StatusResponse:
        """Everything an operator asks first."""
        return StatusResponse(
            ready=self.ready,
            models=list(self._states.values()),
            runtimes={} if self._scorer is None else _runtimes(self._scorer.pool),
            uptime_s=round(time.monotonic() - self._started, 1),
            queue=None if self._scorer is None else _queue(self._scorer.pool),
            cache=self._cache_info(),
            limits=self._limits(),
            versions={"python": platform.python_version(), **{name: version(name) for name in SOFTWARE}},
        )

    async def purge(self, request: PurgeRequest) -> PurgeResponse:
        """Forget kept scores. Raises InvalidRequest, or CacheFault when it could not be done."""
        cache = self.scorer().cache
        parts = [request.model, request.prompt_id, request.essay]
        if request.everything == any(part is not None for part in parts):
            raise InvalidRequest(
                "everything: say what to purge by model, prompt_id or essay, or that it is everything, and not both",
                field="everything",
            )
        if cache is None:
            return PurgeResponse(purged=0)
        text = None if request.essay is None else normalize_text(request.essay)
        purged = await asyncio.to_thread(cache.purge, model=request.model, prompt_id=request.prompt_id, text=text)
        return PurgeResponse(purged=purged)

    def render_metrics(self) -> bytes:
        """Prometheus' text."""
        open_jobs = 0 if self._scorer is None else self._scorer.pool.open_jobs
        return self.metrics.render(self._states, open_jobs)

    def _limits(self) -> Limits:
        return Limits(
            max_body_bytes=self.settings.max_body_bytes,
            max_characters=MAX_CHARACTERS,
            min_words=MIN_WORDS,
            max_batch_essays=self.settings.max_batch_essays,
            timeout_s=self.settings.timeout_s,
        )

    def _cache_info(self) -> CacheInfo:
        models = [] if self._scorer is None else list(self._scorer.catalogue.models.values())
        return cache_info(self.settings.cache, None if self._scorer is None else self._scorer.cache, models)

    def _make_scorer(self, warm: WarmModels) -> Scorer:
        settings = self.settings
        limits = RequestLimits(settings.timeout_s, settings.batch_timeout_s, settings.max_batch_essays)
        cache = None if settings.cache.kind == "off" else ResultCache(settings.cache)
        if cache is not None:
            self.metrics.registry.register(CacheCollector(cache, list(warm.catalogue.models.values())))
        return Scorer(warm.catalogue, LanePool(warm.lanes, settings.max_open_jobs), self.metrics, limits, cache)


def _queue(pool: LanePool) -> QueueInfo:
    return QueueInfo(lanes=len(pool.lanes), open_jobs=pool.open_jobs, max_open_jobs=pool.max_open_jobs)


def _runtimes(pool: LanePool) -> dict[str, str]:
    return {name: session.runtime for name, session in pool.lanes[0].sessions.items()}


def _in_words(states: Sequence[ModelState]) -> str:
    return ", ".join(f"{state.name} {state.state}" for state in states) or "no models yet"
