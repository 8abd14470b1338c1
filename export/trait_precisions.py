"""The parity gate below fp32 for traits: what a precision changes of each, from the holistic score's runs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from essays.calibration import Calibration
from essays.encoding import Arrays
from essays.manifest import Precision, TraitPrecision
from essays.outputs import Outputs
from essays.traits import Trait, Traits
from export.precisions import PrecisionScores, compare_precision
from training.fold_scores import FoldScores


@dataclass
class Recorder:
    """A session's outputs, of which the gate is handed the holistic scores: the traits' are kept, essay by essay."""

    outputs: Callable[[Arrays], Outputs]
    rows: list[NDArray[np.float32]] = field(default_factory=list)
    """Raw unit scores of the traits, (traits,), in the order of the runs."""

    def run(self, arrays: Arrays) -> NDArray[np.float32]:
        """The holistic score, (1,), of a batch of one."""
        outputs = self.outputs(arrays)
        self.rows.append(outputs.raw_trait_scores[0])
        return outputs.raw_unit_scores


@dataclass(frozen=True)
class RecordedEssays:
    """Essays in the order in which a precision scored them."""

    essay_ids: Sequence[str]
    rows: Sequence[NDArray[np.float32]]

    def column(self, place: int) -> dict[str, float]:
        """One trait's raw unit scores by essay id."""
        return {essay_id: float(row[place]) for essay_id, row in zip(self.essay_ids, self.rows, strict=True)}


def compare_traits(
    traits: Traits,
    fp32: Mapping[str, FoldScores],
    precision: Precision,
    shift_on: RecordedEssays,
    judged: RecordedEssays,
) -> dict[str, TraitPrecision]:
    """By trait, what a precision changes of the essays judged; `fp32` holds the checkpoint's scores of dev and test."""
    return {
        trait.name: _compare(traits, trait, fp32[trait.name], precision, shift_on.column(place), judged.column(place))
        for place, trait in enumerate(traits.traits)
    }


def _compare(
    traits: Traits,
    trait: Trait,
    fp32: FoldScores,
    precision: Precision,
    shift_on: Mapping[str, float],
    judged: Mapping[str, float],
) -> TraitPrecision:
    places = {essay_id: place for place, essay_id in enumerate(fp32.essay_ids.tolist())}
    # A model of several prompts was judged on more essays than those that get traits.
    lacks = [fp32.raw_unit_scores[places[key]] - low for key, low in shift_on.items() if key in places]
    shift = float(np.mean(lacks)) if lacks else 0.0
    ids = [essay_id for essay_id in judged if essay_id in places]
    rows = fp32.rows(np.array([places[essay_id] for essay_id in ids], dtype=np.int64))
    scored = PrecisionScores(
        essay_ids=tuple(ids),
        prompt_ids=(traits.prompt_id,) * len(ids),
        human_scores=tuple(rows.human_scores.tolist()),
        raw={
            "fp32": tuple(rows.raw_unit_scores.tolist()),
            precision: tuple(float(np.nan_to_num(judged[essay_id], nan=-1.0)) + shift for essay_id in ids),
        },
    )
    parity = compare_precision(scored, precision, Calibration(coverage=traits.coverage, prompts=(trait.calibration,)))
    (change,) = parity.qwk_changes.values()
    return TraitPrecision(
        shift=shift, max_gap=parity.max_gap, same_grade_share=parity.same_grade_share, qwk_change=change
    )
