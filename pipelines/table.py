"""`make table`: the benchmark's table, computed again from committed out-of-fold scores in seconds."""

import argparse
from pathlib import Path

from data.corpora import RAW_FOLDER, CorpusName, all_corpora
from data.fetch import fetch_corpus, kaggle_token, mirror_folder
from data.prepare import read_corpus
from data.rows import Essay
from essays.console import run
from essays.ensemble import ENSEMBLE
from essays.errors import StageFailed
from essays.params import read_params
from training.baselines import BASELINES
from training.benchmark_table import benchmark_table, model_cells, require_every_essay, trust_table
from training.evaluate import rater_pairs
from training.evaluation_config import EvaluateConfig
from training.out_of_fold import read_rows

DEFAULT_FOLDER = Path("reports/asap/oof")
OWN_RAW_FOLDER = Path("out/cache/raw")


def main() -> None:
    """Read, compute, print."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.table", description=__doc__)
    parser.add_argument("--oof", type=Path, default=DEFAULT_FOLDER, help="out-of-fold scores (default: %(default)s)")
    parser.add_argument("--corpus", choices=sorted(all_corpora()), default="asap-aes", help="whose essays these are")
    options = parser.parse_args()
    run(lambda: print("\n".join(lines(options.oof, options.corpus))))


def lines(folder: Path, corpus: CorpusName) -> list[str]:
    """Both tables in Markdown."""
    files = sorted(folder.glob("*.csv"), key=lambda path: _place(path.stem))
    if not files:
        raise StageFailed(f"{folder}: no out-of-fold scores; `make crossval` writes them")
    essays = read_essays(corpus)
    by_id = {essay.essay_id: essay for essay in essays}
    models = [model_cells(path.stem, read_rows(path), by_id) for path in files]
    for model in models:
        require_every_essay(model, by_id)
    shown = benchmark_table(models, rater_pairs(essays), read_params("evaluate", EvaluateConfig))
    for model in models:
        if model.model not in BASELINES:
            shown += ["", *trust_table(model)]
    return shown


def read_essays(corpus: CorpusName) -> tuple[Essay, ...]:
    """The corpus's essays, from its raw file.

    Where that is not here, it is fetched apart from `data/raw`, whose content the default pipeline depends on.
    """
    raw_folder = RAW_FOLDER if (RAW_FOLDER / corpus).is_dir() else OWN_RAW_FOLDER
    folder = fetch_corpus(all_corpora()[corpus], raw_folder, mirror_folder(), kaggle_token())
    return read_corpus(corpus, folder).essays


def _place(model: str) -> tuple[int, str]:
    """Models first, then their ensemble, then the baselines."""
    return (2 if model in BASELINES else 1 if model == ENSEMBLE else 0), model


if __name__ == "__main__":
    main()
