"""Marked essays of one's own: a CSV with a row for each essay on one prompt, read into rows.

Columns `essay` and `score`; also `essay_id` (else rows are numbered), and `rater_1` and `rater_2`, where two people
marked every essay and `score` is what they settled on. Commas, semicolons or tabs, in UTF-8.
"""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from data.checks import convert_rows, named_cells
from data.rows import CorpusRows, Essay, Fault
from essays.errors import BadCorpus
from essays.text import normalize_text, repair_encoding

ESSAY, SCORE, ESSAY_ID = "essay", "score", "essay_id"
RATERS = ("rater_1", "rater_2")
_ROW = "row"


def read_own(path: Path, name: str) -> CorpusRows:
    """Every row of the CSV, in its order; `name` is that of corpus and prompt alike.

    Raises BadCorpus, naming every row that is no essay. Scores are not compared with the prompt's range here.
    """
    rows = _read_csv(path)
    essays = convert_rows(str(path), ((f"row {row[_ROW]}", row) for row in rows), lambda row: _essay(row, name))
    faults = [fault for row, essay in zip(rows, essays, strict=True) for fault in _faults(row, essay)]
    return CorpusRows(essays=tuple(essays), faults=tuple(faults), num_raw_rows=len(rows))


def _read_csv(path: Path) -> list[Mapping[str, str]]:
    content = _text_of(path)
    # Essays hold line ends inside quotes: newline="" leaves them to the csv module.
    lines = csv.reader(io.StringIO(content, newline=""), delimiter=_delimiter(content), strict=True)
    try:
        # Rows keep their numbers, so that a fault is found where it is named, also below an empty row.
        (_, header), *rows = [(number, cells) for number, cells in enumerate(lines) if any(cells)]
    except ValueError:
        raise BadCorpus(f"{path}: it is empty; expected a first line that names the columns") from None
    except csv.Error as error:
        raise BadCorpus(f"{path}: line {lines.line_num}: {error}; is a quote not closed before it?") from error
    names = [column.strip().lower() for column in header]
    _require_columns(names, path)
    numbered = ((f"row {number}", (number, cells)) for number, cells in rows)
    return convert_rows(str(path), numbered, lambda row: {**named_cells(names, row[1]), _ROW: str(row[0])})


def _text_of(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError as error:
        raise BadCorpus(f"{path}: no such file; run `python -m pipelines.fetch`") from error
    except UnicodeDecodeError as error:
        # Not chained: the decoder's error holds the whole file.
        raise BadCorpus(f"{path}: byte {error.start} is no UTF-8; save the table as 'CSV UTF-8'") from None


def _delimiter(content: str) -> str:
    # Spreadsheets of half of Europe write semicolons.
    return max(",;\t", key=content.partition("\n")[0].count)


def _require_columns(names: Sequence[str], path: Path) -> None:
    missing = [column for column in (ESSAY, SCORE) if column not in names]
    if missing or len(set(names)) < len(names):
        known = ", ".join([ESSAY, SCORE, ESSAY_ID, *RATERS])
        wrong = f"no column {' and no column '.join(missing)}" if missing else "two columns of one name"
        raise BadCorpus(f"{path}: {wrong}; found {', '.join(names)}; known are {known}")
    if len(set(RATERS) & set(names)) == 1:
        raise BadCorpus(f"{path}: one rater's column alone says nothing of agreement; expected {' and '.join(RATERS)}")


def _essay(row: Mapping[str, str], name: str) -> Essay:
    return Essay(
        essay_id=f"{name}-{row.get(ESSAY_ID) or row[_ROW]}",
        corpus=name,
        prompt_id=name,
        text=normalize_text(repair_encoding(row[ESSAY])),
        score=_number(row, SCORE),
        assignment=name,
        rater_scores=tuple(_number(row, rater) for rater in RATERS if rater in row),
    )


def _number(row: Mapping[str, str], column: str) -> float:
    try:
        return float(row[column].replace(",", "."))
    except ValueError:
        # What stands there instead may be an essay whose columns have shifted.
        raise ValueError(f"{column} is no number") from None


def _faults(row: Mapping[str, str], essay: Essay) -> Iterator[Fault]:
    if repair_encoding(row[ESSAY]) != row[ESSAY]:
        yield Fault(essay.essay_id, "doubly_encoded")
