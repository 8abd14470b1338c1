"""Many essays through services on a Ray cluster: `fairmark batch --engine ray`.

The command reads the essays and writes the results, in order and each once, as ever; Ray Data hands batches of them to
the nodes, which ask the service. Name a service that each node has for itself (http://127.0.0.1:3000) or one address
for all. A node that is lost takes its batches along, and Ray gives them to others; a killed command goes on behind the
last results written. Errors travel as data, since Ray logs and retries those that are raised.
"""

import itertools
import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from essays.console import say
from fairmark.answers import Comparison, ErrorDetail, Limits, Score
from fairmark.client import Client
from fairmark.errors import BadAnswer, ClientError, ServiceAway, ServiceBusy, WrongInput
from fairmark.progress import Progress
from fairmark.results import Outcome
from fairmark.scoring import BATCH_ESSAYS, Asking, Sink, take, text_of
from fairmark.sources import Essay, UnreadableRow

_FAILURES = {kind.__name__: kind for kind in (ServiceAway, ServiceBusy, BadAnswer)}


@dataclass(frozen=True)
class AskOnNode:
    """What a node does with a batch; travels to it by pickle."""

    url: str
    limits: Limits
    model: str | None
    patience_s: float
    api_key: str | None = field(default=None, repr=False)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """The batch's outcomes, or why there are none."""
        import ray

        essays = [_unpacked(packed) for packed in json.loads(row["essays"])]
        answer: dict[str, Any] = {"place": row["place"], "node": ray.get_runtime_context().get_node_id()}
        try:
            with Client(self.url, api_key=self.api_key, patience_s=self.patience_s) as service:
                outcomes = Asking(service, self.limits, self.model).outcomes(essays)
        except ClientError as error:
            return {**answer, "outcomes": "", "failure": type(error).__name__, "message": str(error)}
        return {
            **answer,
            "outcomes": json.dumps([_parts(outcome) for outcome in outcomes]),
            "failure": "",
            "message": "",
        }


def connect(address: str | None) -> None:
    """Join the cluster at this address, or at RAY_ADDRESS; start one on this machine where neither is there."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise WrongInput("--engine ray needs Ray: pip install 'fairmark[ray]'") from error
    if not ray.is_initialized():
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except ConnectionError as error:
            raise WrongInput(f"no Ray cluster answers at {address or os.environ.get('RAY_ADDRESS')}") from error
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False


def score_on_ray(
    ask: AskOnNode, essays: Iterator[Essay], sink: Sink, progress: Progress, jobs: int, *, hold: int
) -> None:
    """Score what is not done yet, with so many batches in hand at once over all nodes. Raises as `score_all`.

    `hold` essays go through the cluster before their results are written: so many are held in memory here, and asked
    again after a kill.
    """
    earlier = sink.go_on(essays)
    progress.begin(earlier.done, earlier.failed)
    per_node: dict[str, int] = {}
    while shard := list(itertools.islice(essays, hold)):
        batches = [shard[start : start + BATCH_ESSAYS] for start in range(0, len(shard), BATCH_ESSAYS)]
        answers = _answers(ask, batches, jobs)
        for batch, answer in zip(batches, answers, strict=True):
            take(_outcomes(batch, answer), sink, progress)
            per_node[answer["node"]] = per_node.get(answer["node"], 0) + len(batch)
    shares = ", ".join(f"{count:,}" for count in sorted(per_node.values(), reverse=True))
    say(f"ray: {len(per_node)} nodes scored {shares}")


def _answers(ask: AskOnNode, batches: Sequence[Sequence[Essay]], jobs: int) -> list[dict[str, Any]]:
    """One for each batch, in order."""
    import ray.data

    rows = [
        {"place": place, "essays": json.dumps([_packed(essay) for essay in batch])}
        for place, batch in enumerate(batches)
    ]
    # A block for each batch: what a lost node has to be asked again is no more than it had in hand.
    dataset = ray.data.from_items(rows, override_num_blocks=len(rows)).map(ask, concurrency=jobs, max_retries=-1)
    answers = sorted(dataset.iter_rows(), key=lambda row: row["place"])
    if [row["place"] for row in answers] != list(range(len(batches))):
        raise BadAnswer(f"Ray gave {len(answers)} answers for {len(batches)} batches; nothing of them was written")
    for row in answers:
        if row["failure"]:
            raise _FAILURES.get(row["failure"], ClientError)(row["message"])
    return answers


def _packed(essay: Essay) -> Mapping[str, Any]:
    text = text_of(essay)
    names = {"essay_id": essay.essay_id, "prompt_id": essay.prompt_id}
    return {**names, "text": text} if isinstance(text, str) else {**names, "error": text.model_dump()}


def _unpacked(packed: Mapping[str, Any]) -> Essay:
    def read() -> str:
        if "error" in packed:
            detail = ErrorDetail.model_validate(packed["error"])
            raise UnreadableRow(detail.code, detail.message, detail.hint)
        return str(packed["text"])

    return Essay(packed["essay_id"], packed["prompt_id"], read)


def _parts(outcome: Outcome) -> Mapping[str, Any]:
    named = {"score": outcome.score, "comparison": outcome.comparison, "error": outcome.error}
    return {name: part.model_dump(mode="json") for name, part in named.items() if part is not None}


def _outcomes(batch: Sequence[Essay], answer: Mapping[str, Any]) -> list[Outcome]:
    kinds: dict[str, type[BaseModel]] = {"score": Score, "comparison": Comparison, "error": ErrorDetail}
    return [
        _outcome(essay, {name: kinds[name].model_validate(part) for name, part in parts.items()})
        for essay, parts in zip(batch, json.loads(answer["outcomes"]), strict=True)
    ]


def _outcome(essay: Essay, parts: Mapping[str, Any]) -> Outcome:
    return Outcome(essay, **parts)
