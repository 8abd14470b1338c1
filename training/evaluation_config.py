"""Sections of `params.yaml` for what follows training: calibration, ensemble, evaluation, tracking."""

from pydantic import Field, model_validator

from essays.params import Section


class CalibrateConfig(Section):
    """How raw unit scores become grades with intervals (`training.calibrate`)."""

    coverage: float = Field(gt=0, lt=1)
    """Share of human scores that the intervals shall hold."""
    widest_change: float = Field(gt=1)
    """The stretch is sought from the humans' spread over the raw scores' divided by this, to that times this."""
    largest_stretch: float = Field(gt=1)
    """No stretch goes beyond this: a model that needs more says next to nothing, and rounding errors grow with it."""
    num_stretches: int = Field(ge=3)
    """Points of that search, evenly spaced in the logarithm."""
    smoothing_points: int = Field(ge=1)
    """QWK and spread are averaged over this many neighbouring points before one is chosen; odd."""
    tie_tolerance: float = Field(ge=0)
    """Stretches whose smoothed QWK is this near the best count as equal; that which gives the humans' spread wins."""
    min_essays: int = Field(ge=2)
    """With fewer dev essays of a prompt QWK is not looked at: grades get the `cautious_spread`."""
    cautious_spread: float = Field(gt=0)
    """Spread of grades over the humans' where dev essays are too few to say more."""
    num_bands: int = Field(ge=1)
    """Score bands with an interval of their own, equally wide, before small ones are merged."""
    min_band_essays: int = Field(ge=1)
    """A band with fewer dev essays joins its smaller neighbour."""

    @model_validator(mode="after")
    def _centred(self) -> "CalibrateConfig":
        if not (self.smoothing_points % 2 and self.num_stretches % 2):
            raise ValueError("num_stretches and smoothing_points are odd, so that each has a middle")
        if self.smoothing_points > self.num_stretches:
            raise ValueError(
                f"smoothing_points ({self.smoothing_points}) is above num_stretches ({self.num_stretches})"
            )
        return self


class EnsembleConfig(Section):
    """How members' weights are fitted (`training.ensemble`)."""

    prior_essays: float = Field(ge=0)
    """Pull toward equal weights, in dev essays that would speak for them."""


class EvaluateConfig(Section):
    """How test parts are measured (`training.evaluate`)."""

    num_resamples: int = Field(ge=100)
    """Bootstrap draws behind each interval of QWK."""
    interval_coverage: float = Field(gt=0, lt=1)
    """Coverage of the intervals of QWK."""


class TrackingConfig(Section):
    """Where runs are recorded (`training.tracking`); the address is MLFLOW_TRACKING_URI's."""

    experiment: str = Field(min_length=1)
    """Name of the MLflow experiment."""
