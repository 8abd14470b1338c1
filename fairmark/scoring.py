"""Many essays through the service: some batches at a time, results in the order of the input, little held in memory.

What is wrong with an essay becomes its outcome. What is wrong with the service ends the run, once the client's patience
is over: what was written stands, and the next run goes on behind it.
"""

import itertools
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

from essays.backoff import Backoff, tries
from fairmark.answers import BatchItem, ErrorDetail, Limits
from fairmark.client import Client, EssayRequest
from fairmark.errors import Refused, ServiceBusy
from fairmark.progress import Progress
from fairmark.results import Earlier, Outcome, outcome_of
from fairmark.sources import Essay, UnreadableRow

BATCH_ESSAYS = 16
# An error of one essay that is the service's, not the essay's.
_ASK_AGAIN = frozenset({"overloaded", "deadline_passed", "not_ready"})
_NO_PROMPT = ErrorDetail(code="no_prompt", message="no writing task is named", hint="give --prompt, or a column")
# JSON's own marks, and what escapes add to ordinary text.
_ROOM = 0.8


class Sink(Protocol):
    """Where outcomes go, in order."""

    def go_on(self, essays: Iterator[Essay], /) -> Earlier:
        """Pass those that are there already."""

    def append(self, outcomes: Sequence[Outcome], /) -> None:
        """Take some more."""


@dataclass(frozen=True)
class Asking:
    """How essays are sent."""

    service: Client
    limits: Limits
    model: str | None
    """None asks every model."""

    def outcomes(self, essays: Sequence[Essay]) -> list[Outcome]:
        """What becomes of these essays. Raises ServiceAway, ServiceBusy, BadAnswer, or Refused for a wrong key."""
        texts = [text_of(essay) for essay in essays]
        if self.model is None:
            return [self._compared(essay, text) for essay, text in zip(essays, texts, strict=True)]
        readable = [
            EssayRequest(text, essay.prompt_id, self.model)
            for essay, text in zip(essays, texts, strict=True)
            if isinstance(text, str)
        ]
        answers = iter([item for group in self._groups(readable) for item in self._ask(group)])
        return [
            outcome_of(essay, next(answers)) if isinstance(text, str) else Outcome(essay, error=text)
            for essay, text in zip(essays, texts, strict=True)
        ]

    def _compared(self, essay: Essay, text: str | ErrorDetail) -> Outcome:
        if isinstance(text, ErrorDetail):
            return Outcome(essay, error=text)
        try:
            return Outcome(essay, comparison=self.service.compare(text, essay.prompt_id))
        except Refused as refused:
            return Outcome(essay, error=_of_essay(refused))

    def _ask(self, requests: Sequence[EssayRequest]) -> list[BatchItem]:
        items = self._ask_once(requests)
        pauses = tries(self.service.patience_s, Backoff(base_s=0.5, cap_s=15))
        while again := [place for place, item in enumerate(items) if item.error and item.error.code in _ASK_AGAIN]:
            pause_s = next(pauses, None)
            if pause_s is None:
                detail = items[again[0]].error
                raise ServiceBusy(f"{self.service.url}: {detail.message if detail else 'busy'}")
            time.sleep(pause_s)
            for place, item in zip(again, self._ask_once([requests[place] for place in again]), strict=True):
                items[place] = item
        return items

    def _ask_once(self, requests: Sequence[EssayRequest]) -> list[BatchItem]:
        try:
            return self.service.score_batch(requests)
        except Refused as refused:
            detail = _of_essay(refused)
            if len(requests) == 1:
                return [BatchItem(error=detail)]
            # One of them is at fault: only it should fail.
            return [item for request in requests for item in self._ask_once([request])]

    def _groups(self, requests: Iterable[EssayRequest]) -> Iterator[list[EssayRequest]]:
        """Requests within what one body may hold; an essay that is too large by itself is the service's to refuse."""
        group: list[EssayRequest] = []
        size, most = 0, self.limits.max_body_bytes * _ROOM
        for request in requests:
            length = len(request.essay.encode()) + 200
            if group and (size + length > most or len(group) == self.limits.max_batch_essays):
                yield group
                group, size = [], 0
            group.append(request)
            size += length
        if group:
            yield group


def score_all(asking: Asking, essays: Iterator[Essay], sink: Sink, progress: Progress, jobs: int) -> None:
    """Score what is not done yet, with so many batches in hand at once."""
    earlier = sink.go_on(essays)
    progress.begin(earlier.done, earlier.failed)
    threads = ThreadPoolExecutor(max_workers=jobs, thread_name_prefix="batch")
    waiting: deque[Future[list[Outcome]]] = deque()
    try:
        # With --compare an essay is a request: fewer in hand lose less at a kill.
        size = BATCH_ESSAYS if asking.model else 4
        while batch := list(itertools.islice(essays, size)):
            waiting.append(threads.submit(asking.outcomes, batch))
            if len(waiting) > jobs:
                take(waiting.popleft().result(), sink, progress)
        while waiting:
            take(waiting.popleft().result(), sink, progress)
    finally:
        # After a failure the other batches are not waited for longer than their request takes.
        threads.shutdown(wait=False, cancel_futures=True)


def take(outcomes: Sequence[Outcome], sink: Sink, progress: Progress) -> None:
    """Write them, and count them."""
    sink.append(outcomes)
    progress.add(len(outcomes), sum(outcome.error is not None for outcome in outcomes))


def text_of(essay: Essay) -> str | ErrorDetail:
    """What is sent, or why nothing can be."""
    if not essay.prompt_id:
        return _NO_PROMPT
    try:
        return essay.read()
    except UnreadableRow as fault:
        return fault.detail


def _of_essay(refused: Refused) -> ErrorDetail:
    """The error as one essay's, or raised again where it is none: a missing or wrong key."""
    if refused.status in (401, 403):
        raise refused
    return refused.detail
