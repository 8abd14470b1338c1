"""Traces of requests for an OpenTelemetry collector, where settings name one: which step took how long.

A span holds names out of closed lists, numbers and times: nothing that a caller wrote, no address, and no message of an
error, which may quote an essay. That is why BentoML's own tracing stays off: its spans hold whole addresses. Spans wait
in a bounded queue and a thread sends them: a collector that is away or slow costs spans, never an answer.
"""

import logging
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from urllib.parse import urlsplit

from opentelemetry.context import Context, get_current
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import Span, SpanKind, StatusCode
from pydantic import Field, field_validator

from essays.settings import SettingsSection

EXPORT_TIMEOUT_S = 2.0
_CLOSE_S = 1.0
_NGINX_REQUEST_ID = re.compile(r"[0-9a-f]{32}")

OnExport = Callable[[int, bool], None]
"""Told how many spans were sent, and whether the collector took them."""
logger = logging.getLogger("bentoml.fairmark")


class TracingSettings(SettingsSection):
    """Where traces go."""

    endpoint: str | None = None
    """OTLP over HTTP: `http://HOST:4318/v1/traces`; none traces nothing."""
    sampled_share: float = Field(default=1.0, ge=0, le=1)
    """Of all requests, how many are traced."""

    @field_validator("endpoint")
    @classmethod
    def _plain_address(cls, endpoint: str | None) -> str | None:
        if endpoint is not None and (
            urlsplit(endpoint).scheme not in ("http", "https") or "@" in urlsplit(endpoint).netloc
        ):
            raise ValueError("expected http://HOST:4318/v1/traces, without credentials (OTEL_EXPORTER_OTLP_HEADERS)")
        return endpoint


class Tracing:
    """One process's traces; without an endpoint its methods do nothing."""

    def __init__(self, settings: TracingSettings, on_export: OnExport = lambda count, taken: None) -> None:
        self._provider: TracerProvider | None = None
        if settings.endpoint is not None:
            self._provider = _provider(settings.endpoint, settings.sampled_share, on_export)
            self._tracer = self._provider.get_tracer("fairmark")

    @contextmanager
    def request(self, method: str, route: str, request_id: str | None) -> Iterator[Span | None]:
        """The span of one request, with the id under which nginx logs it; None when nothing is traced.

        `route` is a route's pattern, never a path.
        """
        if self._provider is None:
            yield None
            return
        attributes = {"http.request.method": method, "http.route": route}
        if request_id and _NGINX_REQUEST_ID.fullmatch(request_id):
            attributes["fairmark.request_id"] = request_id
        # A trace of its own: a caller decides neither what is traced nor what stands in it.
        with self._tracer.start_as_current_span(
            f"{method} {route}",
            context=Context(),
            kind=SpanKind.SERVER,
            attributes=attributes,
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            yield span

    def step(
        self, name: str, within: Context | None = None, **attributes: str | int
    ) -> AbstractContextManager[Span | None]:
        """A span inside the one that is open here, or inside `within`, which another thread noted by `here`."""
        if self._provider is None:
            return nullcontext()
        return self._tracer.start_as_current_span(
            name,
            context=within,
            attributes={f"fairmark.{key}": value for key, value in attributes.items()},
            record_exception=False,
            set_status_on_exception=False,
        )

    def here(self) -> Context | None:
        """The open span, for steps that another thread makes."""
        return None if self._provider is None else get_current()

    def close(self) -> None:
        """Send what waits, for at most a second."""
        if self._provider is not None:
            # Its own patience is half a minute, which nobody who stops a service has.
            thread = threading.Thread(target=self._provider.shutdown, name="traces-end", daemon=True)
            thread.start()
            thread.join(_CLOSE_S)


def answered(span: Span | None, status: int) -> None:
    """Note what a request was answered with."""
    if span is not None:
        span.set_attribute("http.response.status_code", status)
        if status >= 500:
            span.set_status(StatusCode.ERROR)


def _provider(endpoint: str, sampled_share: float, on_export: OnExport) -> TracerProvider:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # a tenth of a second

    # The exporter logs each try that failed; ours says once that the collector is away.
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
    provider = TracerProvider(
        sampler=ParentBased(root=TraceIdRatioBased(sampled_share)),
        resource=Resource.create({"service.name": "fairmark"}),
        shutdown_on_exit=False,
    )
    exporter = OTLPSpanExporter(endpoint=endpoint, timeout=EXPORT_TIMEOUT_S)
    provider.add_span_processor(BatchSpanProcessor(_WatchedExporter(exporter, on_export)))
    return provider


class _WatchedExporter(SpanExporter):
    """Says once when a collector does not take spans, and once when it takes them again."""

    def __init__(self, exporter: SpanExporter, on_export: OnExport) -> None:
        self._exporter = exporter
        self._on_export = on_export
        self._taken = True

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send them."""
        result = self._exporter.export(spans)
        taken = result is SpanExportResult.SUCCESS
        self._on_export(len(spans), taken)
        if taken != self._taken:
            logger.warning(
                "traces: %s", "sent again" if taken else "the collector takes none; spans are lost meanwhile"
            )
        self._taken = taken
        return result

    def shutdown(self) -> None:
        """Send no more."""
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Nothing waits here."""
        return True
