"""Sections of `params.yaml` for what follows training: calibration, ensemble, evaluation."""

from pydantic import Field

from essays.params import Section


class CalibrateConfig(Section):
    """How raw unit scores become grades with intervals (`training.calibrate`)."""

    coverage: float = Field(gt=0, lt=1)
    """Share of human scores that the intervals shall hold."""
    spread: float = Field(gt=0)
    """Spread of stretched scores over the humans', before rounding, which widens it a little on short scales."""
    largest_stretch: float = Field(gt=1)
    """No stretch goes beyond this: a model that needs more says next to nothing, and rounding errors grow with it."""
    min_essays: int = Field(ge=2)
    """With fewer dev essays of a prompt neither spread is known well: scores get the `cautious_spread`."""
    cautious_spread: float = Field(gt=0)
    """Spread over the humans' where dev essays are few."""
    num_bands: int = Field(ge=1)
    """Score bands with an interval of their own, equally wide, before small ones are merged."""
    min_band_essays: int = Field(ge=1)
    """A band with fewer dev essays joins its smaller neighbour."""


class EnsembleConfig(Section):
    """How members' weights are fitted (`training.ensemble`)."""

    prior_essays: float = Field(ge=0)
    """Pull of all prompts toward equal weights, and of each toward theirs, in dev essays that would speak for it."""


class EvaluateConfig(Section):
    """How test parts are measured (`training.evaluate`)."""

    num_resamples: int = Field(ge=100)
    """Bootstrap draws behind each interval of QWK."""
    interval_coverage: float = Field(gt=0, lt=1)
    """Coverage of the intervals of QWK."""
