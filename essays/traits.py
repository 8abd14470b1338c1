"""Scores of parts of the writing beside the holistic one: what a bundle says of each, and how raw ones are graded.

A trait is scored on its prompt's own scale by a head of its own, on what the holistic head sees. People score traits
much alike, so a trait's head may know no more of it than the holistic score does: `TraitQuality` says so.
"""

from collections.abc import Sequence

from pydantic import Field

from essays.calibration import Grade, PromptCalibration, grade_of
from essays.params import Section
from essays.scores import ScoreRange


class TraitQuality(Section):
    """How well a trait's grades agreed with people on held-out essays, beside what else could stand in their place."""

    num_essays: int = Field(gt=0)
    qwk: float
    qwk_interval: tuple[float, float]
    """95 % bootstrap interval."""
    holistic_qwk: float
    """Of the same model's holistic score in the trait's place, calibrated for it."""
    gain_interval: tuple[float, float]
    """95 % bootstrap interval of `qwk` minus `holistic_qwk`, essays drawn for both alike."""
    length_qwk: float
    """Of the number of words in its place, calibrated likewise."""

    @property
    def beats_holistic(self) -> bool:
        """Whether the trait's own head surely agrees better with people than the holistic score in its place."""
        return self.gain_interval[0] > 0


class Trait(Section):
    """One part of the writing that people scored."""

    name: str = Field(pattern=r"^[a-z][a-z0-9-]{0,39}$")
    """As the corpus calls it, in lower case: `cohesion`."""
    calibration: PromptCalibration
    quality: TraitQuality | None = None
    """None where the model has no test part to measure it on."""


class Traits(Section):
    """The traits of one prompt."""

    prompt_id: str
    """The only prompt whose essays get them."""
    score_range: ScoreRange
    """Of every trait."""
    coverage: float = Field(gt=0, lt=1)
    """Share of human scores that the intervals are meant to hold."""
    traits: tuple[Trait, ...] = Field(min_length=1)
    """In the order of the graph's second output."""

    @property
    def names(self) -> tuple[str, ...]:
        """In the order of the graph's second output."""
        return tuple(trait.name for trait in self.traits)

    def grades(self, raw_unit_scores: Sequence[float]) -> list[Grade]:
        """A grade for each trait, from one essay's raw unit scores in the traits' order."""
        return [
            grade_of(trait.calibration, self.score_range, raw)
            for trait, raw in zip(self.traits, raw_unit_scores, strict=True)
        ]
