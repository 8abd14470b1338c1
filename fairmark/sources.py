"""Where essays come from: text, Word and PDF files, folders of them, CSV and JSONL tables, standard input.

Everything is read as a stream, a row or a file at a time. What is wrong with one row is that row's error; only a table
that cannot be read on (no essay column, a quote that is never closed) ends the run.
"""

import csv
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from essays.documents import SUFFIXES, UnreadableDocument, read_document
from fairmark.answers import ErrorDetail
from fairmark.errors import WrongInput

Format = Literal["text", "csv", "jsonl"]
STDIN = Path("-")
_TABLES: dict[str, Format] = {".csv": "csv", ".tsv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl"}
# An essay is at most 50,000 characters: a longer cell is a quote that was not closed.
_MAX_CELL_CHARACTERS = 1_000_000
_MAX_LINE_CHARACTERS = 8_000_000


@dataclass(frozen=True)
class Columns:
    """How a table names its parts."""

    essay: str = "essay"
    essay_id: str = "essay_id"
    """Where a table has no such column, its rows are numbered from 1."""
    prompt_id: str = "prompt_id"
    """Where a table has such a column, it wins over what was asked for all."""
    marks: tuple[str, ...] = ()
    """Of people, read along with each row; the first must be there."""


@dataclass(frozen=True)
class Essay:
    """One essay to be scored; its text is read when it is its turn."""

    essay_id: str
    prompt_id: str
    read: Callable[[], str]
    """Raises UnreadableRow."""
    marks: tuple[str, ...] = ()
    """What stands in the columns of marks; empty where a table lacks one of them."""


class UnreadableRow(Exception):
    """A row or file that holds no essay; `detail` says why. Never leaves the client."""

    def __init__(self, code: str, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.detail = ErrorDetail(code=code, message=message, hint=hint)


def essays_of(
    paths: Sequence[Path], *, prompt_id: str, columns: Columns, stdin_format: Format = "text"
) -> Iterator[Essay]:
    """Every essay of these files and folders, in an order that is the same each time. Raises WrongInput."""
    for path in paths:
        if path == STDIN:
            yield from _read(sys.stdin.buffer, "stdin", stdin_format, prompt_id, columns)
        elif path.is_dir():
            yield from _folder(path, prompt_id)
        elif path.suffix.lower() in _TABLES:
            with _open(path) as file:
                yield from _read(file, path.name, _TABLES[path.suffix.lower()], prompt_id, columns)
        else:
            yield _document(path, path.name, prompt_id)


def count_essays(paths: Sequence[Path], *, columns: Columns) -> int | None:
    """How many there are, by reading tables once without keeping them; None for standard input."""
    if STDIN in paths:
        return None
    return sum(1 for _ in essays_of(paths, prompt_id="", columns=columns))


def require_paths(paths: Iterable[Path]) -> None:
    """Raise WrongInput for the first path that is not there or is of a kind that is not read."""
    for path in paths:
        if path == STDIN or path.is_dir():
            continue
        if not path.is_file():
            raise WrongInput(f"{path}: there is no such file or folder")
        if path.suffix.lower() not in {*_TABLES, *SUFFIXES}:
            raise WrongInput(f"{path}: expected a file that ends in {', '.join([*_TABLES, *SUFFIXES])}")


def _folder(folder: Path, prompt_id: str) -> Iterator[Essay]:
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not files:
        raise WrongInput(f"{folder}: it holds no file that ends in {', '.join(SUFFIXES)}")
    for path in files:
        yield _document(path, path.relative_to(folder).as_posix(), prompt_id)


def _document(path: Path, essay_id: str, prompt_id: str) -> Essay:
    def read() -> str:
        try:
            return read_document(path.name, path.read_bytes())
        except UnreadableDocument as error:
            raise UnreadableRow("unreadable_file", str(error), error.hint) from None
        except OSError as error:
            raise UnreadableRow("unreadable_file", f"{path.name}: {error.strerror}") from None

    return Essay(essay_id, prompt_id, read)


def _open(path: Path) -> IO[bytes]:
    try:
        return path.open("rb")
    except OSError as error:
        raise WrongInput(f"{path}: {error.strerror}") from error


def _read(file: IO[bytes], name: str, kind: Format, prompt_id: str, columns: Columns) -> Iterator[Essay]:
    if kind == "csv":
        yield from _csv(file, name, prompt_id, columns)
    elif kind == "jsonl":
        yield from _jsonl(file, name, prompt_id, columns)
    else:
        content = file.read()
        yield Essay(name, prompt_id, lambda: _whole(name, content))


def _whole(name: str, content: bytes) -> str:
    try:
        return read_document(f"{name}.txt", content)
    except UnreadableDocument as error:
        raise UnreadableRow("unreadable_file", str(error), error.hint) from None


def _csv(file: IO[bytes], name: str, prompt_id: str, columns: Columns) -> Iterator[Essay]:
    lines = _lines(file, name)
    first = next(lines, "")
    if not first.strip():
        raise WrongInput(f"{name}: it is empty; expected a first line that names the columns")
    # Spreadsheets of half of Europe write semicolons.
    delimiter = max(",;\t", key=first.count)
    csv.field_size_limit(_MAX_CELL_CHARACTERS)
    reader = csv.reader(_chained(first, lines), delimiter=delimiter)
    try:
        header = [cell.strip() for cell in next(reader)]
        _require_column(header, columns.essay, name, "--essay-column")
        for column in columns.marks[:1]:
            _require_column(header, column, name, "--score-column")
        for number, cells in enumerate((row for row in reader if row), start=1):
            yield _row(header, cells, number, prompt_id, columns)
    except csv.Error as error:
        raise WrongInput(f"{name}, line {reader.line_num}: {error}; is a quote not closed before this line?") from error


def _row(header: Sequence[str], cells: Sequence[str], number: int, prompt_id: str, columns: Columns) -> Essay:
    fields = dict(zip(header, cells, strict=False))
    essay_id = fields.get(columns.essay_id) or str(number)

    def read() -> str:
        if len(cells) != len(header):
            raise UnreadableRow("bad_row", f"row {number} has {len(cells)} cells, the first line names {len(header)}")
        return _clean(fields[columns.essay], f"row {number}")

    marks = tuple(fields.get(column, "").strip() for column in columns.marks)
    return Essay(essay_id, _name(fields.get(columns.prompt_id)) or prompt_id, read, marks)


def _jsonl(file: IO[bytes], name: str, prompt_id: str, columns: Columns) -> Iterator[Essay]:
    lines = (line for line in _lines(file, name) if line.strip())
    for number, line in enumerate(lines, start=1):
        yield _json_row(line, number, prompt_id, columns)


def _json_row(line: str, number: int, prompt_id: str, columns: Columns) -> Essay:
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError):
        fields = None
    row = fields if isinstance(fields, dict) else {}

    def read() -> str:
        if not isinstance(fields, dict):
            raise UnreadableRow("bad_row", f"row {number} is no JSON object")
        essay = fields.get(columns.essay)
        if not isinstance(essay, str):
            raise UnreadableRow("bad_row", f"row {number} has no text as {columns.essay!r}")
        return _clean(essay, f"row {number}")

    marks = tuple(_name(row.get(column)) for column in columns.marks)
    return Essay(str(row.get(columns.essay_id) or number), _name(row.get(columns.prompt_id)) or prompt_id, read, marks)


def _name(value: object) -> str:
    # Lone surrogates cannot be sent; with a mark in their place no name is known, and the service says so.
    return "" if value is None else str(value).encode("utf-8", errors="replace").decode().strip()


def _clean(text: str, what: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise UnreadableRow("malformed_text", f"{what} is not in UTF-8", "save the table as UTF-8") from None
    return text


def _lines(file: IO[bytes], name: str) -> Iterator[str]:
    # Only `\n` ends a line: `str.splitlines` would cut an essay at characters that writers use.
    first = True
    while line := file.readline(_MAX_LINE_CHARACTERS):
        if len(line) == _MAX_LINE_CHARACTERS:
            raise WrongInput(f"{name}: a line is longer than {_MAX_LINE_CHARACTERS:,} bytes")
        if first:
            line, first = line.removeprefix(b"\xef\xbb\xbf"), False
        # A byte that is no UTF-8 becomes a lone surrogate, which is found where its row is read.
        yield line.decode("utf-8", errors="surrogateescape")


def _chained(first: str, rest: Iterator[str]) -> Iterator[str]:
    yield first
    yield from rest


def _require_column(header: Sequence[str], wanted: str, name: str, option: str) -> None:
    if wanted not in header:
        found = ", ".join(header)[:200]
        raise WrongInput(f"{name}: it has no column {wanted!r}; found: {found}; name it: {option} NAME")
