"""Stage `traits-report`: what the traits of all models are worth, as numbers, tables and a plot under `reports/`."""

import argparse
from pathlib import Path

from essays.console import run, wrote
from essays.params import read_params
from training.evaluation_config import EvaluateConfig
from training.plots import save_figure
from training.report import write_page
from training.summary import write_metrics
from training.trait_files import read_model_traits, traits_folder
from training.traits_report import traits_figure, traits_page, traits_tree

METRICS_FILE = Path("reports/traits.json")
PAGE_FILE = Path("reports/traits.md")
PLOT_FILE = Path("reports/traits.svg")


def main() -> None:
    """Read what `pipelines.traits` left of every model; measure nothing anew."""
    argparse.ArgumentParser(prog="python -m pipelines.traits_report", description=__doc__).parse_args()
    fold, models = read_params("folds", tuple[int, ...])[0], read_params("models", tuple[str, ...])
    coverage = read_params("evaluate", EvaluateConfig).interval_coverage
    found = {model: read_model_traits(traits_folder(model)) for model in models}
    measured = {model: each.measured for model, each in found.items() if each.measured}
    write_metrics(traits_tree(measured, fold), METRICS_FILE)
    wrote(METRICS_FILE)
    wrote(save_figure(traits_figure(measured), PLOT_FILE))
    write_page(traits_page(measured, fold, coverage, PLOT_FILE.name), PAGE_FILE)
    wrote(PAGE_FILE)


if __name__ == "__main__":
    run(main)
