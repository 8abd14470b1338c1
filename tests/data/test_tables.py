import hashlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.folds import FoldRow
from data.rows import Essay, Writer
from data.tables import (
    AUDIT_SCHEMA,
    ESSAYS_SCHEMA,
    FOLDS_SCHEMA,
    audit_table,
    essays_table,
    folds_table,
    read_dataset,
    read_essay_rows,
    read_table,
    write_table,
)
from essays.errors import BadCorpus

ESSAYS = [
    Essay(
        "ellipse-1", "ellipse", "ellipse-overall", "Ours – “too”.", 3.5, "Clubs", (), {"grammar": 2.5, "syntax": 3.0}
    ),
    Essay("asap-1", "asap-aes", "asap-1", "Ours.", 9.0, "asap-1", (4.0, 5.0), {}),
]


def test_essays_come_back_as_they_were_written(tmp_path: Path):
    write_table(essays_table(ESSAYS), tmp_path / "deep/essays.parquet")
    assert read_essay_rows(tmp_path / "deep/essays.parquet") == ESSAYS
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["essays.parquet"]


def test_the_same_rows_give_the_same_bytes(tmp_path: Path):
    digests = set()
    for name in ("first", "second"):
        write_table(essays_table(ESSAYS * 500), tmp_path / name)
        digests.add(hashlib.sha256((tmp_path / name).read_bytes()).hexdigest())
    assert len(digests) == 1


def test_writers_without_an_attribute_are_kept(tmp_path: Path):
    write_table(audit_table([Writer("ellipse-1", "Female", "8", "White", None)]), tmp_path / "audit.parquet")
    (row,) = read_table(tmp_path / "audit.parquet", AUDIT_SCHEMA).to_pylist()
    assert row["socioeconomic_status"] is None


def test_a_table_without_rows_keeps_its_columns(tmp_path: Path):
    write_table(audit_table([]), tmp_path / "audit.parquet")
    assert read_table(tmp_path / "audit.parquet", AUDIT_SCHEMA).num_rows == 0


def test_a_dataset_is_memory_mapped_and_follows_the_file(tmp_path: Path):
    path, cache = tmp_path / "essays.parquet", tmp_path / "cache"
    write_table(essays_table(ESSAYS), path)
    dataset = read_dataset(path, ESSAYS_SCHEMA, cache)
    assert dataset["essay_id"][:] == ["ellipse-1", "asap-1"]
    assert dataset[1]["rater_scores"] == [4.0, 5.0]
    assert dataset[0]["traits"] == [{"trait": "grammar", "score": 2.5}, {"trait": "syntax", "score": 3.0}]
    assert all(Path(file["filename"]).is_relative_to(cache) for file in dataset.cache_files)
    write_table(essays_table(ESSAYS[::-1]), path)
    assert read_dataset(path, ESSAYS_SCHEMA, cache)["essay_id"][:] == ["asap-1", "ellipse-1"]


def test_a_missing_table_names_the_way_to_it(tmp_path: Path):
    with pytest.raises(BadCorpus, match=r"folds\.parquet: no such file; run `dvc repro`"):
        read_table(tmp_path / "folds.parquet", FOLDS_SCHEMA)


def test_a_table_of_other_columns_is_refused(tmp_path: Path):
    write_table(folds_table([FoldRow("a", 0, "test")]), tmp_path / "folds.parquet")
    with pytest.raises(BadCorpus, match=r"expected columns essay_id: string, corpus: .*found essay_id, fold, part"):
        read_dataset(tmp_path / "folds.parquet", ESSAYS_SCHEMA, tmp_path / "cache")


def test_a_column_of_another_type_is_refused(tmp_path: Path):
    pq.write_table(pa.table({"essay_id": ["a"], "fold": [0.5], "part": ["test"]}), tmp_path / "folds.parquet")
    with pytest.raises(BadCorpus, match="expected columns"):
        read_table(tmp_path / "folds.parquet", FOLDS_SCHEMA)


def test_a_file_that_is_no_table_is_refused(tmp_path: Path):
    (tmp_path / "folds.parquet").write_bytes(b"not at all")
    with pytest.raises(BadCorpus, match="not a Parquet file"):
        read_table(tmp_path / "folds.parquet", FOLDS_SCHEMA)
