"""Essays from every kind of file, with what is wrong in them."""

import io
from pathlib import Path

import pytest

from fairmark.errors import WrongInput
from fairmark.sources import Columns, UnreadableRow, count_essays, essays_of, require_paths


def read(path: Path, columns: Columns | None = None) -> list[tuple[str, str, str]]:
    """Id, prompt and text, or the code of what is wrong in its place."""
    found = []
    for essay in essays_of([path], prompt_id="p", columns=columns or Columns()):
        try:
            found.append((essay.essay_id, essay.prompt_id, essay.read()))
        except UnreadableRow as fault:
            found.append((essay.essay_id, essay.prompt_id, f"!{fault.detail.code}"))
    return found


@pytest.mark.row(54)
@pytest.mark.parametrize(
    "content",
    [
        b'essay_id,essay\na,"One, ""two""\nthree"\nb,four\n',
        b'\xef\xbb\xbfessay_id,essay\r\na,"One, ""two""\nthree"\r\nb,four\r\n',
        b'essay_id;essay\na;"One, ""two""\nthree"\nb;four\n',
        b'essay_id\tessay\na\t"One, ""two""\nthree"\nb\tfour',
    ],
    ids=["plain", "bom and crlf", "semicolons", "tabs"],
)
def test_a_table_is_read_as_spreadsheets_write_it(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "class.csv"
    path.write_bytes(content)
    assert read(path) == [("a", "p", 'One, "two"\nthree'), ("b", "p", "four")]
    assert count_essays([path], columns=Columns()) == 2


@pytest.mark.row(54)
def test_each_bad_row_is_its_own_error(tmp_path: Path) -> None:
    path = tmp_path / "class.csv"
    path.write_bytes(b"essay_id,prompt_id,essay\na,q,fine\nb\nc,,x,y\n,q,caf\xe9\n\ne,,last\n")
    assert read(path) == [
        ("a", "q", "fine"),
        ("b", "p", "!bad_row"),
        ("c", "p", "!bad_row"),
        ("4", "q", "!malformed_text"),
        ("e", "p", "last"),
    ]


def test_lines_of_json_are_read_one_by_one(tmp_path: Path) -> None:
    path = tmp_path / "class.jsonl"
    rows = [
        '{"essay_id": 7, "essay": "fine", "prompt_id": "q"}',
        "",
        "{",
        "[1]",
        '{"essay": 3}',
        '{"essay": "\\ud800"}',
    ]
    path.write_text("\n".join(rows))
    codes = ["fine", "!bad_row", "!bad_row", "!bad_row", "!malformed_text"]
    assert [text for _, _, text in read(path)] == codes
    assert read(path)[0] == ("7", "q", "fine")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is empty"),
        (b"id,text\n1,x\n", "no column 'essay'; found: id, text; name it: --essay-column"),
        (b'essay\nfine\n"never closed\n' + b"x" * 1_100_000, "is a quote not closed"),
    ],
    ids=["empty", "no essay column", "open quote"],
)
def test_a_table_that_cannot_be_read_on_ends_the_run(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "class.csv"
    path.write_bytes(content)
    with pytest.raises(WrongInput, match=reason):
        read(path)


def test_other_columns_can_be_named(tmp_path: Path) -> None:
    path = tmp_path / "class.csv"
    path.write_text("who,task,text\nann,q,fine\n")
    assert read(path, Columns(essay="text", essay_id="who", prompt_id="task")) == [("ann", "q", "fine")]


def test_a_folder_is_read_in_one_order_and_only_what_holds_text(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "two.txt").write_bytes("caf\xe9".encode("cp1252"))
    (tmp_path / "a.txt").write_text("one")
    (tmp_path / "c.md").write_bytes(b"\x00\x01")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    assert read(tmp_path) == [("a.txt", "p", "one"), ("b/two.txt", "p", "café"), ("c.md", "p", "!unreadable_file")]
    (tmp_path / "empty").mkdir()
    with pytest.raises(WrongInput, match="holds no file"):
        read(tmp_path / "empty")


def test_standard_input_is_an_essay_or_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stdin:
        buffer = io.BytesIO(b"essay_id,essay\na,one\n")

    monkeypatch.setattr("sys.stdin", Stdin)
    (essay,) = essays_of([Path("-")], prompt_id="p", columns=Columns(), stdin_format="csv")
    assert (essay.essay_id, essay.read()) == ("a", "one")
    assert count_essays([Path("-")], columns=Columns()) is None


def test_a_path_of_another_kind_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    (tmp_path / "a.odt").touch()
    with pytest.raises(WrongInput, match="expected a file that ends in"):
        require_paths([tmp_path / "a.odt"])
    with pytest.raises(WrongInput, match="no such file or folder"):
        require_paths([tmp_path / "nothing.txt"])
