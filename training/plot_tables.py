"""The CSV files that `dvc plots` draws: numbers alone, no essay text and no essay ids.

Rows are sorted by their numbers, so that they cannot be matched to essays by their order either.
"""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

from training.baselines import BASELINES
from training.evaluate import PromptResult
from training.learning_curves import CURVE_COLUMNS, LearningCurve

Row = Sequence[str | int | float]


def write_plot_tables(results: Sequence[PromptResult], curves: Sequence[LearningCurve], folder: Path) -> list[Path]:
    """Every table, in `folder`; their paths. Baselines are left out: what they say of an essay is soon told."""
    results = [result for result in results if result.model not in BASELINES]
    essay = ("model", "prompt_id", "fold", "human_score")
    curve = ("model", "fold", *CURVE_COLUMNS)
    band = ("model", "prompt_id", "fold", "from_score", "to_score", "num_essays", "coverage", "mean_width")
    return [
        write_csv(folder / "predicted_vs_human.csv", (*essay, "predicted_score"), predicted_rows(results)),
        write_csv(folder / "confusion.csv", (*essay, "grade"), grade_rows(results)),
        write_csv(folder / "learning_curve.csv", curve, curve_rows(curves)),
        write_csv(folder / "interval_bands.csv", band, band_rows(results)),
    ]


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Row]) -> Path:
    """The same bytes for the same rows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
    return path


def predicted_rows(results: Iterable[PromptResult]) -> Iterable[Row]:
    """A row for each model and test essay: the human score, and the model's before rounding."""
    for result in results:
        pairs = zip(result.human_scores.tolist(), result.predicted.round(3).tolist(), strict=True)
        yield from ((*_key(result), human, predicted) for human, predicted in sorted(pairs))


def grade_rows(results: Iterable[PromptResult]) -> Iterable[Row]:
    """A row for each model and test essay: the human score and the grade."""
    for result in results:
        pairs = zip(result.human_scores.tolist(), result.grades.tolist(), strict=True)
        yield from ((*_key(result), human, grade) for human, grade in sorted(pairs))


def curve_rows(curves: Iterable[LearningCurve]) -> Iterable[Row]:
    """A row for each epoch."""
    for curve in curves:
        for row in curve.rows:
            yield curve.model, curve.fold, *(round(row[name], 6) for name in CURVE_COLUMNS)


def band_rows(results: Iterable[PromptResult]) -> Iterable[Row]:
    """A row for each band of each model's intervals."""
    for result in results:
        for band in result.bands:
            ends = round(band.from_score, 3), round(band.to_score, 3)
            yield (*_key(result), *ends, band.num_essays, round(band.coverage, 4), round(band.mean_width, 3))


def _key(result: PromptResult) -> tuple[str, str, int]:
    return result.model, result.prompt.prompt_id, result.fold
