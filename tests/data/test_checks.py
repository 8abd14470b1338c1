from dataclasses import replace

import pytest

from data.checks import check_essays, convert_rows
from data.rows import Essay
from essays.errors import BadCorpus

GOOD = Essay("ellipse-1", "ellipse", "ellipse-overall", "Some text of ours.", 3.5, "Clubs")


def test_good_essays_pass():
    check_essays([GOOD, replace(GOOD, essay_id="ellipse-2", score=5.0)])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"text": ""}, "ellipse-2: no text"),
        ({"assignment": ""}, "ellipse-2: no assignment"),
        ({"score": 3.3}, "ellipse-2: score 3.3 is not one of 1 to 5 in steps of 0.5"),
        ({"score": 5.5}, "ellipse-2: score 5.5 is not one of 1 to 5"),
        ({"score": float("nan")}, "ellipse-2: score nan is not one of 1 to 5"),
        ({"prompt_id": "asap-9"}, "ellipse-2: no prompt 'asap-9'"),
        ({"prompt_id": "asap-1"}, "ellipse-2: prompt asap-1 belongs to corpus asap-aes, not ellipse"),
        ({"essay_id": "ellipse-1"}, "ellipse-1: the id stands 2 times; expected once"),
    ],
)
def test_an_unusable_essay_is_named(change: dict, message: str):
    with pytest.raises(BadCorpus) as caught:
        check_essays([GOOD, replace(GOOD, **{"essay_id": "ellipse-2", **change})])
    assert message in str(caught.value)


def test_all_faults_are_named_up_to_twenty_and_then_counted():
    essays = [replace(GOOD, essay_id=f"ellipse-{number}", text="") for number in range(25)]
    with pytest.raises(BadCorpus, match="essays: 25 faults:") as caught:
        check_essays(essays)
    assert str(caught.value).count("no text") == 20
    assert str(caught.value).endswith("and 5 more")


def test_no_essays_at_all_are_a_fault():
    with pytest.raises(BadCorpus, match="there are none"):
        check_essays([])


def test_rows_are_converted_in_order():
    assert convert_rows("a file", [("row 1", "1"), ("row 2", "2")], int) == [1, 2]


def test_only_value_errors_are_faults_of_a_row():
    with pytest.raises(ZeroDivisionError):
        convert_rows("a file", [("row 1", 0)], lambda value: 1 // value)


def test_a_row_whose_columns_have_shifted_does_not_print_its_essay():
    with pytest.raises(BadCorpus) as caught:
        convert_rows("a file", [("row 1", "a private sentence " * 50)], float)
    assert len(str(caught.value)) < 200


def test_an_essays_text_stays_out_of_its_repr():
    assert "Some text" not in repr(GOOD)
