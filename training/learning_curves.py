"""Learning curves as `history.json` keeps them, for tables, plots and tracking."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from essays.errors import StageFailed

CURVE_COLUMNS = ("epoch", "loss", "dev_qwk", "learning_rate")


@dataclass(frozen=True)
class LearningCurve:
    """One training."""

    model: str
    fold: int
    rows: tuple[Mapping[str, float], ...]
    """By epoch; at least `CURVE_COLUMNS`."""

    def column(self, name: str) -> list[float]:
        """One number of every epoch."""
        return [row[name] for row in self.rows]


def read_curve(model: str, fold: int, path: Path) -> LearningCurve:
    """The curve in this file. Raises StageFailed when it is missing or lacks a column; further columns are kept."""
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise StageFailed(f"{path}: no such file; train {model}, fold {fold}") from error
    for row in rows:
        if missing := [name for name in CURVE_COLUMNS if name not in row]:
            raise StageFailed(f"{path}: an epoch without {', '.join(missing)}; train {model}, fold {fold} again")
    return LearningCurve(model, fold, tuple(rows))
