"""Stage `train`: one model on one fold, into `out/models/MODEL/fold-K/`, and what it scored into `out/scores/`."""

import argparse
import time
from pathlib import Path

from data.synthetic.children import read_children
from data.tables import ESSAYS_FILE, ESSAYS_SCHEMA, FOLDS_FILE, FOLDS_SCHEMA, read_dataset, read_table
from essays.console import run, say, wrote
from essays.params import read_params
from training.config import TrainConfig
from training.fit import fit_fold
from training.fold_scores import model_folder, scores_folder
from training.learning_curves import LearningCurve
from training.pipeline_state import read_state
from training.tracking import best_effort, open_tracker
from training.tracking_config import TrackingConfig

CHECKPOINTS = Path("out/checkpoints")


def main() -> None:
    """Parse, load parameters, train, say what was written."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.train", description=__doc__)
    parser.add_argument("--model", required=True, help="a section of `train` in params.yaml")
    parser.add_argument("--fold", required=True, type=int, help="a fold of folds.parquet")
    options = parser.parse_args()
    run(lambda: train(options.model, options.fold))


def train(model: str, fold: int) -> None:
    """Train `model` on `fold`."""
    config: TrainConfig = read_params(f"train.{model}", TrainConfig)  # type: ignore[arg-type]  # a union is no class
    seed, tracking = read_params("seed", int), read_params("tracking", TrackingConfig)
    essays = read_dataset(ESSAYS_FILE, ESSAYS_SCHEMA)
    folds = read_table(FOLDS_FILE, FOLDS_SCHEMA)
    children = read_children(fold)
    folder = model_folder(model, fold)
    say(f"train {model} on fold {fold}{f', with {len(children)} synthetic essays' if children else ''}")
    started = time.monotonic()
    history = fit_fold(
        config, essays, folds, fold, seed, folder, scores_folder(model, fold), CHECKPOINTS, children=children
    )
    best = max(row.dev_qwk for row in history)
    wrote(folder, f"dev qwk {best:.3f}, spread matched")
    duration_s = time.monotonic() - started
    # With the epochs' times, which history.json leaves out.
    curve = LearningCurve(model, fold, tuple(row.model_dump() for row in history))
    with best_effort(), open_tracker(tracking, read_state()).model_run(curve) as tracked:
        tracked.log_metrics({"train_duration_s": duration_s})


if __name__ == "__main__":
    main()
