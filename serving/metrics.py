"""Numbers for Prometheus: requests, their time, scores by model. No label holds anything that a caller wrote.

Names follow Prometheus' conventions: seconds and bytes, counters end in `_total` (the client library adds it). What
each means to an operator, and which alerts read it: docs/operations.md.

BentoML's own request metrics are turned off: they have a series for every path that anybody asks for.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

from serving.catalogue import LocalArtifact
from serving.schemas import Flag, ModelState

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_TENTHS = tuple(tenth / 10 for tenth in range(1, 11))


@dataclass(frozen=True)
class Load:
    """How much work there is, and room for it; nothing before the models are warm."""

    open_jobs: int = 0
    open_work_s: float = 0.0
    max_open_jobs: int = 0
    lanes: int = 0


class Metrics:
    """One process's numbers, in a registry of their own."""

    def __init__(self) -> None:
        # One more series for each counter and histogram, which this format has no name for and nobody reads.
        disable_created_metrics()
        self.registry = CollectorRegistry()
        self._infer_totals: dict[str, tuple[int, float]] = {}
        self._requests = Counter("fairmark_requests", "Answered requests.", ["route", "status"], registry=self.registry)
        self._request_seconds = Histogram(
            "fairmark_request_seconds",
            "Time from request to answer.",
            ["route"],
            registry=self.registry,
            buckets=_SECONDS,
        )
        self._infer_seconds = Histogram(
            "fairmark_infer_seconds", "Time in a model's graph.", ["model"], registry=self.registry, buckets=_SECONDS
        )
        self._unit_scores = Histogram(
            "fairmark_unit_score",
            "Scores given, from 0 (lowest) to 1 (highest of the prompt).",
            ["model", "prompt_id"],
            registry=self.registry,
            buckets=_TENTHS,
        )
        self._wait_seconds = Histogram(
            "fairmark_lane_wait_seconds",
            "Time that an answer waited for a lane.",
            ["model"],
            registry=self.registry,
            buckets=_SECONDS,
        )
        self._flags = Counter(
            "fairmark_flags", "Reasons to look twice at a score.", ["model", "code"], registry=self.registry
        )
        self._hand_offs = Counter(
            "fairmark_hand_offs", "Scores that a person should look at.", ["model"], registry=self.registry
        )
        self._refused_essays = Counter(
            "fairmark_refused_essays",
            "Essays with a reason instead of a score, once for each reason.",
            ["reason"],
            registry=self.registry,
        )
        self._ready = Gauge("fairmark_model_ready", "1 when a model is warm.", ["model"], registry=self.registry)
        self._stale = Gauge(
            "fairmark_stale_artifacts", "Models served although nobody answered at the store.", registry=self.registry
        )
        self._served = Gauge(
            "fairmark_model_info",
            "1 for each version that is served.",
            ["model", "version", "digest"],
            registry=self.registry,
        )
        self._updates = Counter(
            "fairmark_updates",
            "Changed sets of champions, by what became of them.",
            ["outcome"],
            registry=self.registry,
        )
        self._refused = Gauge(
            "fairmark_update_refused", "1 while the champions are not what is served.", registry=self.registry
        )
        for outcome in ("served", "refused"):
            self._updates.labels(outcome)
        self._dropped = Counter(
            "fairmark_dropped_jobs",
            "Runs of a model that waited in vain: their time was over or their client had left.",
            registry=self.registry,
        )
        self._open_work = Gauge(
            "fairmark_open_work_seconds", "Time that one lane would need for all open runs.", registry=self.registry
        )
        self._open_jobs = Gauge("fairmark_open_jobs", "Runs of a model that wait or go on.", registry=self.registry)
        self._max_open_jobs = Gauge(
            "fairmark_max_open_jobs", "Open runs beyond which requests get 429.", registry=self.registry
        )
        self._lanes = Gauge("fairmark_lanes", "Essays that can be scored at the same moment.", registry=self.registry)
        self._spans = Counter(
            "fairmark_trace_spans",
            "Spans sent to the collector, by what became of them.",
            ["outcome"],
            registry=self.registry,
        )
        # Memory, processor time and open files of this process, under the names that all programs use.
        ProcessCollector(registry=self.registry)

    def answered(self, route: str, status: int, duration_s: float) -> None:
        """A request was answered; `route` is a route's pattern, never a path."""
        self._requests.labels(route, str(status)).inc()
        self._request_seconds.labels(route).observe(duration_s)

    def scored(
        self,
        model: str,
        prompt_id: str,
        unit_score: float,
        flags: Sequence[Flag],
        *,
        wait_s: float,
        infer_s: float | None,
    ) -> None:
        """A model gave a score, after this wait for a lane; `infer_s` is None where its graph did not run for it."""
        self._unit_scores.labels(model, prompt_id).observe(unit_score)
        self._hand_offs.labels(model).inc(bool(flags))
        for flag in flags:
            self._flags.labels(model, flag.code).inc()
        if infer_s is not None:
            self._wait_seconds.labels(model).observe(wait_s)
            self._infer_seconds.labels(model).observe(infer_s)
            count, total_s = self._infer_totals.get(model, (0, 0.0))
            self._infer_totals[model] = (count + 1, total_s + infer_s)

    def refused_essay(self, reasons: Iterable[str]) -> None:
        """An essay was not scored, for these of the gate's reasons."""
        for reason in reasons:
            self._refused_essays.labels(reason).inc()

    def mean_infer_s(self, model: str) -> float | None:
        """How long this model's graph took for an essay since the start; None before its first."""
        count, total_s = self._infer_totals.get(model, (0, 0.0))
        return total_s / count if count else None

    def dropped(self) -> None:
        """A run was dropped before it began."""
        self._dropped.inc()

    def exported(self, count: int, taken: bool) -> None:
        """So many spans were sent to the collector."""
        self._spans.labels("taken" if taken else "lost").inc(count)

    def served_stale(self, count: int) -> None:
        """So many models are served of which nobody could say whether they are champions still."""
        self._stale.set(count)

    def updated(self, *, switched: bool, refused: bool) -> None:
        """A changed set of champions was looked at; neither, when it was what is served already."""
        self._refused.set(refused)
        if switched or refused:
            self._updates.labels("refused" if refused else "served").inc()

    def render(self, states: Mapping[str, ModelState], artifacts: Sequence[LocalArtifact], load: Load) -> bytes:
        """Everything in Prometheus' text format."""
        self._ready.clear()
        self._served.clear()
        for artifact in artifacts:
            self._served.labels(artifact.name, artifact.version, artifact.digest).set(1)
        for name, state in states.items():
            self._ready.labels(name).set(state.state == "ready")
        self._open_jobs.set(load.open_jobs)
        self._open_work.set(load.open_work_s)
        self._max_open_jobs.set(load.max_open_jobs)
        self._lanes.set(load.lanes)
        return generate_latest(self.registry)
