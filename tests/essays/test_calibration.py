import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from essays.calibration import (
    Band,
    Calibration,
    PromptCalibration,
    band_indices,
    half_width,
    read_calibration,
    stretched,
    write_calibration,
)
from essays.errors import UnknownPrompt
from essays.prompts import get_prompt

ELLIPSE = get_prompt("ellipse-overall")
BANDS = (Band(up_to=0.5, half_width=0.2), Band(up_to=1.0, half_width=0.1))
PART = PromptCalibration(prompt_id="ellipse-overall", centre=0.5, offset=0.1, stretch=2.0, bands=BANDS)
CALIBRATION = Calibration(coverage=0.9, prompts=(PART,))

raw_scores = st.floats(-2, 3, allow_nan=False)


def calibration_with(**changes):
    return Calibration(coverage=0.9, prompts=(PART.model_copy(update=changes),))


def test_stretch_leaves_the_centre_where_the_offset_puts_it_and_clips_at_both_ends():
    assert stretched(PART, [0.5, 0.6, 0.3, 1.0, -1.0]) == pytest.approx([0.6, 0.8, 0.2, 1.0, 0.0])
    assert stretched(PART, 0.6).shape == ()


def test_a_grade_worked_by_hand():
    # 0.6 + 2 * (0.56 - 0.5) = 0.72, on 1 to 5 that is 3.88: grade 4. 0.72 +- 0.1 is 3.48 to 4.28: grades 3.5 and 4.
    grade = CALIBRATION.grade(ELLIPSE, 0.56)
    assert grade.score == 4.0
    assert grade.unit_score == pytest.approx(0.72)
    assert grade.interval == (3.5, 4.0)


def test_an_interval_that_misses_its_last_grade_by_rounding_error_still_holds_it():
    # 0.7 + 0.1 and 0.7 - 0.2 fall beside 0.8 and 0.5 in binary.
    calibration = calibration_with(centre=0.7, offset=0.0, bands=(Band(up_to=1.0, half_width=0.2),))
    assert calibration.grade(ELLIPSE, 0.7).interval == (3.0, 4.5)


def test_a_band_narrower_than_half_a_step_still_holds_the_answer():
    calibration = calibration_with(bands=(Band(up_to=1.0, half_width=0.0),))
    grade = calibration.grade(ELLIPSE, 0.46)
    assert grade.interval == (grade.score, grade.score)


@given(st.lists(raw_scores, min_size=1, max_size=30))
def test_many_grades_are_what_each_alone_is(raws):
    grades = CALIBRATION.grades(ELLIPSE, raws)
    for index, raw in enumerate(raws):
        alone = CALIBRATION.grade(ELLIPSE, raw)
        assert alone.score == grades.scores[index]
        assert alone.unit_score == grades.unit_scores[index]
        assert alone.interval == (grades.lows[index], grades.highs[index])


@given(raw_scores, st.floats(0, 1), st.floats(0.05, 5))
def test_every_answer_is_a_grade_inside_an_interval_of_grades(raw, width, stretch):
    calibration = calibration_with(stretch=stretch, bands=(Band(up_to=1.0, half_width=width),))
    grade = calibration.grade(ELLIPSE, raw)
    possible = ELLIPSE.score_range.grades().tolist()
    low, high = grade.interval
    assert low <= grade.score <= high
    assert {low, high, grade.score} <= set(possible)


@given(raw_scores, raw_scores)
def test_a_higher_raw_score_never_gets_a_lower_grade(first, second):
    lower, higher = sorted([first, second])
    assert CALIBRATION.grade(ELLIPSE, lower).score <= CALIBRATION.grade(ELLIPSE, higher).score


def test_bands_hold_their_upper_end_and_the_last_holds_all_above():
    assert band_indices(BANDS, [0.0, 0.5, 0.500001, 1.0, 1.2]).tolist() == [0, 0, 1, 1, 1]
    assert half_width(BANDS, [0.5, 0.6]).tolist() == [0.2, 0.1]


def test_a_calibration_is_read_as_it_was_written_and_written_twice_alike(tmp_path):
    write_calibration(CALIBRATION, tmp_path / "deep" / "calibration.json")
    write_calibration(CALIBRATION, tmp_path / "again.json")
    assert read_calibration(tmp_path / "again.json") == CALIBRATION
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "deep" / "calibration.json").read_bytes()


def test_unknown_prompts_are_named_with_those_there_are():
    with pytest.raises(UnknownPrompt, match="no calibration for prompt 'asap-1'; known: ellipse-overall"):
        CALIBRATION.unit_scores("asap-1", [0.5])


@pytest.mark.parametrize("change", [{"stretch": 0.0}, {"stretch": -1.0}, {"bands": ()}])
def test_a_calibration_that_would_turn_scores_round_or_has_no_interval_is_refused(change):
    with pytest.raises(ValidationError):
        PromptCalibration(**{**PART.model_dump(), **change})
