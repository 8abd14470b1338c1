"""What a request can go wrong with, and the one table from an error's kind to its HTTP status and code.

ServingError (essays.errors.FairmarkError)
├── RequestError (also essays.errors.BadInput)   the request itself, before any essay is looked at
│   ├── MalformedRequest                         not JSON, not UTF-8
│   ├── InvalidRequest                           JSON, but not what the call takes
│   ├── BodyTooLarge                             more bytes than are read
│   ├── BodyTooSlow                              a body that did not come to its end in time
│   ├── UnsupportedMediaType                     neither JSON nor, on the page, a form
│   ├── NotAcceptable                            an answer is asked for in a form that there is none in
│   └── NotAuthenticated                         no API key, or none that is known
├── NotAllowed                                   a known key, but one that may not do this
├── CacheFault                                   the cache failed: a miss, and an error for a purge alone
├── UpdateRefused                                a changed set of champions that must not replace the served one
├── NotReady                                     models are still being loaded, or could not be
├── NotEnoughMemory                              a model or an essay that this machine cannot hold
├── PortTaken                                    another process listens where the service should
├── Overloaded                                   as much work waits as may wait
├── ClientGone                                   nobody is there any more who could be answered
└── DeadlinePassed                               no score within the time that a request may take

No message holds a part of an essay: of what a caller sent, at most 80 characters of a name are quoted.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from essays.errors import (
    BadInput,
    EssayTooLong,
    FairmarkError,
    MalformedText,
    UnknownModel,
    UnknownPrompt,
    UnscorableEssay,
)
from essays.gate import FlaggedEssay

RETRY_AFTER_S = 1
MAX_NAME_CHARACTERS = 80


class ServingError(FairmarkError):
    """The service cannot answer this request as asked."""


class RequestError(ServingError, BadInput):
    """A request that is wrong in itself."""


class MalformedRequest(RequestError):
    """A body that is no JSON."""


class InvalidRequest(RequestError):
    """JSON with a missing, extra or wrong field."""


class BodyTooLarge(RequestError):
    """A body beyond the accepted size."""


class UnsupportedMediaType(RequestError):
    """A body of a kind that the call does not read."""


class BodyTooSlow(RequestError):
    """A body that did not come to its end within the time for it."""


class NotAcceptable(RequestError):
    """A caller who takes only answers of a kind that the call does not give."""


class NotAuthenticated(RequestError):
    """A call that needs an API key, without one that is known."""


class NotAllowed(ServingError):
    """A key that is known, but may not do this."""


class CacheFault(ServingError):
    """The result cache is broken, locked, full or away: a miss for an essay, an error for a purge."""

    def __init__(self, message: str, *, kind: str) -> None:
        super().__init__(message)
        self.kind = kind
        """One of a closed list, for counting: locked, full, corrupt, unreachable, timeout, closed."""


class UpdateRefused(ServingError):
    """A changed set of champions that must not replace what is served."""


class NotReady(ServingError):
    """The models are not there yet."""


class NotEnoughMemory(ServingError):
    """A model, or an essay on a model, that takes more memory than this machine has."""


class PortTaken(ServingError):
    """Another process listens where the service should."""


class Overloaded(ServingError):
    """No room to wait in."""

    def __init__(self, message: str, *, retry_after_s: int = RETRY_AFTER_S) -> None:
        super().__init__(message)
        self.retry_after_s = max(retry_after_s, RETRY_AFTER_S)
        """When there is likely to be room, in whole seconds."""


class ClientGone(ServingError):
    """The client closed its connection before it was answered."""


class DeadlinePassed(ServingError):
    """The time for this request is over."""


class Reason(BaseModel):
    """Why an essay should not be scored."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    code: str
    """One of a closed list (`essays.gate.REASONS`)."""
    message: str
    """What was found, in a sentence."""


class ErrorDetail(BaseModel):
    """What was wrong with a request."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    code: str
    """Which kind of error, for programs: one of a closed list, or why an essay cannot be scored."""
    message: str
    """What is wrong and what was expected, in a sentence."""
    field: str | None = None
    """The field of the request at fault, with dots between levels, where there is one."""
    hint: str | None = None
    """What to do next, where something can be done."""
    reasons: tuple[Reason, ...] = Field(default=(), exclude_if=lambda reasons: not reasons)
    """Of an essay that may be scored as advice alone: every reason against it. Such an essay's `code` is the first."""


class ErrorResponse(BaseModel):
    """The body of every answer that is not 2xx."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    error: ErrorDetail = Field(description="What was wrong.")


@dataclass(frozen=True)
class Reply:
    """How an error is answered."""

    status: int
    detail: ErrorDetail
    retry_after_s: int = RETRY_AFTER_S

    @property
    def headers(self) -> dict[str, str]:
        """Headers that go with the status."""
        if self.status == 401:
            return {"WWW-Authenticate": "Bearer"}
        return {"Retry-After": str(self.retry_after_s)} if self.status in (429, 503) else {}


STATUS_AND_CODE: Sequence[tuple[type[FairmarkError], int, str]] = (
    (MalformedRequest, 400, "malformed_request"),
    (MalformedText, 400, "malformed_text"),
    (NotAuthenticated, 401, "not_authenticated"),
    (NotAllowed, 403, "not_allowed"),
    (UnknownPrompt, 404, "unknown_prompt"),
    (UnknownModel, 404, "unknown_model"),
    (NotAcceptable, 406, "not_acceptable"),
    (BodyTooSlow, 408, "body_too_slow"),
    (BodyTooLarge, 413, "body_too_large"),
    (UnsupportedMediaType, 415, "unsupported_media_type"),
    (InvalidRequest, 422, "invalid_request"),
    (EssayTooLong, 422, "essay_too_long"),
    (UnscorableEssay, 422, "unscorable_essay"),
    (BadInput, 422, "invalid_request"),
    (Overloaded, 429, "overloaded"),
    # nginx's number for it; seen in metrics alone.
    (ClientGone, 499, "client_gone"),
    (NotReady, 503, "not_ready"),
    (NotEnoughMemory, 503, "not_enough_memory"),
    (CacheFault, 503, "cache_unavailable"),
    (DeadlinePassed, 504, "deadline_passed"),
)
"""The first row whose kind fits decides. An unscorable essay's code is its reason (`essays.gate.REASONS`)."""

_CODES_OF_HTTP = {404: "unknown_path", 405: "wrong_method", 431: "headers_too_large"}


def reply_to(error: FairmarkError) -> Reply:
    """How this error is answered; 500 without its text if the table does not know its kind."""
    row = next((row for row in STATUS_AND_CODE if isinstance(error, row[0])), None)
    if row is None:
        return internal_error()
    _, status, code = row
    if isinstance(error, UnscorableEssay):
        code = error.reason
    field, hint = (error.field, error.hint) if isinstance(error, BadInput) else (None, None)
    findings = error.findings if isinstance(error, FlaggedEssay) else ()
    reasons = tuple(Reason(code=finding.reason, message=finding.message) for finding in findings)
    detail = ErrorDetail(code=code, message=str(error), field=field, hint=hint, reasons=reasons)
    return Reply(status, detail, error.retry_after_s if isinstance(error, Overloaded) else RETRY_AFTER_S)


def reply_to_http(status: int, message: str, hint: str) -> Reply:
    """The answer where routing itself fails: no such path, or another method."""
    return Reply(status, ErrorDetail(code=_CODES_OF_HTTP.get(status, "http_error"), message=message, hint=hint))


def internal_error() -> Reply:
    """The answer to our own mistakes: no detail leaves the process."""
    message = "the service made a mistake; the request was not answered"
    return Reply(500, ErrorDetail(code="internal_error", message=message, hint="the operator finds it in the log"))


def from_validation(error: ValidationError) -> RequestError:
    """A request's faults without a word of what was sent: the first by field, the number of the others."""
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    first = faults[0]
    if first["type"] == "json_invalid":
        return MalformedRequest(f"the body is no JSON: {first['msg'].removeprefix('Invalid JSON: ')}", hint=_JSON_HINT)
    field = ".".join(map(_shown, first["loc"])) or None
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return InvalidRequest(
        f"{field or 'the body'}: {_in_words(first['type'], first['msg'])}{more}", field=field, hint=_DOCS_HINT
    )


_PLAIN_NAME = re.compile(rf"\w{{1,{MAX_NAME_CHARACTERS}}}")
_JSON_HINT = "send a JSON object in UTF-8"
_DOCS_HINT = "/docs shows what each call takes"


def _shown(part: str | int) -> str:
    """A level of a field's name. Callers choose those of unknown fields, and may have put an essay there."""
    return str(part) if _PLAIN_NAME.fullmatch(str(part)) else "(not a plain name)"


def _in_words(kind: str, message: str) -> str:
    return {
        "missing": "this field is required",
        "extra_forbidden": "there is no such field",
        "model_type": "expected a JSON object",
    }.get(kind, message[:1].lower() + message[1:])
