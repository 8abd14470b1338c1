"""The file of results: half lines, other inputs, formulas, two runs at once."""

import csv
import io
from pathlib import Path

import pytest

from fairmark.answers import ErrorDetail
from fairmark.errors import WrongInput
from fairmark.results import CsvLines, JsonLines, Lines, Outcome, ResultFile
from fairmark.sources import Essay

LINES: list[Lines] = [CsvLines("m"), CsvLines("", ["a", "b"]), JsonLines("m"), JsonLines("", ["a", "b"])]


def essay(name: str, prompt_id: str = "p") -> Essay:
    return Essay(name, prompt_id, lambda: "text")


def outcome(name: str) -> Outcome:
    return Outcome(essay(name), error=ErrorDetail(code="too_short", message="the essay, says\n=1+1, is short"))


@pytest.mark.parametrize("lines", LINES, ids=["csv", "csv compared", "jsonl", "jsonl compared"])
@pytest.mark.parametrize("cut", [1, 9])
def test_half_a_line_is_dropped_and_the_rest_passed(tmp_path: Path, lines: Lines, cut: int) -> None:
    path = tmp_path / "scores"
    names = ["=cmd()", "two\nlines", 'a "quoted", one', "é", "5"]
    file = ResultFile(path, lines)
    file.append([outcome(name) for name in names[:3]])
    file.close()
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    again = ResultFile(path, lines)
    essays = iter([essay(name) for name in names])
    earlier = again.go_on(essays)
    assert (earlier.done, earlier.failed) == (2, 2)
    again.append([outcome(left.essay_id) for left in essays])
    again.close()
    assert path.read_bytes().startswith(whole)
    assert path.read_bytes().count(b"\n") == 5 + bool(lines.head())


@pytest.mark.parametrize("left", [b"", b"essay", b"essay_id,prompt_id,model"])
def test_a_run_killed_before_its_first_line_begins_anew(tmp_path: Path, left: bytes) -> None:
    path = tmp_path / "scores.csv"
    path.write_bytes(left)
    file = ResultFile(path, LINES[0])
    assert file.go_on(iter([essay("a")])).done == 0
    file.close()
    assert path.read_text() == LINES[0].head()


@pytest.mark.row(54)
@pytest.mark.parametrize(
    ("lines", "others", "now"),
    [
        (CsvLines("m"), [essay("a"), essay("x")], "is 'x' now"),
        (CsvLines("m"), [essay("a")], "is no more"),
        (CsvLines("m"), [essay("a"), essay("b", "q")], "another essay, prompt or model"),
        (CsvLines("other"), [essay("a"), essay("b")], "another essay, prompt or model"),
    ],
    ids=["essay", "fewer", "prompt", "model"],
)
def test_results_of_another_input_are_never_added_to(
    tmp_path: Path, lines: Lines, others: list[Essay], now: str
) -> None:
    path = tmp_path / "scores.csv"
    file = ResultFile(path, CsvLines("m"))
    file.append([outcome("a"), outcome("b")])
    file.close()
    before = path.read_bytes()
    again = ResultFile(path, lines)
    with pytest.raises(WrongInput, match=now):
        again.go_on(iter(others))
    again.close()
    assert path.read_bytes() == before


def test_a_file_of_something_else_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "thesis.csv"
    path.write_text("my,own,table\n1,2,3\n")
    with pytest.raises(WrongInput, match="something else than these results"):
        ResultFile(path, LINES[0])
    assert path.read_text() == "my,own,table\n1,2,3\n"


def test_two_runs_never_write_to_one_file(tmp_path: Path) -> None:
    first = ResultFile(tmp_path / "scores.csv", LINES[0])
    with pytest.raises(WrongInput, match="another fairmark"):
        ResultFile(tmp_path / "scores.csv", LINES[0])
    first.close()


@pytest.mark.row(54)
@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@x", "\t=1", " =1", "\r=1"])
def test_no_cell_is_a_formula(name: str) -> None:
    (cells,) = csv.reader(io.StringIO(CsvLines("m").line(outcome(name))))
    assert cells[0].startswith("'")
    assert not any(cell.startswith(("=", "+", "-", "@")) for cell in cells)
