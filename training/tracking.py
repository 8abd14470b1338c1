"""Runs in MLflow: one parent for each state of the pipeline, and below it one run for each model and fold.

A stage's result never depends on tracking: what talks to MLflow stands inside `best_effort`. Everything here may be
done twice, since DVC runs a stage again whenever it must; the second time nothing is doubled. The address is
MLFLOW_TRACKING_URI's, or a SQLite file of this checkout. What is recorded is `training.tracked_results`' to say.
"""

import math
import os
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from essays.console import say
from training.learning_curves import CURVE_COLUMNS, LearningCurve
from training.pipeline_state import PipelineState
from training.tracking_config import TrackingConfig

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

TRACKING_FOLDER = Path("mlruns")
TRACKING_VARIABLE = "MLFLOW_TRACKING_URI"

STATE_TAG, MODEL_TAG, FOLD_TAG = "fairmark.state", "fairmark.model", "fairmark.fold"
SUPERSEDED_TAG = "fairmark.superseded"
_PARENT_TAG, _NAME_TAG, _COMMIT_TAG = "mlflow.parentRunId", "mlflow.runName", "mlflow.source.git.commit"

_ENVIRONMENT = {
    # Quiet, and nothing leaves this machine but to the tracking server; one that is down is given up on soon.
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "GIT_PYTHON_REFRESH": "quiet",
}
# The most that MLflow takes in one request.
_PARAMS_BATCH, _METRICS_BATCH = 100, 1000
_CURVE_PREFIX = "epoch/"
_SQLITE = "sqlite:///"

Item = TypeVar("Item")


@contextmanager
def best_effort() -> Iterator[None]:
    """Do what is inside; when MLflow fails, say so in a line and go on after it."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError, OSError) as error:  # OSError: connections refused, disks full
        reason = str(error).strip().partition("\n")[0]
        say(f"tracking: not recorded, the stage goes on: {type(error).__name__}: {reason:.200}")


@dataclass(frozen=True)
class TrackedRun:
    """One run, to be added to."""

    client: "MlflowClient"
    run_id: str

    def log_params(self, params: Mapping[str, str]) -> None:
        """Parameters by name. Raises MlflowException when one was recorded with another value."""
        from mlflow.entities import Param

        for batch in _batches([Param(key, value) for key, value in params.items()], _PARAMS_BATCH):
            self.client.log_batch(self.run_id, params=batch)

    def log_metrics(self, metrics: Mapping[str, float]) -> None:
        """Numbers by name; what is nan, or stands there already, is left out."""
        from mlflow.entities import Metric

        known = self.client.get_run(self.run_id).data.metrics
        new = {key: value for key, value in metrics.items() if not math.isnan(value) and known.get(key) != value}
        for batch in _batches([Metric(key, value, _now_ms(), 0) for key, value in new.items()], _METRICS_BATCH):
            self.client.log_batch(self.run_id, metrics=batch)

    def log_history(self, rows: Iterable[Mapping[str, float]]) -> None:
        """Every number of every epoch, `epoch` as the step; points that stand there already are left out."""
        from mlflow.entities import Metric

        rows = list(rows)
        points = []
        for column in sorted({name for row in rows for name in row} - {"epoch"}):
            known = set(self.curve(column))
            wanted = [(int(row["epoch"]), float(row[column])) for row in rows if column in row]
            points += [Metric(_CURVE_PREFIX + column, y, _now_ms(), x) for x, y in wanted if (x, y) not in known]
        for batch in _batches(points, _METRICS_BATCH):
            self.client.log_batch(self.run_id, metrics=batch)

    def log_artifacts(self, folder: Path, into: str | None = None) -> None:
        """Every file of a folder, in place of those of the same names."""
        self.client.log_artifacts(self.run_id, str(folder), into)

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Tags by name, in place of what they were."""
        for key, value in tags.items():
            self.client.set_tag(self.run_id, key, value)

    def curve(self, column: str) -> list[tuple[int, float]]:
        """The recorded points of one column of the learning curve, by epoch."""
        history = self.client.get_metric_history(self.run_id, _CURVE_PREFIX + column)
        return sorted((point.step, point.value) for point in history)

    def follows(self, curve: LearningCurve) -> bool:
        """Whether this run may be of that training: it has no learning curve yet, or the same."""
        for column in CURVE_COLUMNS[1:]:
            known = self.curve(column)
            if known and known != [(int(row["epoch"]), float(row[column])) for row in curve.rows]:
                return False
        return True


@dataclass(frozen=True)
class Tracker:
    """Finds or makes the runs of one state of the pipeline."""

    client: "MlflowClient"
    config: TrackingConfig
    experiment_id: str
    state: PipelineState

    @contextmanager
    def pipeline_run(self) -> Iterator[TrackedRun]:
        """The parent run, with all parameters and digests."""
        run_id = self._find({STATE_TAG: self.state.digest}, parent_id=None)
        with self._open(run_id, {STATE_TAG: self.state.digest, _NAME_TAG: f"pipeline {self.state.digest[:8]}"}) as run:
            run.log_params(self.state.parameters)
            yield run

    @contextmanager
    def model_run(self, curve: LearningCurve) -> Iterator[TrackedRun]:
        """The run of one training, below the parent: the one that has this learning curve, or none yet.

        One with another curve was trained by other code from the same parameters and data: it is kept, tagged as
        superseded, and a new one begins.
        """
        with self.pipeline_run() as parent:
            wanted = {STATE_TAG: self.state.digest, MODEL_TAG: curve.model, FOLD_TAG: str(curve.fold)}
            run_id = self._find(wanted, parent_id=parent.run_id)
            if run_id and not TrackedRun(self.client, run_id).follows(curve):
                self.client.set_tag(run_id, SUPERSEDED_TAG, "true")
                run_id = None
            tags = {**wanted, _PARENT_TAG: parent.run_id, _NAME_TAG: f"{curve.model} fold {curve.fold}"}
            with self._open(run_id, tags) as run:
                run.log_params(self._parameters_of(curve))
                run.log_history(curve.rows)
                yield run

    def _parameters_of(self, curve: LearningCurve) -> dict[str, str]:
        """All parameters but those of other models."""
        own = f"train.{curve.model}."
        mine = {
            key: value
            for key, value in self.state.parameters.items()
            if key.startswith(own) or not key.startswith("train.")
        }
        return {**mine, "model": curve.model, "fold": str(curve.fold)}

    def _find(self, tags: Mapping[str, str], parent_id: str | None) -> str | None:
        """The newest run that has these tags and this parent."""
        wanted = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
        found = self.client.search_runs([self.experiment_id], wanted, order_by=["attributes.start_time DESC"])
        return next((run.info.run_id for run in found if run.data.tags.get(_PARENT_TAG) == parent_id), None)

    @contextmanager
    def _open(self, run_id: str | None, tags: Mapping[str, str]) -> Iterator[TrackedRun]:
        """This run, or a new one with these tags; afterwards it is finished, or failed."""
        run_id = run_id or self.client.create_run(self.experiment_id, tags=dict(tags)).info.run_id
        run = TrackedRun(self.client, run_id)
        run.set_tags(self._provenance())
        status = "FAILED"
        try:
            yield run
            status = "FINISHED"
        finally:
            self.client.set_terminated(run.run_id, status)

    def _provenance(self) -> dict[str, str]:
        digests = {f"fairmark.sha256.{name}": digest for name, digest in self.state.digests.items()}
        return {**digests, _COMMIT_TAG: self.state.git_commit, "fairmark.git_dirty": str(self.state.git_dirty).lower()}


def tracking_address() -> str:
    """Where runs are recorded: at MLFLOW_TRACKING_URI, else in `mlruns/` of this checkout."""
    return os.environ.get(TRACKING_VARIABLE) or f"{_SQLITE}{(TRACKING_FOLDER / 'mlflow.db').resolve()}"


def open_tracker(config: TrackingConfig, state: PipelineState) -> Tracker:
    """A tracker at MLFLOW_TRACKING_URI, or in `mlruns/` of this checkout. Call it inside `best_effort`."""
    address = tracking_address()
    if address.startswith(_SQLITE):
        Path(address.removeprefix(_SQLITE)).parent.mkdir(parents=True, exist_ok=True)
    client = _connect(address)
    experiment = client.get_experiment_by_name(config.experiment)
    if experiment is not None:
        return Tracker(client, config, experiment.experiment_id, state)
    return Tracker(client, config, client.create_experiment(config.experiment, _artifact_location(address)), state)


def _connect(address: str) -> "MlflowClient":
    with warnings.catch_warnings():
        # MLflow's own libraries deprecate what it uses: nothing that we or a user can mend.
        warnings.simplefilter("ignore")
        from mlflow.tracking import MlflowClient

        client = MlflowClient(tracking_uri=address, registry_uri=address)
        client.search_experiments(max_results=1)  # makes the database's tables, or finds the server
    return client


def _artifact_location(address: str) -> str | None:
    """Beside a database file; a server knows its own place."""
    if not address.startswith(_SQLITE):
        return None
    return (Path(address.removeprefix(_SQLITE)).parent / "artifacts").resolve().as_uri()


def _batches(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
