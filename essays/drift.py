"""What is watched in essays to see that they are no longer like those a model learned from, and how those were.

Four quantities of an essay, as numbers from which no text can be had: its length, the share of its words that training
essays on the prompt did not have, how far its words are from theirs, and its score. A bundle's `reference.json` holds
their histograms over held-out essays, and of training words nothing but which hash buckets they fell into.
"""

import base64
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field, ValidationError, model_validator

from essays.english import COMMON_WORDS
from essays.errors import InvalidManifest
from essays.params import Section, write_section
from essays.text import words

REFERENCE_FILE = "reference.json"
NUM_BINS = 10
NUM_WORD_BUCKETS = 32_768
NUM_TOPIC_BUCKETS = 4_096
TEXT_QUANTITIES = ("words", "unknown_words", "topic_distance")
SCORE_QUANTITY = "unit_score"
_COMMON = frozenset(COMMON_WORDS)


class Histogram(Section):
    """Counts between edges that hold about as many reference essays each."""

    edges: tuple[float, ...]
    """Between bins, ascending; a value on an edge belongs to the bin above."""
    counts: tuple[int, ...] = Field(min_length=1)
    """Of reference essays, one more than there are edges."""

    @model_validator(mode="after")
    def _fit(self) -> "Histogram":
        if len(self.counts) != len(self.edges) + 1 or list(self.edges) != sorted(set(self.edges)):
            raise ValueError(f"{len(self.counts)} counts do not fit {len(self.edges)} ascending edges")
        return self

    def bin_of(self, value: float) -> int:
        """Where a value belongs."""
        return int(np.searchsorted(self.edges, value, side="right"))


class PromptReference(Section):
    """Reference essays on one prompt."""

    prompt_id: str
    known: str = Field(repr=False)
    """Bits of the buckets that words of at least two training essays fall into, NUM_WORD_BUCKETS of them in base64."""
    centre: str = Field(repr=False)
    """(NUM_TOPIC_BUCKETS,) bytes in base64: in what share of training essays each bucket's words stand."""
    histograms: dict[str, Histogram]
    """By quantity: `TEXT_QUANTITIES` and `SCORE_QUANTITY`."""

    def known_buckets(self) -> NDArray[np.bool_]:
        """Which buckets are known, (NUM_WORD_BUCKETS,)."""
        return np.unpackbits(np.frombuffer(base64.b64decode(self.known), np.uint8)).astype(bool)

    def centre_weights(self) -> NDArray[np.float32]:
        """The centre, (NUM_TOPIC_BUCKETS,)."""
        return np.frombuffer(base64.b64decode(self.centre), np.uint8).astype(np.float32)


class DriftReference(Section):
    """`reference.json`."""

    schema_version: Literal[1] = 1
    prompts: tuple[PromptReference, ...]


class TextMeter:
    """Measures texts against one prompt's training words."""

    def __init__(self, known: NDArray[np.bool_], centre: NDArray[np.float32]) -> None:
        self._known = known
        self._centre = centre
        self._length = float(np.linalg.norm(centre))

    def __call__(self, text: str) -> dict[str, float]:
        """A normalized essay's `TEXT_QUANTITIES`."""
        found = words(text.lower())
        buckets = word_buckets(found)
        topic = topic_buckets(found)
        likeness = float(self._centre[topic].sum()) / (self._length * np.sqrt(len(topic))) if len(topic) else 0.0
        return {
            "words": float(len(found)),
            "unknown_words": 1 - float(self._known[buckets].mean()) if len(buckets) else 1.0,
            "topic_distance": 1 - likeness,
        }


def meter_of(reference: PromptReference) -> TextMeter:
    """The meter of a reference."""
    return TextMeter(reference.known_buckets(), reference.centre_weights())


def word_buckets(lower: Sequence[str]) -> NDArray[np.int64]:
    """Each word's bucket, (N,)."""
    return np.array([zlib.crc32(word.encode()) % NUM_WORD_BUCKETS for word in lower], dtype=np.int64)


def topic_buckets(lower: Sequence[str]) -> NDArray[np.int64]:
    """The buckets of an essay's telling words, each once, ascending."""
    telling = {zlib.crc32(word.encode()) % NUM_TOPIC_BUCKETS for word in lower if word not in _COMMON}
    return np.array(sorted(telling), dtype=np.int64)


def histogram_of(values: ArrayLike) -> Histogram:
    """Values in bins of about as many each; one that many essays share has a bin of its own."""
    given = np.asarray(values, dtype=np.float64)
    cuts, times = np.unique(np.quantile(given, np.arange(1, NUM_BINS) / NUM_BINS), return_counts=True)
    edges = np.unique([*cuts, *np.nextafter(cuts[times > 1], np.inf)])
    counts = np.bincount(np.searchsorted(edges, given, side="right"), minlength=len(edges) + 1)
    return Histogram(edges=tuple(edges.tolist()), counts=tuple(counts.tolist()))


def prompt_reference(
    prompt_id: str, train_texts: Sequence[str], held_out: Sequence[tuple[str, float]]
) -> PromptReference:
    """The reference from training essays' words, and from held-out essays as (text, calibrated unit score)."""
    known, centre = _train_words(train_texts)
    meter = TextMeter(known, centre)
    measured = [meter(text) for text, _ in held_out]
    values = {name: [each[name] for each in measured] for name in TEXT_QUANTITIES}
    values[SCORE_QUANTITY] = [unit_score for _, unit_score in held_out]
    return PromptReference(
        prompt_id=prompt_id,
        known=base64.b64encode(np.packbits(known).tobytes()).decode("ascii"),
        centre=base64.b64encode(centre.astype(np.uint8).tobytes()).decode("ascii"),
        histograms={name: histogram_of(found) for name, found in values.items()},
    )


def write_reference(reference: DriftReference, path: Path) -> None:
    """The same bytes for the same reference."""
    write_section(reference, path)


def read_reference(path: Path) -> DriftReference:
    """The reference in this file. Raises InvalidManifest when it is none."""
    try:
        return DriftReference.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise InvalidManifest(f"{path}: {error.error_count()} faults in the reference; publish it again") from error


def _train_words(texts: Sequence[str]) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    in_essays, topics = np.zeros(NUM_WORD_BUCKETS, np.int64), np.zeros(NUM_TOPIC_BUCKETS, np.int64)
    for text in texts:
        lower = words(text.lower())
        in_essays[np.unique(word_buckets(lower))] += 1
        topics[topic_buckets(lower)] += 1
    most = max(int(topics.max()), 1)
    return in_essays >= 2, np.round(255 * topics / most).astype(np.float32)
