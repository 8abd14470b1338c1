"""What the gate learned from training essays: how English words follow each other, and each prompt's words and bounds.

Fitted by `training.gate_fit`, kept in `gate.json` beside a model's other files. Holds hashes and numbers, no text.
"""

import base64
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError, field_validator

from essays.english import COMMON_WORDS, WordOrder
from essays.errors import InvalidManifest
from essays.params import Section, write_section

GATE_FILE = "gate.json"
GATE_FOLDER = Path("out/gate")
"""Where the stage `gate` leaves it, for packaging."""
NUM_BUCKETS = 4096
_COMMON = frozenset(COMMON_WORDS)


class PromptProfile(Section):
    """One prompt's words, task and bounds; a bound is where an essay stops being ordinary."""

    prompt_id: str
    topic: str | None = Field(default=None, repr=False)
    """(NUM_BUCKETS,) signed bytes in base64: how far words speak for this prompt; none where there is no other."""
    topic_step: float = 1.0
    """What one of these bytes is worth."""
    least_topic: float | None = None
    """`topic_score` below which an essay is off topic."""
    task: str | None = Field(default=None, repr=False)
    """Shingles of task and source text, ascending 32-bit numbers in base64; none where they are not published."""
    most_copied: float = 1.0
    """Share of an essay's shingles that may come from the task."""
    least_order: float
    """`essays.english.order_score` below which words stand in no order, in nats."""
    most_long: float
    """Share of an essay's words that may be long (`essays.english.long_share`)."""
    most_repeated: float
    """Share of its five-word runs that an essay may repeat."""

    @field_validator("topic")
    @classmethod
    def _whole(cls, topic: str | None) -> str | None:
        if topic is not None and len(base64.b64decode(topic, validate=True)) != NUM_BUCKETS:
            raise ValueError(f"the topic is not that of {NUM_BUCKETS} buckets")
        return topic

    def topic_weights(self) -> NDArray[np.float32] | None:
        """The weight of each bucket, (NUM_BUCKETS,), where there is a topic."""
        if self.topic is None:
            return None
        return np.frombuffer(base64.b64decode(self.topic), dtype=np.int8) * np.float32(self.topic_step)

    def task_shingles(self) -> NDArray[np.uint32] | None:
        """The task's shingles, where it is known."""
        return None if self.task is None else np.frombuffer(base64.b64decode(self.task), dtype="<u4")


class GateProfile(Section):
    """All that was fitted. Classes of words and buckets are part of schema 1: a change of either is a new one."""

    schema_version: Literal[1] = 1
    word_order: WordOrder
    prompts: tuple[PromptProfile, ...]


def pack_topic(weights: NDArray) -> tuple[str, float]:
    """Weights, (NUM_BUCKETS,), as `PromptProfile.topic` and its step."""
    step = float(np.abs(weights).max()) / 127
    return base64.b64encode(np.round(weights / step).astype(np.int8).tobytes()).decode("ascii"), step


def pack_task(known: NDArray[np.uint32]) -> str:
    """Ascending shingles as `PromptProfile.task`."""
    return base64.b64encode(known.astype("<u4").tobytes()).decode("ascii")


def topic_buckets(lower: Iterable[str]) -> NDArray[np.int64]:
    """The buckets of an essay's words, each once, ascending, without common words.

    ASAP's `@CAPS1` and its kin are left out too: no typed essay has them.
    """
    telling = {word for word in lower if word not in _COMMON and not word.startswith("@")}
    found = {zlib.crc32(word.encode()) % NUM_BUCKETS for word in telling}
    return np.array(sorted(found), dtype=np.int64)


def topic_score(buckets: NDArray[np.int64], weights: NDArray) -> float:
    """The essay's weights, summed and divided by the root of their number; 0 for an essay of common words alone."""
    return float(weights[buckets].sum() / np.sqrt(len(buckets))) if len(buckets) else 0.0


def write_gate_profile(profile: GateProfile, path: Path) -> None:
    """The same bytes for the same profile."""
    write_section(profile, path)


def read_gate_profile(path: Path) -> GateProfile:
    """The profile in this file. Raises InvalidManifest when it is none."""
    try:
        return GateProfile.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise InvalidManifest(
            f"{path}: {error.error_count()} faults in the gate's profile; publish it again"
        ) from error
