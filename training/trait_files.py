"""Where a model's traits are kept between the stages that fit, export and report them."""

from pathlib import Path

from pydantic import ValidationError

from essays.errors import StageFailed
from essays.params import write_section
from training.fold_scores import FoldScores, read_fold_scores
from training.traits import ModelTraits

TRAITS_FOLDER = Path("out/traits")
TRAITS_FILE = "traits.json"


def traits_folder(model: str) -> Path:
    """Where a model's heads, their calibration, and their scores of dev and test lie."""
    return TRAITS_FOLDER / model


def write_model_traits(traits: ModelTraits, folder: Path) -> None:
    """The same bytes for the same traits."""
    folder.mkdir(parents=True, exist_ok=True)
    write_section(traits, folder / TRAITS_FILE)


def read_model_traits(folder: Path) -> ModelTraits:
    """What `write_model_traits` left. Raises StageFailed when it is missing or malformed."""
    path = folder / TRAITS_FILE
    try:
        return ModelTraits.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise StageFailed(f"{path}: missing; run the stage that writes it (python -m pipelines.traits)") from error
    except ValidationError as error:
        raise StageFailed(f"{path}: {error.error_count()} faults; fit the traits again") from error


def trait_scores_file(folder: Path, name: str) -> Path:
    """One trait's raw unit scores of dev and test."""
    return folder / f"{name}.parquet"


def read_trait_scores(folder: Path, name: str) -> FoldScores:
    """Those scores. Raises StageFailed."""
    return read_fold_scores(trait_scores_file(folder, name))
