"""Numbers for Prometheus: requests, their time, scores by model. No label holds anything that a caller wrote.

BentoML's own request metrics are turned off: they have a series for every path that anybody asks for.
"""

from collections.abc import Mapping

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from serving.schemas import ModelState

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_TENTHS = tuple(tenth / 10 for tenth in range(1, 11))


class Metrics:
    """One process's numbers, in a registry of their own."""

    def __init__(self) -> None:
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
        self._ready = Gauge("fairmark_model_ready", "1 when a model is warm.", ["model"], registry=self.registry)
        self._stale = Gauge(
            "fairmark_stale_artifacts", "Models served although nobody answered at the store.", registry=self.registry
        )
        self._open_jobs = Gauge("fairmark_open_jobs", "Runs of a model that wait or go on.", registry=self.registry)

    def answered(self, route: str, status: int, duration_s: float) -> None:
        """A request was answered; `route` is a route's pattern, never a path."""
        self._requests.labels(route, str(status)).inc()
        self._request_seconds.labels(route).observe(duration_s)

    def scored(self, model: str, prompt_id: str, unit_score: float, infer_s: float | None) -> None:
        """A model gave a score; without a time where its graph did not run for it."""
        self._unit_scores.labels(model, prompt_id).observe(unit_score)
        if infer_s is not None:
            self._infer_seconds.labels(model).observe(infer_s)
            count, total_s = self._infer_totals.get(model, (0, 0.0))
            self._infer_totals[model] = (count + 1, total_s + infer_s)

    def mean_infer_s(self, model: str) -> float | None:
        """How long this model's graph took for an essay since the start; None before its first."""
        count, total_s = self._infer_totals.get(model, (0, 0.0))
        return total_s / count if count else None

    def served_stale(self, count: int) -> None:
        """So many models are served of which nobody could say whether they are champions still."""
        self._stale.set(count)

    def render(self, states: Mapping[str, ModelState], open_jobs: int) -> bytes:
        """Everything in Prometheus' text format."""
        for name, state in states.items():
            self._ready.labels(name).set(state.state == "ready")
        self._open_jobs.set(open_jobs)
        return generate_latest(self.registry)
