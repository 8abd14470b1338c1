from collections import Counter
from pathlib import Path

import pytest

from data.ellipse import ZIP_FILE, read_ellipse
from data.rows import CorpusRows, Writer
from essays.errors import BadCorpus

HEADER = (
    "text_id_kaggle,full_text,gender,grade,race_ethnicity,SES,prompt,"
    "Overall,Cohesion,Syntax,Vocabulary,Phraseology,Grammar,Conventions"
)
ROW = '00000000000A,"One line,\r\nand ""another"".",Female,8,White,Well off,Clubs,3.5,3,3.5,4,2,2.5,3'


def _csv(*rows: str) -> bytes:
    return "\r\n".join([HEADER, *rows, ""]).encode()


def test_a_row_becomes_an_essay_and_its_writer(write_ellipse):
    rows = read_ellipse(write_ellipse(_csv(ROW)))
    (essay,) = rows.essays
    assert essay.essay_id == "ellipse-00000000000A"
    assert (essay.corpus, essay.prompt_id, essay.assignment) == ("ellipse", "ellipse-overall", "Clubs")
    assert essay.text == 'One line,\nand "another".'
    assert (essay.score, essay.rater_scores) == (3.5, ())
    assert dict(essay.traits) == {
        "cohesion": 3.0,
        "syntax": 3.5,
        "vocabulary": 4.0,
        "phraseology": 2.0,
        "grammar": 2.5,
        "conventions": 3.0,
    }
    assert rows.writers == (Writer("ellipse-00000000000A", "Female", "8", "White", "Well off"),)
    assert (rows.faults, rows.num_raw_rows) == ((), 1)


def test_a_byte_order_mark_is_no_part_of_the_first_column(write_ellipse):
    assert len(read_ellipse(write_ellipse(b"\xef\xbb\xbf" + _csv(ROW))).essays) == 1


def test_faults_that_leave_an_essay_usable_are_listed(write_ellipse):
    rows = read_ellipse(
        write_ellipse(
            _csv(
                ROW,
                ROW.replace("00000000000A", "1.99E+11"),
                ROW.replace("00000000000A", "00000000000B").replace("Well off", ""),
                ROW.replace("00000000000A", "00000000000C").replace("One line", "Anaâ€™s line"),
            )
        )
    )
    assert [(fault.essay_id, fault.kind) for fault in rows.faults] == [
        ("ellipse-1.99E+11", "number_for_an_id"),
        ("ellipse-00000000000B", "attribute_missing"),
        ("ellipse-00000000000C", "doubly_encoded"),
    ]
    assert rows.writers[2].socioeconomic_status is None
    assert rows.essays[3].text.startswith("Ana’s line")


def test_every_unusable_row_is_named_at_once(write_ellipse):
    folder = write_ellipse(
        _csv(
            ROW,
            ROW.replace("00000000000A", "00000000000B").replace(",3.5,3,", ",good,3,"),
            ROW.replace("00000000000A", "00000000000C").replace(",2.5,3", ",2.5,9"),
        )
    )
    with pytest.raises(BadCorpus) as caught:
        read_ellipse(folder)
    assert "2 faults:" in str(caught.value)
    assert "ellipse-00000000000B: could not convert string to float: 'good'" in str(caught.value)
    assert "ellipse-00000000000C: score 9 is not one of 1 to 5 in steps of 0.5" in str(caught.value)


def test_a_row_that_is_too_short_is_named(write_ellipse):
    with pytest.raises(BadCorpus, match="row 2: 2 columns, expected 14"):
        read_ellipse(write_ellipse(_csv(ROW, "00000000000B,only this")))


def test_a_missing_column_is_named(write_ellipse):
    with pytest.raises(BadCorpus, match="has no column Overall"):
        read_ellipse(write_ellipse(_csv(ROW).replace(b"Overall", b"Total")))


def test_a_quote_that_is_never_closed_is_no_silent_loss(write_ellipse):
    with pytest.raises(BadCorpus, match=r"line 4: unexpected end of data"):
        read_ellipse(write_ellipse(_csv(ROW, '00000000000B,"never closed')))


def test_a_missing_zip_says_how_to_get_it(tmp_path: Path):
    with pytest.raises(
        BadCorpus, match=r"ELLIPSE_Final_github_test\.zip: no such file; run `python -m pipelines\.fetch"
    ):
        read_ellipse(tmp_path)


def test_a_file_that_is_no_zip_is_said(tmp_path: Path):
    (tmp_path / ZIP_FILE).write_bytes(b"<html>not found</html>")
    with pytest.raises(BadCorpus, match="expected a zip that holds ELLIPSE_Final_github_test"):
        read_ellipse(tmp_path)


def test_the_real_file_holds_2571_essays_of_44_assignments(ellipse_rows: CorpusRows):
    assert (len(ellipse_rows.essays), ellipse_rows.num_raw_rows) == (2571, 2571)
    assert len({essay.assignment for essay in ellipse_rows.essays}) == 44
    assert len({essay.essay_id for essay in ellipse_rows.essays}) == 2571
    assert {len(essay.traits) for essay in ellipse_rows.essays} == {6}


def test_the_real_files_scores_and_faults(ellipse_rows: CorpusRows):
    scores = Counter(essay.score for essay in ellipse_rows.essays)
    assert scores == {1: 2, 1.5: 11, 2: 217, 2.5: 447, 3: 949, 3.5: 518, 4: 360, 4.5: 55, 5: 12}
    kinds = Counter(fault.kind for fault in ellipse_rows.faults)
    assert kinds == {"number_for_an_id": 16, "doubly_encoded": 1, "attribute_missing": 1}


def test_the_real_files_writers_are_kept_for_the_audit(ellipse_rows: CorpusRows):
    assert Counter(writer.gender for writer in ellipse_rows.writers) == {"Male": 1446, "Female": 1125}
    assert sum(writer.socioeconomic_status is None for writer in ellipse_rows.writers) == 1
    assert [writer.essay_id for writer in ellipse_rows.writers] == [essay.essay_id for essay in ellipse_rows.essays]
