"""Stage `evaluate`: every model, the ensemble and two baselines against people, on the test essays of every fold."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from data.folds import SplitConfig
from data.refit import is_refit
from data.tables import AUDIT_FILE, AUDIT_SCHEMA, FOLDS_FILE, FOLDS_SCHEMA, read_essay_rows, read_table
from essays import console
from essays.calibration import read_calibration
from essays.ensemble import ENSEMBLE
from essays.params import read_params
from training.baselines import BASELINES, baseline_scores, fourth_root_lengths
from training.calibrate import fit_calibration
from training.evaluate import Evaluator, PromptResult, rater_pairs, require_whole_parts
from training.evaluation_config import CalibrateConfig, EvaluateConfig
from training.fold_scores import SCORES_FILE, calibration_file, fold_parts, read_fold_scores, scores_folder
from training.history import HISTORY_FILE
from training.learning_curves import LearningCurve, read_curve
from training.out_of_fold import OUT_OF_FOLD_FOLDER, OutOfFold, out_of_fold, write_rows
from training.pipeline_state import read_state
from training.plot_tables import write_plot_tables
from training.plots import draw_plots
from training.report import evaluation_page, write_page
from training.subgroups import attributes_of
from training.summary import METRICS_FILE, CorpusSummary, metrics_tree, summarise, write_metrics
from training.tracked_results import track_results
from training.tracking import best_effort, open_tracker
from training.tracking_config import TrackingConfig
from training.validity import validity
from training.validity_page import VALIDITY_PAGE, validity_page
from training.validity_tree import VALIDITY_FILE, validity_tree

REPORTS_FOLDER = Path("reports")
PLOTS_FOLDER = REPORTS_FOLDER / "plots"
PAGE_FILE = REPORTS_FOLDER / "evaluation.md"
UNMEASURED_PAGE = """\
# Evaluation

Nothing was measured: the models of this run are for serving. They learned from every essay but those that calibrate
them, and dev essays are no result. The models' cards say what was measured of their kind, and on which run.
"""


def main() -> None:
    """Evaluate as section `evaluate` of params.yaml says, write the reports, record them in MLflow."""
    argparse.ArgumentParser(
        prog="python -m pipelines.evaluate",
        description=f"Measure every model on the test essays of every fold; write {METRICS_FILE} and {PAGE_FILE}, and"
        f" in {VALIDITY_PAGE} whether each may be trusted.",
    ).parse_args()
    config, calibrate = read_params("evaluate", EvaluateConfig), read_params("calibrate", CalibrateConfig)
    seed = read_params("seed", int)
    models, split = read_params("models", tuple[str, ...]), read_params("split", SplitConfig)
    folds = tuple(fold for fold in read_params("folds", tuple[int, ...]) if not is_refit(fold, split))
    if not folds:
        leave_nothing_measured(config.interval_coverage)
        return
    results, tables = evaluate(config, calibrate, seed, [*models, ENSEMBLE], folds)
    trained = [read_curve(model, fold, scores_folder(model, fold) / HISTORY_FILE) for model in models for fold in folds]
    curves = [*trained, *(LearningCurve(ENSEMBLE, fold, ()) for fold in folds)]
    for model, rows in tables.items():
        write_rows(rows, OUT_OF_FOLD_FOLDER / f"{model}.csv")
    summaries = summarise(results)
    write_metrics(metrics_tree(summaries, config.interval_coverage), METRICS_FILE)
    plots = draw_plots(results, summaries, trained, config.interval_coverage, PLOTS_FOLDER)
    write_plot_tables(results, trained, PLOTS_FOLDER)
    captioned = [(caption, path.relative_to(REPORTS_FOLDER).as_posix()) for caption, path in plots]
    write_page(evaluation_page(summaries, config.interval_coverage, captioned), PAGE_FILE)
    console.wrote(METRICS_FILE)
    console.wrote(PAGE_FILE)
    write_validity(summaries, folds, config.interval_coverage)
    with best_effort():
        tracker = open_tracker(read_params("tracking", TrackingConfig), read_state())
        track_results(tracker, results, summaries, curves, config.interval_coverage, REPORTS_FOLDER)


def leave_nothing_measured(coverage: float) -> None:
    """The stage's outputs where every model is for serving and none has a test part (docs/decisions/0011)."""
    for folder in (OUT_OF_FOLD_FOLDER, PLOTS_FOLDER):
        folder.mkdir(parents=True, exist_ok=True)
    write_metrics({}, METRICS_FILE)
    write_page(UNMEASURED_PAGE, PAGE_FILE)
    console.say("nothing to measure: the models of this run are for serving, and have no test essays")
    write_validity([], (), coverage)


def write_validity(summaries: Sequence[CorpusSummary], folds: Sequence[int], coverage: float) -> None:
    """The validity report, as a page and as JSON; `coverage` is that of its intervals."""
    found = validity(summaries, attributes_of(read_table(AUDIT_FILE, AUDIT_SCHEMA)), coverage)
    write_metrics(validity_tree(found, folds, coverage), VALIDITY_FILE)
    write_page(validity_page(found, folds, coverage), VALIDITY_PAGE)
    console.wrote(VALIDITY_FILE)
    console.wrote(VALIDITY_PAGE)


def evaluate(
    config: EvaluateConfig, calibrate: CalibrateConfig, seed: int, models: Sequence[str], folds: Sequence[int]
) -> tuple[list[PromptResult], dict[str, list[OutOfFold]]]:
    """Results of the models, in their order, then of the baselines, and each one's test scores; each line says one."""
    essays, folds_table = read_essay_rows(), read_table(FOLDS_FILE, FOLDS_SCHEMA)
    evaluator = Evaluator(config, seed, rater_pairs(essays))
    lengths = fourth_root_lengths(essays)
    results: dict[str, list[PromptResult]] = {name: [] for name in (*models, *BASELINES)}
    tables: dict[str, list[OutOfFold]] = {name: [] for name in results}
    for fold in folds:
        parts = fold_parts(folds_table, fold)
        measured = {}
        for model in models:
            scores = read_fold_scores(scores_folder(model, fold) / SCORES_FILE)
            require_whole_parts(f"{model}, fold {fold}", scores, parts)
            measured[model] = scores, read_calibration(calibration_file(model, fold))
        for name, scores in baseline_scores(essays, lengths, parts).items():
            measured[name] = scores, fit_calibration(scores, calibrate)
        for name, (scores, calibration) in measured.items():
            results[name] += evaluator.fold_results(name, fold, scores, calibration)
            tables[name] += out_of_fold(fold, seed, scores, calibration)
    for result in (result for of_model in results.values() for result in of_model):
        low, high = result.qwk_interval
        console.say(
            f"{result.model}  fold {result.fold}  {result.prompt.prompt_id}  qwk {result.qwk:z.3f}"
            f" [{low:z.3f}, {high:z.3f}]  {result.num_essays} essays"
        )
    return [result for of_model in results.values() for result in of_model], tables


if __name__ == "__main__":
    console.run(main)
