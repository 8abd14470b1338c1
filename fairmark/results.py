"""The file of results: one line for each essay, in the order of the input, appended as they come.

So a killed run leaves a beginning of the whole, and perhaps half a line; the next run drops that half, checks that what
stands there belongs to the same essays, and goes on behind it. Neither side is ever held in memory.
"""

import csv
import fcntl
import io
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from fairmark.answers import BatchItem, Comparison, ErrorDetail, Score
from fairmark.errors import WrongInput
from fairmark.sources import Essay

_COLUMNS = ("essay_id", "prompt_id", "model", "version", "score", "low", "high", "unit_score", "hand_off", "flags")
_COMPARED = ("essay_id", "prompt_id", "lowest", "highest", "unit_spread", "hand_off")
_ERROR = ("error", "message")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]+")
_FORMULA = ("=", "+", "-", "@")


@dataclass(frozen=True)
class Outcome:
    """What became of one essay: a score, a comparison or an error."""

    essay: Essay
    score: Score | None = None
    comparison: Comparison | None = None
    error: ErrorDetail | None = None


def outcome_of(essay: Essay, item: BatchItem) -> Outcome:
    """Of an essay in a batch."""
    return Outcome(essay, score=item.result, error=item.error)


class CsvLines:
    """Outcomes as lines of a CSV that a spreadsheet may open: no cell of ours is a formula."""

    def __init__(self, model: str, compared: Sequence[str] = (), traits: Sequence[str] = ()) -> None:
        """`compared` names the models of a comparison; where one is asked, `traits` are those that it scores."""
        self.model = model
        self.compared = tuple(compared)
        self.traits = tuple(traits)

    def head(self) -> str:
        """The first line."""
        return _csv_line(self._columns())

    def line(self, outcome: Outcome) -> str:
        """One essay's line."""
        values = {
            "essay_id": shown(outcome.essay.essay_id),
            "prompt_id": shown(outcome.essay.prompt_id),
            "model": self.model,
            **_score_cells(outcome.score),
            **_comparison_cells(outcome.comparison),
        }
        if outcome.error:
            values |= {"error": shown(outcome.error.code), "message": shown(outcome.error.message)}
        return _csv_line([values.get(column, "") for column in self._columns()])

    def belongs(self, line: str, essay: Essay) -> bool:
        """Whether a line of an earlier run is this essay's, by the same model."""
        cells = self._cells(line)
        ours = (shown(essay.essay_id), shown(essay.prompt_id))
        same_model = bool(self.compared) or cells.get("model") == self.model
        return same_model and (cells.get("essay_id"), cells.get("prompt_id")) == ours

    def failed(self, line: str) -> bool:
        """Whether a line holds an error."""
        return bool(self._cells(line).get("error"))

    def _cells(self, line: str) -> dict[str, str]:
        return dict(zip(self._columns(), next(csv.reader([line]), []), strict=False))

    def _columns(self) -> tuple[str, ...]:
        if not self.compared:
            traits = (f"trait_{name}{end}" for name in self.traits for end in ("", "_low", "_high"))
            return (*_COLUMNS, *traits, *_ERROR)
        return (*_COMPARED, *(f"score_{name}" for name in self.compared), *_ERROR)


class JsonLines:
    """Outcomes as whole answers, a JSON object a line."""

    def __init__(self, model: str, compared: Sequence[str] = ()) -> None:
        self.model = "" if compared else model

    def head(self) -> str:
        """Nothing: each line names its parts."""
        return ""

    def line(self, outcome: Outcome) -> str:
        """One essay's line."""
        row: dict[str, Any] = {"essay_id": outcome.essay.essay_id, "prompt_id": outcome.essay.prompt_id}
        if self.model:
            row["model"] = self.model
        for name in ("score", "comparison", "error"):
            if (part := getattr(outcome, name)) is not None:
                row["result" if name != "error" else name] = part.model_dump(mode="json")
        return json.dumps(row) + "\n"

    def belongs(self, line: str, essay: Essay) -> bool:
        """Whether a line of an earlier run is this essay's, by the same model."""
        row = _json(line)
        found = (row.get("essay_id"), row.get("prompt_id"), row.get("model", ""))
        return found == (essay.essay_id, essay.prompt_id, self.model)

    def failed(self, line: str) -> bool:
        """Whether a line holds an error."""
        return "error" in _json(line)


Lines = CsvLines | JsonLines


@dataclass
class Earlier:
    """What an earlier run left."""

    done: int = 0
    failed: int = 0


class ResultFile:
    """A file that one run at a time appends to."""

    def __init__(self, path: Path, lines: Lines, *, overwrite: bool = False) -> None:
        """Open it, and drop what a killed run left of its last line. Raises WrongInput."""
        self.path = path
        self._lines = lines
        self._file = _open_locked(path)
        if overwrite:
            self._file.truncate(0)
        _drop_half_line(self._file)
        self._file.seek(0)
        head, found = lines.head().encode(), self._file.readline()
        if found and head and found != head:
            self.close()
            raise WrongInput(f"{path}: it holds something else than these results; name another, or --overwrite")
        if not found:
            self._file.write(head)
        elif not head:
            self._file.seek(0)

    def go_on(self, essays: Iterator[Essay]) -> Earlier:
        """Pass the essays that have their line already. Raises WrongInput where line and essay do not agree."""
        earlier = Earlier()
        while line := self._file.readline():
            text, essay = line.decode("utf-8"), next(essays, None)
            earlier.done += 1
            if essay is None or not self._lines.belongs(text, essay):
                found = "is no more" if essay is None else f"is {shown(essay.essay_id)!r} now"
                raise WrongInput(
                    f"{self.path}: line {earlier.done} of the earlier results is of another essay, prompt or model"
                    f" (essay {earlier.done} {found}); give the same input and options, name another file, or"
                    " --overwrite"
                )
            earlier.failed += self._lines.failed(text)
        return earlier

    def append(self, outcomes: Sequence[Outcome]) -> None:
        """Write some essays' lines at once."""
        self._file.write("".join(map(self._lines.line, outcomes)).encode("utf-8"))
        self._file.flush()

    def close(self) -> None:
        """Write it to the disk, and let others have it."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()


class ResultStream:
    """Standard output: nothing to go on from."""

    def __init__(self, write: Callable[[str], object], lines: Lines) -> None:
        self._write, self._lines = write, lines
        write(lines.head())

    def go_on(self, _: Iterator[Essay]) -> Earlier:
        """Nothing was done before."""
        return Earlier()

    def append(self, outcomes: Sequence[Outcome]) -> None:
        """Write some essays' lines."""
        self._write("".join(map(self._lines.line, outcomes)))

    def close(self) -> None:
        """Nothing is held."""


def shown(text: str) -> str:
    """Text of others as a cell: on one line, in UTF-8, and never a formula."""
    plain = _CONTROLS.sub(" ", text).encode("utf-8", errors="replace").decode()
    return f"'{plain}" if plain.lstrip().startswith(_FORMULA) else plain


def _score_cells(score: Score | None) -> Mapping[str, object]:
    if score is None:
        return {}
    return {
        "version": score.model.version,
        "score": f"{score.score:g}",
        "low": f"{score.interval[0]:g}",
        "high": f"{score.interval[1]:g}",
        "unit_score": f"{score.unit_score:.4f}",
        "hand_off": _yes(score.hand_off),
        "flags": " ".join(flag.code for flag in score.flags),
        **{
            f"trait_{each.trait}{end}": f"{value:g}"
            for each in score.traits
            for end, value in (("", each.score), ("_low", each.low), ("_high", each.high))
        },
    }


def _comparison_cells(comparison: Comparison | None) -> Mapping[str, object]:
    if comparison is None:
        return {}
    apart = comparison.disagreement
    return {
        "lowest": f"{apart.lowest:g}",
        "highest": f"{apart.highest:g}",
        "unit_spread": f"{apart.unit_spread:.4f}",
        "hand_off": _yes(any(score.hand_off for score in comparison.results)),
        **{f"score_{score.model.name}": f"{score.score:g}" for score in comparison.results},
    }


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _csv_line(cells: Sequence[object]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow(cells)
    return buffer.getvalue()


def _json(line: str) -> Mapping[str, Any]:
    try:
        row = json.loads(line)
    except ValueError:
        return {}
    return row if isinstance(row, dict) else {}


def _open_locked(path: Path) -> IO[bytes]:
    try:
        file = path.open("a+b")
    except OSError as error:
        raise WrongInput(f"{path}: {error.strerror}; name another: --out FILE") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise WrongInput(f"{path}: another fairmark is writing to it") from None
    return file


def _drop_half_line(file: IO[bytes]) -> None:
    end = file.seek(0, os.SEEK_END)
    position = end
    while position:
        start = max(0, position - 65_536)
        file.seek(start)
        place = file.read(position - start).rfind(b"\n")
        if place >= 0:
            position = start + place + 1
            break
        position = start
    if position != end:
        file.truncate(position)
