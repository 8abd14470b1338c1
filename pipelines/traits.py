"""Stage `traits`: heads of the traits that people scored, on a trained model's states, into `out/traits/MODEL/`."""

import argparse
import shutil

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
from training.traits import TraitEssays, TraitsConfig, TraitSettings, essays_with_traits


def main() -> None:
    """Fit, calibrate and measure the traits of one model on the fold that is served."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.traits", description=__doc__)
    parser.add_argument("--model", required=True, help="one of `models` in params.yaml")
    model: str = parser.parse_args().model
    settings = TraitSettings(
        read_params("traits", TraitsConfig),
        read_params("folds", tuple[int, ...])[0],
        read_params("split", SplitConfig),
        read_params("calibrate", CalibrateConfig),
        read_params("evaluate", EvaluateConfig),
        read_params("seed", int),
    )
    folder = traits_folder(model)
    shutil.rmtree(folder, ignore_errors=True)
    if model not in settings.traits.models:
        say(f"{model} scores no traits: not among traits.models")
        write_model_traits(ModelTraits(traits=None), folder)
    elif (data := _essays_with_traits(settings.fold)) is None:
        say(f"{model} scores no traits: no essay has traits")
        write_model_traits(ModelTraits(traits=None), folder)
    else:
        from training.model_traits import fit_model_traits  # torch takes seconds, and most models score no traits

        essays = read_dataset(ESSAYS_FILE, ESSAYS_SCHEMA)
        write_model_traits(fit_model_traits(model, data, essays, settings, folder), folder)
    wrote(folder)


def _essays_with_traits(fold: int) -> TraitEssays | None:
    return essays_with_traits(read_essay_rows(), fold_parts(read_table(FOLDS_FILE, FOLDS_SCHEMA), fold))


if __name__ == "__main__":
    run(main)
