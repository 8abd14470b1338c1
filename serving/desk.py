"""One worker's state: where each model stands, and the scorer once all are warm. The routes ask nothing else."""

import asyncio
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.metadata import version

from essays.gate import MAX_CHARACTERS, MIN_WORDS, readable_text
from serving.cache.result_cache import ResultCache
from serving.cache.status import CacheCollector, cache_info
from serving.catalogue import Catalogue, LocalArtifact, ServedModel
from serving.config import ServiceSettings
from serving.drift.report import DriftCollector
from serving.drift.watch import DriftWatch
from serving.editions import Editions
from serving.errors import InvalidRequest, NotReady, UpdateRefused
from serving.lanes import LanePool
from serving.loading import WarmModels, load_and_warm
from serving.metrics import Load, Metrics
from serving.pools import OWN_NICENESS, SHARED_NICENESS, Pools
from serving.schemas import (
    Limits,
    ModelState,
    PurgeRequest,
    PurgeResponse,
    QueueInfo,
    ReadinessResponse,
    StatusResponse,
    UpdateInfo,
)
from serving.scorer import RequestLimits, Scorer
from serving.tracing import Tracing

SOFTWARE = ("bentoml", "onnxruntime", "openvino", "tokenizers", "numpy")


class Desk:
    """Filled by `open`, read by every request, and filled anew by `swap` while requests go on."""

    def __init__(self, settings: ServiceSettings) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.drift = DriftWatch(settings.drift)
        self.metrics.registry.register(DriftCollector(self.drift))
        self.tracing = Tracing(settings.tracing, self.metrics.exported)
        self.artifacts: tuple[LocalArtifact, ...] = ()
        """What is served."""
        self._editions = Editions()
        self._cache: ResultCache | None = None
        self._states: dict[str, ModelState] = {}
        self._update = UpdateInfo(state="none")
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

        warm = self._load(artifacts, note)
        if self.settings.cache.kind != "off":
            self._cache = ResultCache(self.settings.cache)
            self.metrics.registry.register(CacheCollector(self._cache, lambda: self._served_models))
        self._serve(artifacts, warm, self._states)

    def swap(self, artifacts: Sequence[LocalArtifact], report: Callable[[ModelState], None]) -> None:
        """Load and warm another set beside the one that is served, then serve it from the next request on.

        Requests in hand keep the old one, whose lanes end with the last of them. Blocks for seconds. Raises an
        ArtifactError or UpdateRefused, and then what was served still is; `refuse` says so to who asks.
        """
        if [artifact.digest for artifact in artifacts] == [artifact.digest for artifact in self.artifacts]:
            self._finish_update(artifacts, switched=False)
            return
        states: dict[str, ModelState] = {}

        def note(state: ModelState) -> None:
            states[state.name] = state
            self._update = self._update.model_copy(update={"models": list(states.values())})
            report(state)

        self._update = UpdateInfo(state="loading", num_switches=self._update.num_switches)
        warm = self._load(artifacts, note)
        _require_none_lost(self._served_models, artifacts, warm, states)
        self._serve(artifacts, warm, states)
        self._finish_update(artifacts, switched=True)

    def refuse(self, reason: str) -> None:
        """Note that a changed set of champions is not served, for a reason that whoever asks for the status reads."""
        self._update = self._update.model_copy(update={"state": "refused", "reason": reason})
        self.metrics.updated(switched=False, refused=True)

    def close(self) -> None:
        """Take no more requests."""
        self._editions.close()
        self.drift.save()
        if self._cache is not None:
            self._cache.close()
        self.tracing.close()

    @property
    def ready(self) -> bool:
        """Whether every model is warm."""
        return self._editions.current is not None

    def scorer(self) -> Scorer:
        """The scorer, for what ends before a swap could: `in_use` for a request. Raises NotReady, as that does."""
        return self._ready(self._editions.current)

    @contextmanager
    def in_use(self) -> Iterator[Scorer]:
        """One set of models for a whole request. Raises NotReady with where each model stands."""
        with self._editions.in_use() as scorer:
            yield self._ready(scorer)

    def require_room(self) -> None:
        """Raise Overloaded where no essay would be taken, whatever it is and whichever model should score it."""
        if scorer := self._editions.current:
            scorer.pool.require_room()

    def catalogue(self) -> Catalogue:
        """The served models. Raises NotReady."""
        return self.scorer().catalogue

    def readiness(self) -> ReadinessResponse:
        """Whether requests may come, and where each model stands."""
        return ReadinessResponse(ready=self.ready, models=list(self._states.values()))

    def status(self) -> StatusResponse:
        """Everything an operator asks first."""
        scorer = self._editions.current
        return StatusResponse(
            ready=self.ready,
            models=list(self._states.values()),
            runtimes=_runtimes(scorer.pool) if scorer else {},
            uptime_s=round(time.monotonic() - self._started, 1),
            queue=_queue(scorer),
            update=self._update,
            cache=cache_info(self.settings.cache, self._cache, self._served_models),
            limits=self.limits,
            versions=_versions(),
        )

    async def purge(self, request: PurgeRequest) -> PurgeResponse:
        """Forget kept scores.

        Raises InvalidRequest, what `readable_text` raises for the essay, or CacheFault when it could not be done.
        """
        self.scorer()  # raises NotReady
        cache = self._cache
        parts = [request.model, request.prompt_id, request.essay]
        if request.everything == any(part is not None for part in parts):
            raise InvalidRequest(
                "everything: say what to purge by model, prompt_id or essay, or that it is everything, and not both",
                field="everything",
            )
        # What could not be read was never scored, nor kept; and to normalize it may take minutes.
        text = None if request.essay is None else readable_text(request.essay)
        if cache is None:
            return PurgeResponse(purged=0)
        purged = await asyncio.to_thread(cache.purge, model=request.model, prompt_id=request.prompt_id, text=text)
        return PurgeResponse(purged=purged)

    def render_metrics(self) -> bytes:
        """Prometheus' text."""
        scorer = self._editions.current
        return self.metrics.render(self._states, self.artifacts, _load(scorer.pool) if scorer else Load())

    @property
    def limits(self) -> Limits:
        """What one request may ask for."""
        return Limits(
            max_body_bytes=self.settings.max_body_bytes,
            max_characters=MAX_CHARACTERS,
            min_words=MIN_WORDS,
            max_batch_essays=self.settings.max_batch_essays,
            timeout_s=self.settings.timeout_s,
            max_explained_parts=self.settings.explain.max_parts,
        )

    @property
    def _served_models(self) -> list[ServedModel]:
        scorer = self._editions.current
        return list(scorer.catalogue.models.values()) if scorer else []

    def _ready(self, scorer: Scorer | None) -> Scorer:
        if scorer is None:
            raise NotReady(f"not ready: {_in_words(list(self._states.values()))}")
        return scorer

    def _load(self, artifacts: Sequence[LocalArtifact], note: Callable[[ModelState], None]) -> WarmModels:
        runtimes = self.settings.make_runtimes()
        num_lanes = self.settings.num_lanes(runtimes)
        return load_and_warm(artifacts, num_lanes, note, runtimes, require=self.settings.require)

    def _serve(self, artifacts: Sequence[LocalArtifact], warm: WarmModels, states: dict[str, ModelState]) -> None:
        failed = {state.name: state.detail or "" for state in states.values() if state.state == "failed"}
        warm.catalogue.unavailable.update(failed)
        settings = self.settings
        limits = RequestLimits(
            settings.timeout_s, settings.decoder_timeout_s, settings.batch_timeout_s, settings.max_batch_essays
        )
        pools = self._pools(warm)
        self.drift.follow(warm.catalogue)
        self._editions.replace(
            Scorer(
                warm.catalogue,
                pools,
                self.metrics,
                limits,
                explaining=settings.explain,
                drift=self.drift,
                cache=self._cache,
                tracing=self.tracing,
            )
        )
        self._states, self.artifacts = states, tuple(artifacts)

    def _pools(self, warm: WarmModels) -> Pools:
        settings = self.settings
        shared = LanePool(
            warm.lanes,
            max_open_jobs=settings.max_open_jobs,
            max_wait_s=settings.max_wait_s,
            niceness=SHARED_NICENESS,
            on_drop=self.metrics.dropped,
        )
        own = {
            name: LanePool(
                [lane],
                max_open_jobs=settings.max_open_jobs,
                max_wait_s=settings.decoder_max_wait_s,
                niceness=OWN_NICENESS,
                on_drop=self.metrics.dropped,
            )
            for name, lane in warm.own_lanes.items()
        }
        return Pools(shared, own)

    def _finish_update(self, artifacts: Sequence[LocalArtifact], *, switched: bool) -> None:
        self.metrics.served_stale(sum(artifact.stale for artifact in artifacts))
        self.metrics.updated(switched=switched, refused=False)
        num_switches = self._update.num_switches + switched
        self._update = UpdateInfo(state="served" if num_switches else "none", num_switches=num_switches)


@cache
def _versions() -> dict[str, str]:
    # Read from files of the installed packages, which do not change while they run.
    return {"python": platform.python_version(), **{name: version(name) for name in SOFTWARE}}


def _require_none_lost(
    before: Sequence[ServedModel],
    offered: Sequence[LocalArtifact],
    warm: WarmModels,
    states: Mapping[str, ModelState],
) -> None:
    """Raise UpdateRefused when a model that is served now, and would be, does not work in its new version."""
    kept = {model.name for model in before} & {artifact.name for artifact in offered}
    if lost := sorted(kept - warm.catalogue.models.keys()):
        raise UpdateRefused("; ".join(states[name].detail or name for name in lost))


def _queue(scorer: Scorer | None) -> QueueInfo | None:
    if scorer is None:
        return None
    pool = scorer.pool
    return QueueInfo(lanes=len(pool.lanes), open_jobs=pool.open_jobs, max_open_jobs=pool.max_open_jobs)


def _load(pool: Pools) -> Load:
    return Load(pool.open_jobs, pool.open_work_s, pool.max_open_jobs, len(pool.lanes))


def _runtimes(pool: Pools) -> dict[str, str]:
    return {name: session.runtime for name, session in pool.sessions.items()}


def _in_words(states: Sequence[ModelState]) -> str:
    return ", ".join(f"{state.name} {state.state}" for state in states) or "no models yet"
