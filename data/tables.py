"""The tables between stages: their columns, and how they are written and read.

Parquet, the same bytes for the same rows, replaced in one step. `traits` is a list of pairs and no map, since Hugging
Face `datasets` reads no maps.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from data.folds import FoldRow
from data.rows import Essay, Writer
from essays.errors import BadCorpus

if TYPE_CHECKING:
    from datasets import Dataset

PROCESSED_FOLDER = Path("data/processed")
ESSAYS_FILE = PROCESSED_FOLDER / "essays.parquet"
AUDIT_FILE = PROCESSED_FOLDER / "audit.parquet"
FAULTS_FILE = PROCESSED_FOLDER / "faults.json"
FOLDS_FILE = PROCESSED_FOLDER / "folds.parquet"
CACHE_FOLDER = Path("out/cache/datasets")


def _required(name: str, kind: pa.DataType) -> pa.Field:
    return pa.field(name, kind, nullable=False)


ESSAYS_SCHEMA = pa.schema(
    [
        _required("essay_id", pa.string()),
        _required("corpus", pa.string()),
        _required("prompt_id", pa.string()),
        _required("text", pa.string()),
        _required("score", pa.float64()),
        _required("rater_scores", pa.list_(pa.float64())),
        _required("traits", pa.list_(pa.struct([("trait", pa.string()), ("score", pa.float64())]))),
        _required("assignment", pa.string()),
    ]
)
AUDIT_SCHEMA = pa.schema(
    [
        _required("essay_id", pa.string()),
        pa.field("gender", pa.string()),
        pa.field("school_grade", pa.string()),
        pa.field("race_ethnicity", pa.string()),
        pa.field("socioeconomic_status", pa.string()),
    ]
)
FOLDS_SCHEMA = pa.schema(
    [_required("essay_id", pa.string()), _required("fold", pa.int32()), _required("part", pa.string())]
)


def essays_table(essays: Iterable[Essay]) -> pa.Table:
    """Essays as rows of `ESSAYS_SCHEMA`, in the order given."""
    return pa.Table.from_pylist([_essay_row(essay) for essay in essays], schema=ESSAYS_SCHEMA)


def audit_table(writers: Iterable[Writer]) -> pa.Table:
    """Writers as rows of `AUDIT_SCHEMA`, in the order given."""
    return pa.Table.from_pylist([asdict(writer) for writer in writers], schema=AUDIT_SCHEMA)


def folds_table(rows: Iterable[FoldRow]) -> pa.Table:
    """Rows of `FOLDS_SCHEMA`, in the order given."""
    return pa.Table.from_pylist([asdict(row) for row in rows], schema=FOLDS_SCHEMA)


def write_table(table: pa.Table, path: Path) -> None:
    """The same bytes for the same table; a reader sees the old file or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".part")
    pq.write_table(table, unfinished, compression="zstd")
    unfinished.replace(path)


def read_table(path: Path, schema: pa.Schema) -> pa.Table:
    """A table as `write_table` left it. Raises BadCorpus when it is missing or has other columns."""
    _require_schema(path, schema)
    return pq.read_table(path)


def read_dataset(path: Path, schema: pa.Schema, cache_folder: Path = CACHE_FOLDER) -> "Dataset":
    """A table memory-mapped by Hugging Face `datasets`, so that `map` caches what it makes of it.

    The copy that it maps lies in `cache_folder`, and is made anew when the table was. Raises BadCorpus as `read_table`.
    """
    from datasets import Dataset, disable_progress_bars  # takes a second, and few stages need it

    _require_schema(path, schema)
    disable_progress_bars()
    return Dataset.from_parquet(str(path), cache_dir=str(cache_folder))


def read_essay_rows(path: Path = ESSAYS_FILE) -> list[Essay]:
    """essays.parquet as the rows that it was written from."""
    return [_essay_of(row) for row in read_table(path, ESSAYS_SCHEMA).to_pylist()]


def _require_schema(path: Path, schema: pa.Schema) -> None:
    try:
        found = pq.read_schema(path)
    except FileNotFoundError as error:
        raise BadCorpus(f"{path}: no such file; run `dvc repro`, or the stage that writes it") from error
    except pa.ArrowInvalid as error:
        raise BadCorpus(f"{path}: not a Parquet file: {error}") from error
    if not found.equals(schema):
        expected = ", ".join(f"{field.name}: {field.type}" for field in schema)
        raise BadCorpus(f"{path}: expected columns {expected}; found {', '.join(found.names)}; run `dvc repro`")


def _essay_of(row: Mapping[str, Any]) -> Essay:
    traits = {pair["trait"]: pair["score"] for pair in row["traits"]}
    return Essay(**{**row, "traits": traits, "rater_scores": tuple(row["rater_scores"])})


def _essay_row(essay: Essay) -> Mapping[str, Any]:
    traits = [{"trait": trait, "score": score} for trait, score in essay.traits.items()]
    return {**asdict(essay), "traits": traits}
