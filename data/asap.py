"""ASAP-AES: a tab-separated file full of traps, read into rows, and the published folds.

The file was exported from a spreadsheet: essays with commas or quotation marks are wrapped in quotation marks, with
inner ones doubled. A quoting parser still cannot read it, since essay 10534's wrapping is never closed and would
swallow the next row. So rows are physical lines, columns are tabs, and the wrapping is undone essay by essay.
"""

import codecs
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from data.checks import convert_rows, named_cells
from data.folds import PARTS
from data.rows import CorpusRows, Essay, Fault
from essays.errors import BadCorpus
from essays.scores import ScoreRange
from essays.text import normalize_text, repair_encoding

TSV_FILE = "training_set_rel3.tsv"
RATERS = ("rater1_domain1", "rater2_domain1")
THIRD_RATER = "rater3_domain1"
"""Asked for 128 essays of set 8 that the first two disagreed on. The file has it doubled, as the resolved score is."""
SCORE = "domain1_score"
NUM_PUBLISHED_FOLDS = 5

RATER_RANGES: Mapping[str, ScoreRange] = {
    "1": ScoreRange(low=1.0, high=6.0),
    "2": ScoreRange(low=1.0, high=6.0),
    "3": ScoreRange(low=0.0, high=3.0),
    "4": ScoreRange(low=0.0, high=3.0),
    "5": ScoreRange(low=0.0, high=4.0),
    "6": ScoreRange(low=0.0, high=4.0),
    "7": ScoreRange(low=0.0, high=15.0),
    "8": ScoreRange(low=0.0, high=30.0),
}
"""What one rater may give, by essay set: half the resolved scale where the resolved score is a sum."""

_COLUMNS = ("essay_id", "essay_set", "essay", *RATERS, THIRD_RATER, SCORE)
# cp1252 leaves five bytes undefined, and 0x9d occurs: let those stand for themselves, as browsers do.
_CP1252 = "".join(bytes([byte]).decode("cp1252", "ignore") or chr(byte) for byte in range(256))
_CONTROL = re.compile(r"[\x80-\x9f]")
_UNPAIRED_QUOTE = re.compile(r'(?<!")"(?:"")*(?!")')


def read_asap(folder: Path) -> CorpusRows:
    """Every row of the training set in `folder`, in the file's order. Raises BadCorpus, naming every row at fault."""
    path = folder / TSV_FILE
    rows = _read_rows(path)
    essays = convert_rows(str(path), ((f"essay {row['essay_id']}", row) for row in rows), _essay)
    return CorpusRows(
        essays=tuple(essays), faults=tuple(fault for row in rows for fault in _faults(row)), num_raw_rows=len(rows)
    )


def read_published_folds(folder: Path) -> list[dict[str, list[str]]]:
    """Essay ids by part, for each published fold, in the files' order."""
    return [{part: _read_ids(folder, fold, part) for part in PARTS} for fold in range(NUM_PUBLISHED_FOLDS)]


def _read_rows(path: Path) -> list[Mapping[str, str]]:
    # Not splitlines: it also breaks at the control characters that stand in some essays.
    lines = codecs.charmap_decode(_read_bytes(path), "strict", _CP1252)[0].split("\n")
    header = lines[0].rstrip("\r").split("\t")
    missing = [column for column in _COLUMNS if column not in header]
    if missing:
        raise BadCorpus(f"{path}: line 1: no column {', '.join(missing)}")
    numbered = ((f"line {number}", line) for number, line in enumerate(lines[1:], start=2) if line)
    return convert_rows(str(path), numbered, lambda line: named_cells(header, line.rstrip("\r").split("\t")))


def _essay(row: Mapping[str, str]) -> Essay:
    prompt_id = f"asap-{row['essay_set']}"
    return Essay(
        essay_id=_essay_id(row["essay_id"]),
        corpus="asap-aes",
        prompt_id=prompt_id,
        text=normalize_text(repair_encoding(_unwrap(row["essay"]))),
        score=float(row[SCORE]),
        rater_scores=_rater_scores(row),
        assignment=prompt_id,
    )


def _rater_scores(row: Mapping[str, str]) -> tuple[float, ...]:
    """Scores of the two or three raters, all on one rater's scale."""
    if row["essay_set"] not in RATER_RANGES:
        raise ValueError(f"no essay set {row['essay_set']!r}; known: {', '.join(RATER_RANGES)}")
    third = [float(row[THIRD_RATER]) / 2] if row[THIRD_RATER] else []
    scores = [*(float(row[rater]) for rater in RATERS), *third]
    RATER_RANGES[row["essay_set"]].classes(scores)
    return tuple(scores)


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
    lines = _read_bytes(folder / "folds" / f"fold_{fold}" / f"{part}_ids.txt").decode("ascii").split()
    return [_essay_id(number) for number in lines]


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise BadCorpus(f"{path}: no such file; run `python -m pipelines.fetch`") from error
