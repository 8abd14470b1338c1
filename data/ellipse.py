"""The ELLIPSE corpus's test file: a password-protected zip with one CSV, read into rows."""

import csv
import io
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from data.checks import convert_rows, named_cells
from data.rows import CorpusRows, Essay, Fault, Writer
from essays.errors import BadCorpus
from essays.prompts import get_prompt
from essays.text import normalize_text, repair_encoding

ZIP_FILE = "ELLIPSE_Final_github_test.zip"
CSV_FILE = "ELLIPSE_Final_github_test.csv"
# Not a secret: the corpus's README gives it to everybody, to keep the essays from being crawled.
_PASSWORD = b"ellipse_test"

PROMPT_ID = "ellipse-overall"
TRAITS = ("Cohesion", "Syntax", "Vocabulary", "Phraseology", "Grammar", "Conventions")
_ATTRIBUTES = {
    "gender": "gender",
    "school_grade": "grade",
    "race_ethnicity": "race_ethnicity",
    "socioeconomic_status": "SES",
}
_COLUMNS = {"text_id_kaggle", "full_text", "prompt", "Overall", *TRAITS, *_ATTRIBUTES.values()}
_PROPER_ID = re.compile(r"[0-9A-F]{12}")


def read_ellipse(folder: Path) -> CorpusRows:
    """Every row of the zip in `folder`, in the file's order. Raises BadCorpus, naming every row that is no essay."""
    path = folder / ZIP_FILE
    rows = _read_csv(_unzip(path), path)
    essays = convert_rows(str(path), ((_essay_id(row), row) for row in rows), _essay)
    return CorpusRows(
        essays=tuple(essays),
        faults=tuple(fault for row in rows for fault in _faults(row)),
        num_raw_rows=len(rows),
        writers=tuple(_writer(row) for row in rows),
    )


def _unzip(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            # The bytes may open with a byte order mark, which is no part of the first column's name.
            return archive.read(CSV_FILE, pwd=_PASSWORD).decode("utf-8-sig")
    except FileNotFoundError as error:
        raise BadCorpus(f"{path}: no such file; run `python -m pipelines.fetch`") from error
    except (zipfile.BadZipFile, KeyError, RuntimeError, UnicodeDecodeError) as error:
        raise BadCorpus(f"{path}: expected a zip that holds {CSV_FILE} in UTF-8: {error}") from error


def _read_csv(content: str, path: Path) -> list[Mapping[str, str]]:
    # Essays hold line ends inside quotes: newline="" leaves them to the csv module.
    lines = csv.reader(io.StringIO(content, newline=""), strict=True)
    try:
        header, *rows = lines
    except csv.Error as error:
        raise BadCorpus(f"{path}: {CSV_FILE}, line {lines.line_num}: {error}") from error
    missing = _COLUMNS - set(header)
    if missing:
        raise BadCorpus(f"{path}: {CSV_FILE} has no column {', '.join(sorted(missing))}")
    numbered = ((f"row {number}", cells) for number, cells in enumerate(rows, start=1))
    return convert_rows(str(path), numbered, lambda cells: named_cells(header, cells))


def _essay(row: Mapping[str, str]) -> Essay:
    return Essay(
        essay_id=_essay_id(row),
        corpus="ellipse",
        prompt_id=PROMPT_ID,
        text=normalize_text(repair_encoding(row["full_text"])),
        score=float(row["Overall"]),
        assignment=row["prompt"],
        traits=_traits(row),
    )


def _traits(row: Mapping[str, str]) -> dict[str, float]:
    scores = {trait.lower(): float(row[trait]) for trait in TRAITS}
    get_prompt(PROMPT_ID).score_range.classes(list(scores.values()))  # raters used the holistic scale for traits, too
    return scores


def _essay_id(row: Mapping[str, str]) -> str:
    return f"ellipse-{row['text_id_kaggle']}"


def _writer(row: Mapping[str, str]) -> Writer:
    attributes = {name: row[column] or None for name, column in _ATTRIBUTES.items()}
    return Writer(essay_id=_essay_id(row), **attributes)


def _faults(row: Mapping[str, str]) -> Iterator[Fault]:
    if not _PROPER_ID.fullmatch(row["text_id_kaggle"]):
        yield Fault(_essay_id(row), "number_for_an_id")
    if repair_encoding(row["full_text"]) != row["full_text"]:
        yield Fault(_essay_id(row), "doubly_encoded")
    if not all(row[column] for column in _ATTRIBUTES.values()):
        yield Fault(_essay_id(row), "attribute_missing")
