"""`reports/robustness.json`: what each model, and the gate, was seen to do, line by line."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from essays.errors import StageFailed

ROBUSTNESS_FILE = Path("reports/robustness.json")


@dataclass(frozen=True)
class Behaviour:
    """A line of the report."""

    model: str
    perturbation: str
    """What was done, and what was asked."""
    bar: str
    measured: float
    held: bool


def write_behaviours(behaviours: Sequence[Behaviour], path: Path = ROBUSTNESS_FILE) -> None:
    """The same bytes for the same lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [asdict(behaviour) for behaviour in behaviours]
    path.write_text(json.dumps(rows, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def read_behaviours(model: str, path: Path = ROBUSTNESS_FILE) -> dict[str, bool]:
    """Whether this model held each line, by its name; nothing where it was not measured.

    Raises StageFailed when there is no such report.
    """
    try:
        rows = [Behaviour(**row) for row in json.loads(path.read_text(encoding="utf-8"))]
    except FileNotFoundError as error:
        raise StageFailed(f"{path}: no such file; run `dvc repro`, or the stage robustness") from error
    except (ValueError, TypeError) as error:
        raise StageFailed(f"{path}: not a robustness report; run the stage robustness again") from error
    return {row.perturbation: row.held for row in rows if row.model == model}
