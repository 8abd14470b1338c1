"""A CSV of one's own: what is read, and how each thing that is wrong with one is said."""

from pathlib import Path

import pytest

from data.own import read_own
from essays.errors import BadCorpus


@pytest.fixture
def csv(tmp_path: Path):
    def write(content: str | bytes) -> Path:
        path = tmp_path / "marked.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def test_rows_are_numbered_where_they_have_no_id_and_line_ends_inside_quotes_stay(csv):
    rows = read_own(csv('Essay,Score\r\n"One.\r\nTwo.",3\r\nThree.,"2,5"\r\n'), "town-1")
    assert [(essay.essay_id, essay.text, essay.score) for essay in rows.essays] == [
        ("town-1-1", "One.\nTwo.", 3.0),
        ("town-1-2", "Three.", 2.5),
    ]
    assert {(essay.corpus, essay.prompt_id, essay.assignment) for essay in rows.essays} == {("town-1",) * 3}
    assert rows.num_raw_rows == 2


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_any_delimiter_of_a_spreadsheet_and_a_byte_order_mark_are_read(csv, delimiter: str):
    lines = ["essay_id;essay;score;rater_1;rater_2", "a;Ours.;3;1;2", "", "b;Yours.;4;2;2"]
    rows = read_own(csv("\ufeff" + "\n".join(lines).replace(";", delimiter)), "town-1")
    assert [(essay.essay_id, essay.rater_scores) for essay in rows.essays] == [
        ("town-1-a", (1.0, 2.0)),
        ("town-1-b", (2.0, 2.0)),
    ]


def test_doubly_encoded_characters_are_turned_back_and_counted(csv):
    rows = read_own(csv("essay,score\nThe mayorâ€™s plan.,3\n"), "town-1")
    assert rows.essays[0].text == "The mayor’s plan."
    assert [(fault.essay_id, fault.kind) for fault in rows.faults] == [("town-1-1", "doubly_encoded")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "it is empty; expected a first line that names the columns"),
        ("text,score\nOurs.,3\n", "no column essay; found text, score; known are essay, score, essay_id"),
        ("essay,score,score\nOurs.,3,3\n", "two columns of one name"),
        ("essay,score,rater_1\nOurs.,3,3\n", "expected rater_1 and rater_2"),
        ("essay,score\nOurs.,three\nYours.,\n", r"2 faults:\n  row 1: score is no number\n  row 2: score is no number"),
        ("essay,score\nOurs.,3,4\n", "row 1: 3 columns, expected 2"),
        ('essay,score\n"Ours.,3\n', "is a quote not closed before it"),
        ("essay,score\nCafé.,3\n".encode("cp1252"), "byte 15 is no UTF-8; save the table as 'CSV UTF-8'"),
    ],
)
def test_what_is_wrong_is_named(csv, content: str | bytes, message: str):
    with pytest.raises(BadCorpus, match=message):
        read_own(csv(content), "town-1")


def test_a_fault_shows_no_text_of_an_essay(csv):
    with pytest.raises(BadCorpus) as raised:
        read_own(csv("score,essay\nMy secret diary,3\n"), "town-1")
    assert "diary" not in str(raised.value)
