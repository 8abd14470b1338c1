"""What the stages that fit, export and report a model's traits hand each other, and where it lies."""

from pathlib import Path

from pydantic import ValidationError

from essays.errors import StageFailed
from essays.params import Section, write_section
from essays.traits import TraitQuality, Traits
from training.fold_scores import FoldScores, read_fold_scores

TRAITS_FOLDER = Path("out/traits")
TRAITS_FILE = "traits.json"


class TraitMeasures(Section):
    """One trait on the test part, for the report."""

    name: str
    num_essays: int
    qwk: float
    qwk_interval: tuple[float, float]
    dev_qwk: float
    """On the essays that chose: an upper hint, no result."""
    adjacent: float
    smd: float
    sd_ratio: float
    coverage: float
    """Share of human scores inside the interval."""
    interval_width: float
    holistic_qwk: float
    """Of the model's holistic score in the trait's place."""
    gain_interval: tuple[float, float]
    length_qwk: float
    people_qwk: float
    """Of the humans' holistic score in the trait's place: how much of the trait it tells at best."""

    @property
    def quality(self) -> TraitQuality:
        """What a bundle says of it."""
        shared = {name: getattr(self, name) for name in TraitQuality.model_fields}
        return TraitQuality.model_validate(shared)


class ModelTraits(Section):
    """What the stage leaves of a model, beside its heads and scores."""

    traits: Traits | None
    """None where the model scores none."""
    measured: tuple[TraitMeasures, ...] = ()
    """Empty without a test part."""


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
