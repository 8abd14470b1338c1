"""Stage `synthesize`: synthetic essays of each fold's train part, into synthetic.parquet; none by default."""

import argparse

from data.corpora import RAW_FOLDER
from data.synthetic.children import SYNTHETIC_FILE, Child, children_table
from data.synthetic.config import SynthesizeConfig
from data.tables import write_table
from essays.console import run, wrote
from essays.params import read_params
from training.config import TrainConfig


def main() -> None:
    """Make the kinds that section `synthesize` chooses, fold by fold."""
    argparse.ArgumentParser(
        prog="python -m pipelines.synthesize",
        description=f"Make the chosen kinds of synthetic essays for each fold's train part, in {SYNTHETIC_FILE}.",
    ).parse_args()
    config, folds = read_params("synthesize", SynthesizeConfig), read_params("folds", tuple[int, ...])
    trained, seed = read_params("train", dict[str, TrainConfig]), read_params("seed", int)
    children = make_children(config, folds, trained, seed) if config.kinds else []
    write_table(children_table(children), SYNTHETIC_FILE)
    wrote(SYNTHETIC_FILE, f"{len(children)} synthetic essays of {', '.join(config.kinds) or 'no kind'}")


def make_children(
    config: SynthesizeConfig, folds: tuple[int, ...], trained: dict[str, TrainConfig], seed: int
) -> list[Child]:
    """The children of every fold; `seed` is that of training, for teachers. Raises BadCorpus, BadParams."""
    # Torch takes seconds, and by default nothing is made.
    from data.synthetic.unlabelled import read_unlabelled
    from training.synthesis import read_sources, synthesize_fold

    unlabelled = read_unlabelled(RAW_FOLDER / "asap-aes") if "teacher" in config.kinds else []
    sources = read_sources(trained, seed, unlabelled)
    return [child for fold in folds for child in synthesize_fold(config, sources, fold)]


if __name__ == "__main__":
    run(main)
