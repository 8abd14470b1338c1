"""The robustness suite: what is done to held-out essays, what each model then gives, and what must have happened.

Changes are of calibrated unit scores, so in shares of the prompt's range. A rise counts from 1 % of the range on. A
step is the prompt's, but at least a tenth of the range: on longer scales raters themselves differ by more. An essay
that the gate flags gets no score, so it cannot gain by what was done to it.
"""

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from data.rows import Essay
from essays.calibration import Calibration
from essays.ensemble import EnsembleWeights, mix_unit_scores
from essays.errors import BadInput, UnscorableEssay
from essays.gate import Gate, readable_text
from essays.params import Section
from essays.prompts import get_prompt
from essays.text import sentences, words
from training.bad_essays import Source, copied, foreign, one_word, struck_keys, too_short
from training.behaviours import Behaviour
from training.models import LoadedModel
from training.perturbations import (
    FIRST_NAMES,
    PERTURBATIONS,
    SECOND_NAMES,
    grown,
    long_words,
    named,
    nonsense,
    steered,
)

RISE = 0.01
LEAST_WORDS, LEAST_SENTENCES = 60, 5
"""Of an essay that can be shuffled and cut."""
LONG_WORDS = 10_000
MOST_SECONDS = 20.0
"""The service's own bound for one essay."""
ORIGINAL, ELSEWHERE, NONSENSE, STEERED, LONG = "original", "essay of another prompt", "nonsense", "command", "long"
NAMED, RENAMED = "named", "names swapped"


class RobustnessConfig(Section):
    """Section `robustness` of params.yaml."""

    num_essays: int = Field(ge=1)
    """Test essays of each prompt for a model that is fast."""
    num_essays_of_encoders: int = Field(ge=1)
    """The same for a transformer that learned: an encoder or a decoder."""
    seed: int
    """Chooses essays, and what is done to them."""


@dataclass(frozen=True)
class Case:
    """A text to score."""

    perturbation: str
    prompt_id: str
    """The prompt it is scored on."""
    place: int
    """Of the essay it was made from, in its prompt's sample."""
    text: str
    reasons: frozenset[str]
    """What the gate finds."""
    before: str = ORIGINAL
    """The perturbation that it is compared with."""
    source_prompt_id: str = ""
    """The prompt that its essay answers, where that is another."""


@dataclass(frozen=True)
class Changes:
    """What one perturbation did to one model's scores; each array (N,)."""

    before: NDArray[np.float64]
    """Unit scores."""
    after: NDArray[np.float64]
    flagged: NDArray[np.bool_]
    """Whether the gate keeps the changed essay from a score."""
    step: NDArray[np.float64]
    """Of the prompt, as a share of its range."""

    @property
    def delta(self) -> NDArray[np.float64]:
        """After minus before."""
        return self.after - self.before


Measure = Callable[[Changes], float]


@dataclass(frozen=True)
class Expectation:
    """What must happen under one perturbation."""

    perturbation: str
    claim: str
    """What is asked, in words."""
    measure: Measure
    bar: float
    at_least: bool = True
    """Whether the measure must reach the bar, or stay at or below it."""

    def behaviour(self, model: str, changes: Changes) -> Behaviour:
        """Held against one model's changes."""
        found = self.measure(changes)
        held = found >= self.bar if self.at_least else found <= self.bar
        name = f"{self.perturbation}: {self.claim}"
        return Behaviour(model, name, f"{'≥' if self.at_least else '≤'} {self.bar:g}", round(found, 4), bool(held))


def share_without_rise(changes: Changes) -> float:
    """Of essays that rise by less than `RISE`, or are flagged."""
    return float((changes.flagged | (changes.delta <= RISE)).mean())


def share_of_small_gains(changes: Changes) -> float:
    """Of essays that gain at most half a step, or are flagged."""
    return float((changes.flagged | (changes.delta <= changes.step / 2)).mean())


def share_within(changes: Changes, part: float) -> float:
    """Of essays that move by at most this part of a step."""
    return float((np.abs(changes.delta) <= part * changes.step).mean())


def share_unmoved(changes: Changes) -> float:
    """Of essays that move by at most a quarter of a step, or are flagged."""
    return float((changes.flagged | (np.abs(changes.delta) <= changes.step / 4)).mean())


def mean_change(changes: Changes) -> float:
    """Mean change, in shares of the range."""
    return float(changes.delta.mean())


def mean_size(changes: Changes) -> float:
    """How far the mean change lies from 0."""
    return abs(mean_change(changes))


def share_sunk(changes: Changes) -> float:
    """Of essays that lose 30 % of the range, or are flagged."""
    return float((changes.flagged | (changes.delta <= -0.3)).mean())


def share_in_lowest_third(changes: Changes) -> float:
    """Of texts in the lowest third of the range, or flagged."""
    return float((changes.flagged | (changes.after <= 1 / 3)).mean())


_NO_RISE = ("no rise", share_without_rise, 0.95)
_HALF_STEP = ("within half a step", partial(share_within, part=0.5), 0.95)
_QUARTER_STEP = ("within a quarter step", partial(share_within, part=0.25), 0.95)
EXPECTATIONS: Sequence[Expectation] = (
    Expectation(NONSENSE, "flagged or lowest third", share_in_lowest_third, 0.95),
    Expectation(ELSEWHERE, "flagged or 30 % of the range lost", share_sunk, 0.90),
    Expectation("sentences shuffled", *_NO_RISE),
    Expectation("sentences shuffled", "mean change", mean_change, -0.05, at_least=False),
    Expectation("25 % deleted", *_NO_RISE),
    Expectation("50 % deleted", *_NO_RISE),
    Expectation("lines repeated", "no gain over half a step", share_of_small_gains, 0.95),
    Expectation("whole text × 2", "no gain over half a step", share_of_small_gains, 0.95),
    Expectation("whole text × 5", "no gain over half a step", share_of_small_gains, 0.95),
    Expectation("song inserted", *_NO_RISE),
    Expectation("speech inserted", *_NO_RISE),
    Expectation("encyclopedia inserted", *_NO_RISE),
    Expectation("25 % unrelated", "mean change", mean_change, -0.001, at_least=False),
    Expectation("grammar broken", "mean change", mean_change, -0.001, at_least=False),
    Expectation("um, erm", "mean change", mean_change, -0.001, at_least=False),
    Expectation("synonyms", *_HALF_STEP),
    Expectation("contractions expanded", *_HALF_STEP),
    Expectation("gender swapped", *_QUARTER_STEP),
    Expectation("gender swapped", "mean change from 0", mean_size, 0.01, at_least=False),
    Expectation(RENAMED, *_QUARTER_STEP),
    Expectation(RENAMED, "mean change from 0", mean_size, 0.01, at_least=False),
    Expectation("dialect words", *_QUARTER_STEP),
    Expectation("dialect words", "mean change from 0", mean_size, 0.01, at_least=False),
    Expectation("typos 1 %", *_HALF_STEP),
    Expectation("typos 10 %", "mean change", mean_change, 0.005, at_least=False),
    Expectation("curly quotes", *_HALF_STEP),
    Expectation("newlines lost", *_HALF_STEP),
    Expectation("lower case", *_HALF_STEP),
    Expectation(STEERED, "no effect, or flagged", share_unmoved, 0.95),
)


class CaseMaker:
    """Makes the texts of one test part, the same for every model."""

    def __init__(self, essays: Sequence[Essay], gate: Gate, num_essays: int, seed: int) -> None:
        self.gate, self.rng = gate, random.Random(seed)  # noqa: S311
        texts: dict[str, list[str]] = {}
        usable: dict[str, list[Essay]] = {}
        for essay in sorted(essays, key=lambda each: each.essay_id):
            texts.setdefault(essay.prompt_id, []).append(essay.text)
            if len(words(essay.text)) >= LEAST_WORDS and len(sentences(essay.text)) >= LEAST_SENTENCES:
                usable.setdefault(essay.prompt_id, []).append(essay)
        self.keywords = {prompt_id: long_words(own) for prompt_id, own in texts.items()}
        self.sample = {
            prompt_id: self.rng.sample(own, min(num_essays, len(own))) for prompt_id, own in sorted(usable.items())
        }
        self.best = {
            prompt_id: sorted(own, key=lambda each: (-each.score, each.essay_id))[: max(len(own) // 4, 1)]
            for prompt_id, own in usable.items()
        }

    def cases(self) -> list[Case]:
        """Every text, with what the gate finds in it."""
        return [case for prompt_id in self.sample for case in self._of_prompt(prompt_id)]

    def _of_prompt(self, prompt_id: str) -> list[Case]:
        found = []
        others = [name for name in self.best if name != prompt_id]
        highest = get_prompt(prompt_id).score_range.high
        for place, essay in enumerate(self.sample[prompt_id]):
            text = essay.text
            found.append(self._case(ORIGINAL, prompt_id, place, text))
            for name, perturb in PERTURBATIONS.items():
                changed = perturb(text, self.rng)
                if changed != text:
                    found.append(self._case(name, prompt_id, place, changed))
            if "@PERSON" in text:
                found.append(self._case(NAMED, prompt_id, place, named(text, self.rng, FIRST_NAMES)))
                renamed = named(text, self.rng, SECOND_NAMES)
                found.append(self._case(RENAMED, prompt_id, place, renamed, before=NAMED))
            found.append(self._case(STEERED, prompt_id, place, steered(text, self.rng, highest)))
            found.append(self._case(NONSENSE, prompt_id, place, nonsense(self.keywords[prompt_id], self.rng)))
            if others:
                found += self._elsewhere(prompt_id, place, self.rng.choice(others))
        return found

    def _elsewhere(self, prompt_id: str, place: int, other: str) -> list[Case]:
        """A good essay on its own prompt, and the same on this one."""
        text = self.rng.choice(self.best[other]).text
        home = f"{ELSEWHERE}, at home on {other} for {prompt_id}"
        return [
            self._case(home, other, place, text),
            self._case(ELSEWHERE, prompt_id, place, text, before=home, source_prompt_id=other),
        ]

    def _case(
        self, name: str, prompt_id: str, place: int, text: str, before: str = ORIGINAL, source_prompt_id: str = ""
    ) -> Case:
        found = frozenset(finding.reason for finding in self.gate.findings(text, prompt_id))
        return Case(name, prompt_id, place, text, found, before, source_prompt_id)


def score_cases(loaded: LoadedModel, calibration: Calibration, cases: Sequence[Case], num_essays: int) -> NDArray:
    """Calibrated unit scores, (N,); nan for cases of essays beyond the first `num_essays` of their prompt."""
    scores = np.full(len(cases), np.nan)
    wanted = [place for place, case in enumerate(cases) if case.place < num_essays]
    # Of like length together, so that little is padded.
    wanted.sort(key=lambda place: len(cases[place].text))
    for start in range(0, len(wanted), _BATCH):
        batch = wanted[start : start + _BATCH]
        for place, raw in zip(batch, raw_scores(loaded, [cases[each] for each in batch]), strict=True):
            scores[place] = calibration.unit_scores(cases[place].prompt_id, raw)
    return scores


def raw_scores(loaded: LoadedModel, cases: Sequence[Case]) -> NDArray[np.float64]:
    """What the module gives these texts, (N,)."""
    encoded = [loaded.encoder.encode(case.text, loaded.spec.prompt_index(case.prompt_id)) for case in cases]
    arrays = loaded.encoder.collate(encoded)
    with torch.inference_mode():
        return loaded.module(**{name: torch.from_numpy(array) for name, array in arrays.items()}).double().numpy()


def mixed_scores(
    weights: EnsembleWeights, members: Mapping[str, NDArray], calibration: Calibration, cases: Sequence[Case]
) -> NDArray:
    """The ensemble's calibrated unit scores, (N,); nan where a member has none."""
    mixed = np.full(len(cases), np.nan)
    for place, case in enumerate(cases):
        own = {name: float(scores[place]) for name, scores in members.items()}
        if not any(np.isnan(score) for score in own.values()):
            mixed[place] = calibration.unit_scores(case.prompt_id, mix_unit_scores(weights.of(case.prompt_id), own))
    return mixed


def changes_of(cases: Sequence[Case], scores: NDArray) -> dict[str, Changes]:
    """By perturbation, what it did to the scores of one model."""
    original = {
        (case.perturbation, case.prompt_id, case.place): score for case, score in zip(cases, scores, strict=True)
    }
    rows: dict[str, list[tuple[float, float, bool, float]]] = {}
    for case, after in zip(cases, scores, strict=True):
        before = original.get((case.before, case.source_prompt_id or case.prompt_id, case.place), np.nan)
        if not np.isnan(after):
            steps = min(get_prompt(case.prompt_id).score_range.num_grades - 1, 10)
            rows.setdefault(case.perturbation, []).append((before, after, bool(case.reasons), 1 / steps))
    return {name: _changes(found) for name, found in rows.items()}


def model_behaviours(model: str, changes: Mapping[str, Changes]) -> list[Behaviour]:
    """Every expectation whose perturbation changed some essay."""
    return [
        expected.behaviour(model, changes[expected.perturbation])
        for expected in EXPECTATIONS
        if expected.perturbation in changes
    ]


def long_essay(model: str, loaded: LoadedModel, maker: CaseMaker) -> Behaviour:
    """Whether an essay of `LONG_WORDS` words is taken, and scored within the service's time."""
    prompt_id, own = next(iter(maker.sample.items()))
    started = time.perf_counter()
    try:
        text = readable_text(grown(own[0].text, maker.rng, LONG_WORDS))
        raw_scores(loaded, [Case(LONG, prompt_id, 0, text, frozenset())])
        taken_s = time.perf_counter() - started
    except BadInput:
        taken_s = float("inf")
    held = taken_s <= MOST_SECONDS
    name = f"{LONG_WORDS:,} words: scored, in seconds"
    return Behaviour(model, name, f"≤ {MOST_SECONDS:g}", round(min(taken_s, 1e6), 2), held)


def gate_behaviours(maker: CaseMaker, cases: Sequence[Case], tasks: Mapping[str, str]) -> list[Behaviour]:
    """What the gate alone must do, whatever the model."""
    wordless = {"gibberish", "language"}
    made: dict[str, tuple[Callable[[Source, random.Random], str], set[str], float]] = {
        "empty or white space": (lambda _, rng: rng.choice(("", " \n\t ", "\u200b")), {"empty"}, 1.0),
        "1 to 20 words": (too_short, {"too_short"}, 1.0),
        "one word × 300": (one_word, wordless, 0.99),
        "struck keys": (struck_keys, wordless, 0.99),
        "not English": (foreign, wordless, 0.99),
        "task or source copied": (copied, {"copied_prompt"}, 0.99),
    }
    found = []
    for name, (make, reasons, bar) in made.items():
        hits = []
        for prompt_id, own in maker.sample.items():
            if name != "task or source copied" or prompt_id in tasks:
                highest = get_prompt(prompt_id).score_range.high
                source = Source([essay.text for essay in own], [], tasks.get(prompt_id), highest)
                hits += [bool(reasons_of(maker.gate, make(source, maker.rng), prompt_id) & reasons) for _ in own]
        if hits:
            found.append(_gate_row(f"{name}: reason {' or '.join(sorted(reasons))}", hits, bar))
    repeated = ["repetitive" in case.reasons for case in cases if case.perturbation == "whole text × 5"]
    original = [not case.reasons for case in cases if case.perturbation == ORIGINAL]
    return [
        *found,
        _gate_row("whole text × 5: reason repetitive", repeated, 0.99),
        _gate_row("untouched: no reason", original, 0.95),
    ]


def reasons_of(gate: Gate, text: str, prompt_id: str) -> set[str]:
    """Every reason against this text, from the first rule on."""
    try:
        return {finding.reason for finding in gate.findings(readable_text(text), prompt_id)}
    except UnscorableEssay as error:
        return {error.reason}


_BATCH = 8


def _gate_row(name: str, hits: Sequence[bool], bar: float) -> Behaviour:
    measured = float(np.mean(hits))
    return Behaviour("gate", name, f"≥ {bar:g}", round(measured, 4), measured >= bar)


def _changes(rows: Sequence[tuple[float, float, bool, float]]) -> Changes:
    before, after, flagged, step = zip(*rows, strict=True)
    return Changes(np.array(before), np.array(after), np.array(flagged), np.array(step))
