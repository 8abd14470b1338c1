"""The rows of a learning curve, and what they say about going on."""

import json
from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from essays.params import Section

HISTORY_FILE = "history.json"
_TIMES = {"essays_per_s", "duration_s"}


class EpochRow(Section):
    """One pass over the train essays."""

    epoch: int = Field(ge=1)
    loss: float
    """Mean over the train essays while they were learned from, in squared standard deviations of scores."""
    dev_qwk: float
    """Mean over prompts, spread matched (`training.objective.matched_qwk`)."""
    learning_rate: float = Field(ge=0)
    """The highest rate of any weight at the epoch's end."""
    essays_per_s: float = Field(ge=0)
    """Train essays per second, as far as this process saw the epoch."""
    duration_s: float = Field(ge=0)
    """Seconds of the epoch, measuring on dev included."""


def new_best(history: Sequence[EpochRow]) -> bool:
    """Whether the last epoch is better than all before it."""
    return all(row.dev_qwk < history[-1].dev_qwk for row in history[:-1])


def has_stalled(history: Sequence[EpochRow], patience: int) -> bool:
    """Whether the last `patience` epochs brought nothing better."""
    if not history:
        return False
    best = max(range(len(history)), key=lambda index: history[index].dev_qwk)
    return len(history) - 1 - best >= patience


def write_history(history: Sequence[EpochRow], path: Path) -> None:
    """A list of rows without their times, so that the same learning writes the same bytes."""
    rows = [row.model_dump(exclude=_TIMES) for row in history]
    path.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
