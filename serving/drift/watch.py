"""Counts essays as they come, says where they differ from the reference, and keeps the counts over a restart.

Text is looked at before the gate, so that a class of off-topic essays is seen although it gets no score. What is
watched is what the served bundles bring a reference for; a new version's counts begin anew. A file that cannot be read
or written costs the counts, never an answer.
"""

import hashlib
import logging
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from pydantic import TypeAdapter

from essays.drift import SCORE_QUANTITY, TEXT_QUANTITIES, Histogram, PromptReference, TextMeter, meter_of
from serving.catalogue import Catalogue
from serving.drift.settings import DriftSettings
from serving.drift.sketch import Sketch, empty_sketch
from serving.drift.statistics import Difference, difference

Sketches = dict[str, Sketch]

logger = logging.getLogger("bentoml.fairmark")
_FILE = TypeAdapter(Sketches)
_MOST_FILE_BYTES = 10_000_000


@dataclass(frozen=True)
class Watched:
    """One quantity of one prompt, by one model where it is a score."""

    prompt_id: str
    quantity: str
    model: str
    """Empty for what the text alone says."""
    histogram: Histogram

    @cached_property
    def key(self) -> str:
        """The same bins, the same counts: of another reference nothing is taken over."""
        bins = hashlib.sha256(repr((self.histogram.edges, self.histogram.counts)).encode()).hexdigest()[:12]
        return f"{self.prompt_id} {self.quantity} {self.model} {bins}"


@dataclass(frozen=True)
class Seen:
    """How the last essays compare."""

    watched: Watched
    counts: tuple[int, ...]
    """Of the last essays, by the reference's bins."""
    difference: Difference | None
    """None while there are too few to say."""

    @property
    def num_essays(self) -> int:
        """In all bins."""
        return sum(self.counts)


class DriftWatch:
    """All quantities of all prompts; any thread may call it."""

    def __init__(self, settings: DriftSettings) -> None:
        self.settings = settings
        self._lock = threading.Lock()
        self._kept = self._load()
        self._watched: list[Watched] = []
        self._by_place: dict[tuple[str, str, str], Watched] = {}
        self._meters: dict[str, TextMeter] = {}
        self._saved = time.monotonic()
        self._changed = False

    def follow(self, catalogue: Catalogue) -> None:
        """Watch what these models bring references for, from now on."""
        references = list(_references(catalogue))
        texts = {reference.prompt_id: reference for _, reference in reversed(references)}
        watched = [
            *(_watched(reference, name, "") for reference in texts.values() for name in TEXT_QUANTITIES),
            *(_watched(reference, SCORE_QUANTITY, model) for model, reference in references),
        ]
        with self._lock:
            self._watched = watched
            self._by_place = {(each.prompt_id, each.quantity, each.model): each for each in watched}
            self._meters = {prompt_id: meter_of(reference) for prompt_id, reference in texts.items()}
            keys = {each.key: each.histogram for each in watched}
            self._kept = {key: sketch for key, sketch in self._kept.items() if key in keys and sketch.fits(keys[key])}

    def saw_text(self, prompt_id: str, text: str) -> None:
        """A normalized essay came for this prompt."""
        if meter := self._meters.get(prompt_id):
            for quantity, value in meter(text).items():
                self._count((prompt_id, quantity, ""), value)

    def saw_score(self, prompt_id: str, model: str, unit_score: float) -> None:
        """A model gave a calibrated unit score."""
        self._count((prompt_id, SCORE_QUANTITY, model), unit_score)

    def seen(self) -> list[Seen]:
        """Everything that is watched."""
        with self._lock:
            pairs = [(each, self._kept.get(each.key)) for each in self._watched]
        return [self._compare(watched, sketch) for watched, sketch in pairs]

    def save(self) -> None:
        """Write the counts where settings say, at once and whole or not at all."""
        with self._lock:
            content, self._changed, self._saved = _FILE.dump_json(self._kept), False, time.monotonic()
        path = self.settings.file
        if path is None:
            return
        staging = path.with_name(f"{path.name}.{os.getpid()}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            staging.write_bytes(content)
            staging.replace(path)
        except OSError as error:
            logger.warning("counts of drift are not kept: %s: %s", path, error.strerror)

    def save_if_due(self) -> None:
        """The same where there is something new and the last time is long ago."""
        if self.settings.file and self._changed and time.monotonic() - self._saved >= self.settings.save_s:
            self.save()

    def _count(self, place: tuple[str, str, str], value: float) -> None:
        watched = self._by_place.get(place)
        if watched is None:
            return
        found = watched.histogram.bin_of(value)
        with self._lock:
            sketch = self._kept.get(watched.key) or empty_sketch(watched.histogram.counts)
            self._kept[watched.key] = sketch.with_one(found, self.settings.window_essays)
            self._changed = True

    def _compare(self, watched: Watched, sketch: Sketch | None) -> Seen:
        expected = watched.histogram.counts
        found = (sketch or empty_sketch(expected)).counts
        enough = sum(found) >= self.settings.least_essays
        return Seen(watched, found, difference(expected, found) if enough else None)

    def _load(self) -> Sketches:
        path = self.settings.file
        if path is None or not path.exists():
            return {}
        try:
            if path.stat().st_size > _MOST_FILE_BYTES:
                raise ValueError("too large")
            return _FILE.validate_json(path.read_bytes())
        except (OSError, ValueError) as error:  # ValidationError is a ValueError
            logger.warning("counts of drift begin anew: %s cannot be read (%s)", path, type(error).__name__)
            return {}


def _references(catalogue: Catalogue) -> Iterator[tuple[str, PromptReference]]:
    for model in catalogue.models.values():
        for reference in model.reference.prompts if model.reference else ():
            if reference.prompt_id in model.manifest.prompt_ids:
                yield model.name, reference


def _watched(reference: PromptReference, quantity: str, model: str) -> Watched:
    return Watched(reference.prompt_id, quantity, model, reference.histograms[quantity])
