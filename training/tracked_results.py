"""What evaluation records of each training and of the whole pipeline, by name, and the plots beside it."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from training.baselines import LENGTH_ONLY
from training.evaluate import PromptResult
from training.learning_curves import LearningCurve
from training.plots import confusion_figure, learning_figure, predicted_figure, save_figure
from training.summary import MEASURES, CorpusSummary
from training.tracking import Tracker

PLOTS_FOLDER, REPORTS_FOLDER = "plots", "reports"


def track_results(
    tracker: Tracker,
    results: Sequence[PromptResult],
    summaries: Sequence[CorpusSummary],
    curves: Sequence[LearningCurve],
    coverage: float,
    reports: Path,
) -> None:
    """A run for each model and fold with its numbers and plots, and means and reports in the parent run."""
    lengths = {(each.prompt.prompt_id, each.fold): each for each in results if each.model == LENGTH_ONLY}
    for curve in curves:
        own = [each for each in results if (each.model, each.fold) == (curve.model, curve.fold)]
        with tracker.model_run(curve) as run, tempfile.TemporaryDirectory() as folder:
            for result in own:
                run.log_metrics(prompt_metrics(result))
                length = lengths.get((result.prompt.prompt_id, result.fold))
                run.log_metrics({f"length_only_qwk/{result.prompt.prompt_id}": length.qwk} if length else {})
            _draw(own, curve, Path(folder))
            run.log_artifacts(Path(folder), PLOTS_FOLDER)
    with tracker.pipeline_run() as parent:
        parent.log_metrics(pipeline_metrics(summaries, coverage))
        parent.log_artifacts(reports, REPORTS_FOLDER)


def prompt_metrics(result: PromptResult) -> dict[str, float]:
    """`qwk/PROMPT`, its interval's ends, and every measure beside it."""
    low, high = result.qwk_interval
    numbers = {name: float(getattr(result, field)) for name, field in MEASURES.items()}
    numbers |= {"qwk_low": low, "qwk_high": high, "num_essays": float(result.num_essays)}
    return {f"{name}/{result.prompt.prompt_id}": value for name, value in numbers.items()}


def pipeline_metrics(summaries: Sequence[CorpusSummary], coverage: float) -> dict[str, float]:
    """`mean_qwk/CORPUS/MODEL`, its interval's ends, and the two raters' mean."""
    numbers: dict[str, float] = {}
    for summary in summaries:
        low, high = summary.qwk_interval(coverage)
        place = f"{summary.corpus}/{summary.model}"
        numbers |= {f"mean_qwk/{place}": summary.mean("qwk"), f"mean_qwk_low/{place}": low}
        numbers |= {f"mean_qwk_high/{place}": high, f"mean_human_qwk/{summary.corpus}": summary.mean("human_qwk")}
    return numbers


def _draw(results: Sequence[PromptResult], curve: LearningCurve, folder: Path) -> None:
    save_figure(confusion_figure(results), folder / "confusion.png")
    save_figure(predicted_figure(results), folder / "predicted_vs_human.png")
    if curve.rows:
        save_figure(learning_figure([curve]), folder / "learning_curve.png")
