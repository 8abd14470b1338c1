import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from essays.errors import ScoreOutOfRange
from essays.prompts import all_prompts
from essays.scores import ScoreRange

HALVES = ScoreRange(low=1.0, high=5.0, step=0.5)
RANGES = [prompt.score_range for prompt in all_prompts().values()]


def test_grades_are_every_step_from_end_to_end():
    assert HALVES.grades().tolist() == [1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0]
    assert HALVES.num_grades == 9
    assert ScoreRange(low=0.0, high=60.0).num_grades == 61


def test_unit_scores_worked_by_hand():
    assert HALVES.to_unit([1.0, 2.0, 5.0]).tolist() == [0.0, 0.25, 1.0]
    assert HALVES.from_unit([0.0, 0.25, 1.0, 1.5]).tolist() == [1.0, 2.0, 5.0, 7.0]


@pytest.mark.parametrize("score_range", RANGES, ids=str)
def test_every_grade_survives_the_way_there_and_back(score_range):
    grades = score_range.grades()
    assert np.array_equal(score_range.round(score_range.from_unit(score_range.to_unit(grades))), grades)
    assert score_range.classes(grades).tolist() == list(range(score_range.num_grades))


def test_rounding_goes_to_the_nearest_grade_halves_up_and_to_the_ends_beyond_them():
    assert HALVES.round([1.24, 1.25, 1.26, 4.75, 0.0, 9.0]).tolist() == [1.0, 1.5, 1.5, 5.0, 1.0, 5.0]


@given(st.sampled_from(RANGES), st.floats(-100, 100))
def test_rounding_gives_a_grade_that_is_nearest(score_range, score):
    rounded = float(score_range.round(score))
    assert rounded in score_range.grades()
    nearest = float(np.abs(score_range.grades() - score).min())
    assert abs(rounded - score) == pytest.approx(nearest, abs=1e-9)


def test_classes_name_the_first_score_that_has_none_and_how_many_there_are():
    with pytest.raises(ScoreOutOfRange, match=r"score 2\.2 is not one of 1 to 5 in steps of 0\.5 \(2 such of 3\)"):
        HALVES.classes([1.0, 2.2, 6.0])
    with pytest.raises(ScoreOutOfRange):
        HALVES.classes([float("nan")])


def test_classes_forgive_rounding_error():
    assert HALVES.classes([1.0 + 1e-9, 1.5 - 1e-9]).tolist() == [0, 1]


@pytest.mark.parametrize(("low", "high", "step"), [(5.0, 1.0, 1.0), (1.0, 1.0, 1.0), (1.0, 5.0, 0.0), (1.0, 5.0, 0.3)])
def test_ranges_that_are_no_scale_are_refused(low, high, step):
    with pytest.raises(ValidationError, match=r"a range needs|no whole number of steps"):
        ScoreRange(low=low, high=high, step=step)
