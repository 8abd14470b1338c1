"""Stage `ensemble`: weights over all models on every fold, the mixed scores, and their calibration."""

import argparse

from essays import console
from essays.calibration import read_calibration, write_calibration
from essays.ensemble import ENSEMBLE, WEIGHTS_FILE, write_weights
from essays.params import read_params
from training.calibrate import fit_calibration
from training.ensemble import fit_ensemble
from training.evaluation_config import CalibrateConfig, EnsembleConfig
from training.fold_scores import SCORES_FILE, calibration_file, read_fold_scores, scores_folder, write_fold_scores


def main() -> None:
    """Mix the models as sections `ensemble` and `calibrate` of params.yaml say."""
    argparse.ArgumentParser(
        prog="python -m pipelines.ensemble",
        description="Fit the members' weights, and the mix's calibration, on the dev part of each fold.",
    ).parse_args()
    config, calibrate = read_params("ensemble", EnsembleConfig), read_params("calibrate", CalibrateConfig)
    members = read_params("models", tuple[str, ...])
    for fold in read_params("folds", tuple[int, ...]):
        folder = scores_folder(ENSEMBLE, fold)
        weights, mixed = fit_ensemble(
            {member: read_fold_scores(scores_folder(member, fold) / SCORES_FILE) for member in members},
            {member: read_calibration(calibration_file(member, fold)) for member in members},
            config,
        )
        write_weights(weights, folder / WEIGHTS_FILE)
        write_fold_scores(mixed, folder / SCORES_FILE)
        write_calibration(fit_calibration(mixed, calibrate), calibration_file(ENSEMBLE, fold))
        for part in weights.prompts:
            shares = "  ".join(f"{member} {weight:.2f}" for member, weight in part.weights.items())
            console.say(f"fold {fold}  {part.prompt_id}  {shares}")
        console.wrote(folder)


if __name__ == "__main__":
    console.run(main)
