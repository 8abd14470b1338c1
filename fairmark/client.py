"""The service's calls as Python methods: typed answers, named errors, and patience with a service that is busy.

    with Client("http://127.0.0.1:3000") as service:
        print(service.score(essay, "ellipse-overall").score)

Scoring changes nothing on the other side, so every call may be made again: after 429 and 503 when `Retry-After` says,
after 502, 504 and a lost connection with growing pauses. A service that never answered is not waited for: then the
address is wrong more often than not. One client may be used by several threads.
"""

import re
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
from pydantic import ValidationError

from essays.backoff import Backoff
from fairmark.answers import (
    Answer,
    BatchAnswer,
    BatchItem,
    Comparison,
    Drift,
    ErrorDetail,
    Models,
    Prompts,
    Score,
    Status,
    Validity,
)
from fairmark.errors import BadAnswer, ClientError, Refused, ServiceAway, ServiceBusy

DEFAULT_URL = "http://127.0.0.1:3000"
DEFAULT_MODEL = "ensemble"
# Longer than a service may take for a batch, so that its own answer comes first.
_TIMEOUT = httpx.Timeout(180, connect=5)
_ASK_AGAIN = frozenset({429, 502, 503, 504})

_KEY = re.compile(r"[!-~]+")

Typed = TypeVar("Typed", bound=Answer)


@dataclass(frozen=True)
class EssayRequest:
    """An essay for `score_batch`."""

    essay: str
    prompt_id: str
    model: str = DEFAULT_MODEL


@dataclass(frozen=True)
class MarkedEssay:
    """What the service and people gave an essay, for `validity`; no text."""

    score: float
    unit_score: float
    interval: tuple[float, float]
    human_score: float
    rater_scores: tuple[float, float] | None = None
    """Two raters' own scores, where there are two."""


class Client:
    """A service at one address."""

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        api_key: str | None = None,
        patience_s: float = 120.0,
        max_connections: int = 16,
    ) -> None:
        """`api_key` is sent as `Authorization: Bearer`; `patience_s` bounds how long one call is tried again.

        Raises ClientError for an address or a key that cannot be one.
        """
        if api_key and not _KEY.fullmatch(api_key):
            raise ClientError("the API key holds a character that none has, perhaps a line end; copy it once more")
        self.url = url.rstrip("/")
        self.patience_s = patience_s
        headers = {"User-Agent": "fairmark", **({"Authorization": f"Bearer {api_key}"} if api_key else {})}
        limits = httpx.Limits(max_connections=max_connections, max_keepalive_connections=max_connections)
        try:
            self._http = httpx.Client(base_url=self.url, headers=headers, timeout=_TIMEOUT, limits=limits)
        except httpx.InvalidURL as error:
            raise ClientError(f"{url!r} is no address of a service: {error}; expected http://HOST:PORT") from None
        self._answered = False
        self._closed = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close its connections; calls that wait to ask again in other threads end with their last fault."""
        self._closed.set()
        self._http.close()

    def score(self, essay: str, prompt_id: str, model: str = DEFAULT_MODEL) -> Score:
        """One model's score. Raises Refused for an essay that cannot be scored, with the reason in `detail.code`."""
        return self._call("POST", "/score", Score, asdict(EssayRequest(essay, prompt_id, model)))

    def score_batch(self, essays: Sequence[EssayRequest]) -> list[BatchItem]:
        """One score or one error for each essay, in order; at most `status().limits.max_batch_essays`."""
        answer = self._call("POST", "/score_batch", BatchAnswer, {"essays": [asdict(essay) for essay in essays]})
        if len(answer.results) != len(essays):
            raise BadAnswer(f"{self.url} answered {len(answer.results)} essays of {len(essays)}")
        return answer.results

    def compare(self, essay: str, prompt_id: str) -> Comparison:
        """Every model's score, and how far they are apart."""
        return self._call("POST", "/compare", Comparison, {"essay": essay, "prompt_id": prompt_id})

    def validity(self, essays: Sequence[MarkedEssay], prompt_id: str, model: str = DEFAULT_MODEL) -> Validity:
        """Whether the model may be used for this class; scores as `score_batch` gave them, marks as people did."""
        body = {"prompt_id": prompt_id, "model": model, "essays": [asdict(essay) for essay in essays]}
        return self._call("POST", "/validity", Validity, body)

    def drift(self) -> Drift:
        """Whether essays are still like those that the models were made for; needs a key of scope `admin`."""
        return self._call("GET", "/drift", Drift)

    def models(self) -> Models:
        """What is served."""
        return self._call("GET", "/models", Models)

    def prompts(self) -> Prompts:
        """Which writing tasks can be scored."""
        return self._call("GET", "/prompts", Prompts)

    def status(self) -> Status:
        """State, limits and versions."""
        return self._call("GET", "/status", Status)

    def _call(self, method: str, path: str, kind: type[Typed], body: dict[str, Any] | None = None) -> Typed:
        """Ask until there is an answer or patience ends. Raises ServiceAway, ServiceBusy, Refused or BadAnswer."""
        deadline, failures, backoff = time.monotonic() + self.patience_s, 0, Backoff(base_s=0.5, cap_s=15)
        while True:
            try:
                return self._read(self._send(method, path, body), kind)
            except (ServiceAway, ServiceBusy) as fault:
                failures += 1
                # What the service asks for, but not all clients at the same moment.
                pause_s = fault.retry_after_s + backoff.pause_s(1 if fault.retry_after_s else failures)
                too_late = time.monotonic() + pause_s > deadline
                if not self._answered or too_late or self._closed.wait(pause_s):
                    raise

    def _send(self, method: str, path: str, body: dict[str, Any] | None) -> httpx.Response:
        try:
            answer = self._http.request(method, path, json=body)
        except httpx.UnsupportedProtocol:
            raise ClientError(f"{self.url!r} is no address of a service; expected http://HOST:PORT") from None
        except httpx.TransportError as error:
            if not self._answered:
                raise ServiceAway(f"nobody answers at {self.url}; is the service started, the address right?") from None
            raise ServiceAway(f"{self.url} does not answer any more ({type(error).__name__})") from None
        self._answered = True
        if answer.status_code != 200:
            raise self._fault(answer)
        return answer

    def _read(self, answer: httpx.Response, kind: type[Typed]) -> Typed:
        try:
            return kind.model_validate_json(answer.content)
        except ValidationError as error:
            first = error.errors(include_input=False)[0]
            place = ".".join(map(str, first["loc"])) or "the body"
            raise BadAnswer(f"{self.url}: {answer.url.path} does not answer as Fairmark does ({place})") from None

    def _fault(self, answer: httpx.Response) -> ClientError:
        status = answer.status_code
        try:
            detail = ErrorDetail.model_validate(answer.json()["error"])
        except (ValueError, KeyError, TypeError):  # a proxy in between, or something else altogether
            detail = None
        if status in _ASK_AGAIN:
            reason = detail.message if detail else f"it answers {status}"
            return ServiceBusy(f"{self.url}: {reason}", retry_after_s(answer))
        if detail is None:
            return BadAnswer(f"{self.url}: {answer.url.path} answers {status}, and not as Fairmark does")
        return Refused(status, detail)


def retry_after_s(answer: httpx.Response) -> float:
    """Seconds that `Retry-After` asks for, as a number or as a date (RFC 9110, 10.2.3); 0 without one."""
    value = answer.headers.get("retry-after", "").strip()
    if value.isdecimal():
        return float(value)
    try:
        when = parsedate_to_datetime(value)
    except ValueError:
        return 0.0
    return max(0.0, (when.replace(tzinfo=when.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
