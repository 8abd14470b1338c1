"""Stage `traits`: heads of the traits that people scored, on a trained model's states, into `out/traits/MODEL/`."""

import argparse
import shutil
from pathlib import Path

from data.folds import SplitConfig
from data.tables import (
    ESSAYS_FILE,
    ESSAYS_SCHEMA,
    FOLDS_FILE,
    FOLDS_SCHEMA,
    read_dataset,
    read_essay_rows,
    read_table,
)
from essays.console import run, say, wrote
from essays.params import read_params
from training.evaluation_config import CalibrateConfig, EvaluateConfig
from training.fold_scores import fold_parts
from training.trait_files import ModelTraits, traits_folder, write_model_traits
from training.traits import TraitEssays, TraitsConfig, essays_with_traits


def main() -> None:
    """Fit, calibrate and measure the traits of one model on the fold that is served."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.traits", description=__doc__)
    parser.add_argument("--model", required=True, help="one of `models` in params.yaml")
    model: str = parser.parse_args().model
    config, fold = read_params("traits", TraitsConfig), read_params("folds", tuple[int, ...])[0]
    folder = traits_folder(model)
    shutil.rmtree(folder, ignore_errors=True)
    if model not in config.models:
        say(f"{model} scores no traits: not among traits.models")
        write_model_traits(ModelTraits(traits=None), folder)
    elif (data := essays_with_traits(read_essay_rows(), _parts(fold))) is None:
        say(f"{model} scores no traits: no essay has traits")
        write_model_traits(ModelTraits(traits=None), folder)
    else:
        write_model_traits(_fit(model, data, config, fold, folder), folder)
    wrote(folder)


def _parts(fold: int) -> dict[str, str]:
    return fold_parts(read_table(FOLDS_FILE, FOLDS_SCHEMA), fold)


def _fit(model: str, data: TraitEssays, config: TraitsConfig, fold: int, folder: Path) -> ModelTraits:
    from training.model_traits import TraitSettings, fit_model_traits  # torch takes seconds; most models have no traits

    settings = TraitSettings(
        config,
        fold,
        read_params("split", SplitConfig),
        read_params("calibrate", CalibrateConfig),
        read_params("evaluate", EvaluateConfig),
        read_params("seed", int),
    )
    return fit_model_traits(model, data, read_dataset(ESSAYS_FILE, ESSAYS_SCHEMA), settings, folder)


if __name__ == "__main__":
    run(main)
