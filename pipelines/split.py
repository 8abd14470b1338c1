"""Stage `split`: who trains, who tunes, who tests, into folds.parquet."""

import argparse

from data.corpora import RAW_FOLDER
from data.folds import SplitConfig
from data.refit import is_refit
from data.split import split_corpora
from data.tables import ESSAYS_FILE, FOLDS_FILE, folds_table, read_essay_rows, write_table
from essays import console
from essays.params import read_params


def main() -> None:
    """Split the essays as section `split` of params.yaml says, and for serving where `folds` asks for that fold."""
    argparse.ArgumentParser(
        prog="python -m pipelines.split",
        description=f"Give every essay of {ESSAYS_FILE} its part (train, dev, test) in every fold, in {FOLDS_FILE}.",
    ).parse_args()
    config = read_params("split", SplitConfig)
    with_refit = any(is_refit(fold, config) for fold in read_params("folds", tuple[int, ...]))
    rows = split_corpora(read_essay_rows(ESSAYS_FILE), RAW_FOLDER, config, with_refit)
    write_table(folds_table(rows), FOLDS_FILE)
    console.wrote(FOLDS_FILE, f"{len(rows)} rows")


if __name__ == "__main__":
    console.run(main)
