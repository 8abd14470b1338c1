"""ASAP-AES: a tab-separated file full of traps, read into rows, and the published folds.

The file was exported from a spreadsheet: essays with commas or quotation marks are wrapped in quotation marks, with
inner ones doubled. A quoting parser still cannot read it, since essay 10534's wrapping is never closed and would
swallow the next row. So rows are physical lines, columns are tabs, and the wrapping is undone essay by essay.
"""

import codecs
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from data.rows import CorpusRows, Essay, Fault
from essays.errors import BadCorpus
from essays.text import normalize_text, repair_encoding

TSV_FILE = "training_set_rel3.tsv"
RATERS = ("rater1_domain1", "rater2_domain1", "rater3_domain1")
SCORE = "domain1_score"
PARTS = ("train", "dev", "test")
NUM_PUBLISHED_FOLDS = 5

_COLUMNS = ("essay_id", "essay_set", "essay", *RATERS, SCORE)
# cp1252 leaves five bytes undefined, and 0x9d occurs: let those stand for themselves, as browsers do.
_CP1252 = "".join(bytes([byte]).decode("cp1252", "ignore") or chr(byte) for byte in range(256))
_CONTROL = re.compile(r"[\x80-\x9f]")
_UNPAIRED_QUOTE = re.compile(r'(?<!")"(?:"")*(?!")')


def read_asap(folder: Path) -> CorpusRows:
    """Every row of the training set in `folder`, in the file's order. Raises BadCorpus, naming the row at fault."""
    path = folder / TSV_FILE
    rows = list(_read_lines(path))
    return CorpusRows(
        essays=tuple(_essay(row, path) for row in rows),
        faults=tuple(fault for row in rows for fault in _faults(row)),
        num_raw_rows=len(rows),
    )


def read_published_folds(folder: Path) -> list[dict[str, list[str]]]:
    """Essay ids by part, for each published fold, in the files' order."""
    return [{part: _read_ids(folder, fold, part) for part in PARTS} for fold in range(NUM_PUBLISHED_FOLDS)]


def _read_lines(path: Path) -> Iterator[Mapping[str, str]]:
    try:
        raw = path.read_bytes()
    except FileNotFoundError as error:
        raise BadCorpus(f"{path}: no such file; run `python -m pipelines.fetch`") from error
    lines = codecs.charmap_decode(raw, "strict", _CP1252)[0].split("\n")
    header = lines[0].rstrip("\r").split("\t")
    missing = [column for column in _COLUMNS if column not in header]
    if missing:
        raise BadCorpus(f"{path}: line 1: no column {', '.join(missing)}")
    for number, line in enumerate(lines[1:], start=2):
        if not line:
            continue
        cells = line.rstrip("\r").split("\t")
        if len(cells) != len(header):
            raise BadCorpus(f"{path}: line {number}: {len(cells)} columns, expected {len(header)}")
        yield dict(zip(header, cells, strict=True))


def _essay(row: Mapping[str, str], path: Path) -> Essay:
    prompt_id = f"asap-{row['essay_set']}"
    try:
        return Essay(
            essay_id=_essay_id(row["essay_id"]),
            corpus="asap-aes",
            prompt_id=prompt_id,
            text=normalize_text(repair_encoding(_unwrap(row["essay"]))),
            score=float(row[SCORE]),
            rater_scores=tuple(float(row[rater]) for rater in RATERS if row[rater]),
            assignment=prompt_id,
        )
    except ValueError as error:
        raise BadCorpus(f"{path}: essay {row['essay_id']}: {error}") from error


def _unwrap(field: str) -> str:
    if _is_wrapped(field):
        return field[1:-1].replace('""', '"')
    return field.removeprefix('"')


def _is_wrapped(field: str) -> bool:
    return len(field) > 1 and field.startswith('"') and field.endswith('"')


def _faults(row: Mapping[str, str]) -> Iterator[Fault]:
    essay_id, field = _essay_id(row["essay_id"]), row["essay"]
    repaired = repair_encoding(field)
    if repaired != field:
        yield Fault(essay_id, "doubly_encoded")
    if _CONTROL.search(repaired):
        yield Fault(essay_id, "undefined_bytes")
    if field.startswith('"') and not _is_wrapped(field):
        yield Fault(essay_id, "unclosed_quote")
    if _is_wrapped(field) and _UNPAIRED_QUOTE.search(field[1:-1]):
        yield Fault(essay_id, "unpaired_quote")


def _essay_id(number: str) -> str:
    return f"asap-{number}"


def _read_ids(folder: Path, fold: int, part: str) -> list[str]:
    path = folder / "folds" / f"fold_{fold}" / f"{part}_ids.txt"
    try:
        return [_essay_id(line.strip()) for line in path.read_text(encoding="ascii").splitlines() if line.strip()]
    except FileNotFoundError as error:
        raise BadCorpus(f"{path}: no such file; run `python -m pipelines.fetch`") from error
