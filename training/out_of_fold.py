"""Out-of-fold scores: what each fold's model says of its test essays, as a small table without a word of text.

`essay_id,fold,seed,unit_score,grade`, a row for each essay and seed: enough to compute a report's numbers again.
"""

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from essays.calibration import Calibration
from essays.errors import StageFailed
from essays.prompts import get_prompt
from training.fold_scores import FoldScores

OUT_OF_FOLD_FOLDER = Path("out/oof")
HEADER = ("essay_id", "fold", "seed", "unit_score", "grade")
_PLACES = 6


@dataclass(frozen=True, order=True)
class OutOfFold:
    """One test essay's score."""

    seed: int
    fold: int
    essay_id: str
    unit_score: float
    """Calibrated, not rounded to a grade."""
    grade: float
    """On the prompt's scale."""


def out_of_fold(fold: int, seed: int, scores: FoldScores, calibration: Calibration) -> list[OutOfFold]:
    """The rows of one fold's test essays."""
    rows = []
    for prompt_id in scores.prompts():
        test = scores.select("test", prompt_id)
        graded = calibration.grades(get_prompt(prompt_id), test.raw_unit_scores)
        rows += [
            OutOfFold(seed, fold, essay_id, round(unit_score, _PLACES), grade)
            for essay_id, unit_score, grade in zip(
                test.essay_ids.tolist(), graded.unit_scores.tolist(), graded.scores.tolist(), strict=True
            )
        ]
    return rows


def write_rows(rows: Iterable[OutOfFold], path: Path) -> None:
    """All rows by seed, fold and essay: the same bytes for the same rows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(HEADER)
        for row in sorted(rows):
            table.writerow([row.essay_id, row.fold, row.seed, f"{row.unit_score:.{_PLACES}f}", f"{row.grade:g}"])


def read_rows(path: Path) -> list[OutOfFold]:
    """The rows of a file. Raises StageFailed when it is missing or no such table."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            lines = list(csv.reader(file))
    except FileNotFoundError as error:
        raise StageFailed(f"{path}: no such file; `make crossval` writes it") from error
    if not lines or tuple(lines[0]) != HEADER:
        raise StageFailed(f"{path}: the first line is not {','.join(HEADER)}")
    try:
        return [
            OutOfFold(int(seed), int(fold), essay_id, float(unit_score), float(grade))
            for essay_id, fold, seed, unit_score, grade in lines[1:]
        ]
    except ValueError as error:
        raise StageFailed(f"{path}: a row is not {','.join(HEADER)}: {error}") from error


def merge_rows(source: Path, target: Path) -> None:
    """Bring the seeds of `source` into `target`, in place of what it has of them."""
    fresh = read_rows(source)
    seeds = {row.seed for row in fresh}
    kept = [row for row in read_rows(target) if row.seed not in seeds] if target.exists() else []
    write_rows([*kept, *fresh], target)
