"""Section `tracking` of `params.yaml`, apart from what follows training: retraining does not wait for the latter."""

from pydantic import Field

from essays.params import Section


class TrackingConfig(Section):
    """Where runs are recorded (`training.tracking`); the address is MLFLOW_TRACKING_URI's."""

    experiment: str = Field(min_length=1)
    """Name of the MLflow experiment."""
