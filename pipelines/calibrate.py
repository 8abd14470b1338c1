"""Stage `calibrate`: one model's grades and intervals on every fold, fitted on dev essays."""

import argparse

from essays import console
from essays.calibration import write_calibration
from essays.params import read_params
from training.calibrate import fit_calibration
from training.evaluation_config import CalibrateConfig
from training.fold_scores import SCORES_FILE, calibration_file, read_fold_scores, scores_folder


def main() -> None:
    """Calibrate a model as section `calibrate` of params.yaml says."""
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.calibrate",
        description=f"Fit stretch and intervals on the dev part of each fold's {SCORES_FILE}.",
    )
    parser.add_argument("--model", required=True, help="one of `models` in params.yaml")
    model = parser.parse_args().model
    config = read_params("calibrate", CalibrateConfig)
    for fold in read_params("folds", tuple[int, ...]):
        calibration = fit_calibration(read_fold_scores(scores_folder(model, fold) / SCORES_FILE), config)
        write_calibration(calibration, calibration_file(model, fold))
        stretches = [f"{part.prompt_id} {part.stretch:.2f}" for part in calibration.prompts]
        console.wrote(calibration_file(model, fold), f"stretch: {', '.join(stretches)}")


if __name__ == "__main__":
    console.run(main)
