"""Traits of one model on one fold: heads fitted on train, chosen and calibrated on dev, measured once on test.

Beside each head stand what could take its place: the model's holistic score and the essay's length, both calibrated for
the trait as the head is. Where those agree with people as well, the head says nothing of its own (`TraitQuality`).
"""

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from data.folds import SplitConfig
from data.rows import Essay
from essays.calibration import Calibration
from essays.errors import StageFailed
from essays.metrics import percentile_interval, quadratic_weighted_kappa
from essays.params import Section
from essays.prompts import Prompt, get_prompt
from essays.traits import Trait, TraitQuality, Traits
from training.baselines import fourth_root_lengths, ridge_line
from training.calibrate import fit_prompt
from training.evaluate import Evaluator, PromptResult
from training.evaluation_config import CalibrateConfig, EvaluateConfig
from training.fold_scores import FoldScores
from training.trait_files import TraitMeasures


class TraitsConfig(Section):
    """Which models score traits, and how their heads are solved."""

    models: tuple[str, ...]
    """Of `models`, those that get heads where their essays have traits; each must make pooled states of tokens."""
    penalties: tuple[float, ...] = Field(min_length=1)
    """Ridge penalties to choose from on dev, in the unit of `training.refit`; no change is always among the choices."""


@dataclass(frozen=True)
class TraitSettings:
    """What params.yaml says, for one model's traits."""

    traits: TraitsConfig
    fold: int
    split: SplitConfig
    calibrate: CalibrateConfig
    evaluate: EvaluateConfig
    seed: int


@dataclass(frozen=True)
class TraitEssays:
    """The essays of one prompt that have traits, by part, in one order for all."""

    prompt: Prompt
    names: tuple[str, ...]
    essays: Mapping[str, Sequence[Essay]]
    """By part."""

    def human(self, part: str) -> NDArray[np.float64]:
        """Human scores, (N, traits)."""
        rows = [[essay.traits[name] for name in self.names] for essay in self.essays[part]]
        return np.array(rows, dtype=np.float64).reshape(len(rows), len(self.names))

    def targets(self, part: str) -> NDArray[np.float64]:
        """The same as unit scores."""
        return self.prompt.score_range.to_unit(self.human(part))

    def scores(self, raw: Mapping[str, NDArray], place: int) -> FoldScores:
        """Dev and test essays with one trait's human scores and raw unit scores, `raw` (N,) by part."""
        parts = ("dev", "test")
        return FoldScores(
            np.array([essay.essay_id for part in parts for essay in self.essays[part]], dtype=np.str_),
            np.array([self.prompt.prompt_id for part in parts for _ in self.essays[part]], dtype=np.str_),
            np.repeat(np.array(parts), [len(self.essays[part]) for part in parts]),
            np.concatenate([self.human(part)[:, place] for part in parts]),
            np.concatenate([raw[part] for part in parts]).astype(np.float64),
        )


def essays_with_traits(essays: Sequence[Essay], parts: Mapping[str, str]) -> TraitEssays | None:
    """Those that have traits, `parts` by essay id; None where no essay has.

    Raises StageFailed for traits on more than one prompt, and where an essay lacks a trait that others have.
    """
    scored = [essay for essay in essays if essay.traits]
    if not scored:
        return None
    prompt_ids = sorted({essay.prompt_id for essay in scored})
    if len(prompt_ids) > 1:
        raise StageFailed(f"traits of {', '.join(prompt_ids)}: a model scores those of one prompt; leave out a corpus")
    names = tuple(scored[0].traits)
    if lacking := [essay.essay_id for essay in scored if tuple(essay.traits) != names]:
        raise StageFailed(f"{lacking[0]}: traits other than {', '.join(names)}; prepare the corpus again")
    chosen = {part: [essay for essay in scored if parts[essay.essay_id] == part] for part in ("train", "dev", "test")}
    return TraitEssays(get_prompt(prompt_ids[0]), names, chosen)


@dataclass(frozen=True)
class TraitEvaluator:
    """Calibrates and measures every trait alike, and what may stand in its place."""

    data: TraitEssays
    holistic: Mapping[str, NDArray[np.float64]]
    """The model's raw holistic scores by part, (N,)."""
    fold: int
    calibrate: CalibrateConfig
    evaluate: EvaluateConfig
    seed: int

    def calibrated(self, scores: FoldScores) -> Calibration:
        """Fitted on the dev essays of one trait's scores."""
        part = fit_prompt(self.data.prompt, scores.select("dev", self.data.prompt.prompt_id), self.calibrate)
        return Calibration(coverage=self.calibrate.coverage, prompts=(part,))

    def traits(self, raw: Mapping[str, NDArray], measured: Sequence[TraitMeasures]) -> Traits:
        """What a bundle says of the traits, `raw` (N, traits) by part."""
        qualities: dict[str, TraitQuality] = {each.name: each.quality for each in measured}
        traits = []
        for place, name in enumerate(self.data.names):
            calibration = self.calibrated(self.data.scores(_column(raw, place), place))
            traits.append(Trait(name=name, calibration=calibration.prompts[0], quality=qualities.get(name)))
        return Traits(
            prompt_id=self.data.prompt.prompt_id,
            score_range=self.data.prompt.score_range,
            coverage=self.calibrate.coverage,
            traits=tuple(traits),
        )

    def measure(self, raw: Mapping[str, NDArray], place: int) -> TraitMeasures:
        """One trait on test essays, `raw` (N, traits) by part."""
        own, holistic, length = (
            self._result(each, place) for each in (_column(raw, place), self.holistic, self._by_length(place))
        )
        people = np.array([essay.score for essay in self.data.essays["test"]])
        return TraitMeasures(
            name=self.data.names[place],
            num_essays=own.num_essays,
            qwk=_known(own.qwk),
            qwk_interval=own.qwk_interval,
            dev_qwk=_known(own.dev_qwk),
            adjacent=own.adjacent,
            smd=_known(own.mean_difference),
            sd_ratio=_known(own.spread),
            coverage=own.coverage,
            interval_width=own.interval_width,
            holistic_qwk=_known(holistic.qwk),
            gain_interval=self._gain_interval(own, holistic, place),
            length_qwk=_known(length.qwk),
            people_qwk=_known(quadratic_weighted_kappa(people, own.human_scores, self.data.prompt.score_range)),
        )

    def _result(self, raw: Mapping[str, NDArray], place: int) -> PromptResult:
        scores = self.data.scores(raw, place)
        evaluator = Evaluator(self.evaluate, self.seed, {})
        name = self.data.names[place]
        return evaluator.prompt_result(name, self.fold, self.data.prompt, scores, self.calibrated(scores))

    def _by_length(self, place: int) -> dict[str, NDArray]:
        lengths = {part: fourth_root_lengths(essays) for part, essays in self.data.essays.items()}
        human = self.data.targets("train")[:, place]
        return {part: ridge_line(lengths["train"], human, lengths[part]) for part in ("dev", "test")}

    def _gain_interval(self, own: PromptResult, other: PromptResult, place: int) -> tuple[float, float]:
        """Of the difference of QWK, with the same essays drawn for both: far narrower than two intervals compared."""
        random = np.random.default_rng([self.seed, self.fold, zlib.crc32(self.data.names[place].encode())])
        score_range, human = self.data.prompt.score_range, own.human_scores
        gains = np.empty(self.evaluate.num_resamples)
        for number in range(len(gains)):
            drawn = random.integers(0, len(human), len(human))
            kappas = [
                quadratic_weighted_kappa(result.grades[drawn], human[drawn], score_range) for result in (own, other)
            ]
            gains[number] = kappas[0] - kappas[1]
        low, high = percentile_interval(gains, self.evaluate.interval_coverage)
        return _known(low), _known(high)


def _column(raw: Mapping[str, NDArray], place: int) -> dict[str, NDArray]:
    return {part: scores[:, place] for part, scores in raw.items()}


def _known(value: float) -> float:
    """The value; 0 where nothing varies, so that agreement is undefined: it is no better than chance."""
    return 0.0 if math.isnan(value) else value
