"""One model's scores on one fold (`scores.parquet` of the stages' contract) as arrays, and where they are kept."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from data.tables import write_table
from essays.errors import StageFailed

MODELS_FOLDER = Path("out/models")
SCORES_FOLDER = Path("out/scores")
CALIBRATION_FOLDER = Path("out/calibration")
SCORES_FILE = "scores.parquet"

SCORES_SCHEMA = pa.schema(
    [
        pa.field("essay_id", pa.string(), nullable=False),
        pa.field("prompt_id", pa.string(), nullable=False),
        pa.field("part", pa.string(), nullable=False),
        pa.field("human_score", pa.float64(), nullable=False),
        pa.field("raw_unit_score", pa.float64(), nullable=False),
    ]
)


@dataclass(frozen=True)
class FoldScores:
    """Essays of a fold's dev and test parts, each array (N,)."""

    essay_ids: NDArray[np.str_]
    prompt_ids: NDArray[np.str_]
    parts: NDArray[np.str_]
    """`dev` or `test`."""
    human_scores: NDArray[np.float64]
    """On the prompt's scale."""
    raw_unit_scores: NDArray[np.float64]
    """The model's output, before calibration."""

    def __len__(self) -> int:
        return len(self.essay_ids)

    def prompts(self) -> list[str]:
        """The prompts there are, in alphabetical order."""
        return sorted(set(self.prompt_ids.tolist()))

    def select(self, part: str, prompt_id: str) -> "FoldScores":
        """The essays of one part and prompt, in the order they have here."""
        return self.rows((self.parts == part) & (self.prompt_ids == prompt_id))

    def rows(self, chosen: NDArray) -> "FoldScores":
        """The essays under a mask, or of these positions, in this order."""
        return FoldScores(
            self.essay_ids[chosen],
            self.prompt_ids[chosen],
            self.parts[chosen],
            self.human_scores[chosen],
            self.raw_unit_scores[chosen],
        )


def model_folder(model: str, fold: int) -> Path:
    """Where a model's fold keeps what computes: weights, spec, tokenizer."""
    return MODELS_FOLDER / model / f"fold-{fold}"


def scores_folder(model: str, fold: int) -> Path:
    """Where a model's fold keeps what is measured from: scores and history. Small, and without text."""
    return SCORES_FOLDER / model / f"fold-{fold}"


def calibration_file(model: str, fold: int) -> Path:
    """Where a model's fold keeps its calibration."""
    return CALIBRATION_FOLDER / model / f"fold-{fold}.json"


def fold_parts(folds: pa.Table, fold: int) -> dict[str, str]:
    """Each essay's part in this fold, from folds.parquet. Raises StageFailed when there is no such fold."""
    chosen = folds.filter(pc.field("fold") == fold)
    if not chosen.num_rows:
        known = sorted(set(folds["fold"].to_pylist()))
        raise StageFailed(f"folds.parquet has no fold {fold}; known: {', '.join(map(str, known))}")
    return dict(zip(chosen["essay_id"].to_pylist(), chosen["part"].to_pylist(), strict=True))


def read_fold_scores(path: Path) -> FoldScores:
    """The scores in this file. Raises StageFailed when it is missing, has other columns, or a model gave no number."""
    try:
        table = pq.read_table(path)
    except FileNotFoundError as error:
        raise StageFailed(f"{path}: no such file; run `dvc repro`, or the stage that writes it") from error
    if missing := [name for name in SCORES_SCHEMA.names if name not in table.column_names]:
        raise StageFailed(f"{path}: no column {', '.join(missing)}; found {', '.join(table.column_names)}")
    essay_ids, prompt_ids, parts = (
        np.array(table[name].to_pylist(), dtype=np.str_) for name in SCORES_SCHEMA.names[:3]
    )
    human_scores, raw_unit_scores = (table[name].to_numpy().astype(np.float64) for name in SCORES_SCHEMA.names[3:])
    if strange := sorted(set(parts.tolist()) - {"dev", "test"}):
        raise StageFailed(f"{path}: parts are dev and test, found {', '.join(strange)}")
    if wrong := int((~np.isfinite(raw_unit_scores)).sum()):
        raise StageFailed(f"{path}: {wrong} of {len(raw_unit_scores)} scores are no number; train the model again")
    return FoldScores(essay_ids, prompt_ids, parts, human_scores, raw_unit_scores)


def write_fold_scores(scores: FoldScores, path: Path) -> None:
    """The same bytes for the same scores."""
    columns: Sequence[NDArray] = (
        scores.essay_ids,
        scores.prompt_ids,
        scores.parts,
        scores.human_scores,
        scores.raw_unit_scores,
    )
    write_table(pa.Table.from_arrays([pa.array(column.tolist()) for column in columns], schema=SCORES_SCHEMA), path)
