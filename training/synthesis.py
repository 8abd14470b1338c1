"""All synthetic essays of one fold, kind by kind, from its train part alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from datasets import Dataset

from data.rows import Essay
from data.synthetic.children import Child, check_children
from data.synthetic.config import SynthesizeConfig
from data.synthetic.quality import without_copies
from data.synthetic.unlabelled import UnlabelledEssay
from data.tables import ESSAYS_FILE, ESSAYS_SCHEMA, FOLDS_FILE, FOLDS_SCHEMA, read_dataset, read_essay_rows, read_table
from essays.console import say
from training.config import TrainConfig
from training.continuations import continued
from training.fold_scores import fold_parts
from training.teacher import taught
from training.variations import degraded, varied

CACHE_FOLDER = Path("out/synthetic")


@dataclass(frozen=True)
class Sources:
    """What synthetic essays are made from."""

    rows: Sequence[Essay]
    """The corpus."""
    essays: Dataset
    """The same as a data set, which teachers are trained on."""
    folds: pa.Table
    unlabelled: Sequence[UnlabelledEssay]
    trained: Mapping[str, TrainConfig]
    """Section `train` of params.yaml."""
    train_seed: int


def read_sources(trained: Mapping[str, TrainConfig], seed: int, unlabelled: Sequence[UnlabelledEssay]) -> Sources:
    """The prepared corpus of this checkout, with the rest as it is given."""
    return Sources(
        rows=read_essay_rows(ESSAYS_FILE),
        essays=read_dataset(ESSAYS_FILE, ESSAYS_SCHEMA),
        folds=read_table(FOLDS_FILE, FOLDS_SCHEMA),
        unlabelled=unlabelled,
        trained=trained,
        train_seed=seed,
    )


def synthesize_fold(config: SynthesizeConfig, sources: Sources, fold: int, cache: Path = CACHE_FOLDER) -> list[Child]:
    """The fold's children of all chosen kinds, checked; near-copies of what they must not copy are gone."""
    parts = fold_parts(sources.folds, fold)
    train = [essay for essay in sources.rows if parts[essay.essay_id] == "train"]
    made: list[Child] = []
    if "continue" in config.kinds:
        made += continued(train, config.continue_, fold, config.seed, cache / "continuations")
    if "vary" in config.kinds:
        made += varied(train, config.vary, fold, config.seed)
    if "degrade" in config.kinds:
        made += degraded(train, config.degrade, fold, config.seed)
    if "teacher" in config.kinds:
        seeds = (config.seed, sources.train_seed)
        made += taught(
            sources.unlabelled,
            config.teacher,
            sources.trained,
            sources.essays,
            sources.folds,
            fold,
            seeds,
            cache / "teachers",
        )
    children = without_copies(made, sources.rows, parts) if made else []
    check_children(children, parts)
    say(f"fold {fold}: {len(children)} synthetic essays, {len(made) - len(children)} near-copies left out")
    return children
