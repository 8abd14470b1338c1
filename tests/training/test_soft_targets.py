"""Targets between the resolved score and the raters' mean."""

import numpy as np
import pytest

from training.soft_targets import soft_unit_scores

RESOLVED = np.array([0.0, 1 / 3, 2 / 3, 2 / 3, 1.0], dtype=np.float32)
RATERS = [(0, 0), (1, 0), (2, 1), (2, 2), (3, 3)]
ONE_PROMPT = np.zeros(5, dtype=np.int64)


def test_a_score_that_both_raters_gave_becomes_higher_than_one_that_the_higher_gave() -> None:
    soft = soft_unit_scores(RESOLVED, RATERS, ONE_PROMPT, 0.5)
    assert soft.dtype == np.float32
    assert soft[2] < soft[3]
    assert soft.mean() == pytest.approx(RESOLVED.mean(), abs=1e-6)
    whole = soft_unit_scores(RESOLVED, RATERS, ONE_PROMPT, 1.0)
    assert whole.std() == pytest.approx(RESOLVED.std(), abs=1e-6)
    assert np.corrcoef(whole, np.mean(RATERS, axis=1))[0, 1] == pytest.approx(1.0)
    assert soft == pytest.approx((RESOLVED + whole) / 2, abs=1e-6)


def test_without_a_share_nothing_moves() -> None:
    assert np.array_equal(soft_unit_scores(RESOLVED, RATERS, ONE_PROMPT, 0.0), RESOLVED)


def test_a_prompt_without_two_raters_everywhere_is_left_and_a_third_rater_does_not_count() -> None:
    prompts = np.array([0, 0, 0, 1, 1])
    raters = [(), (1, 0), (2, 1), (1, 1, 9), (3, 3)]
    resolved = np.array([0.0, 0.5, 1.0, 0.0, 1.0], dtype=np.float32)
    assert soft_unit_scores(resolved, raters, prompts, 0.5) == pytest.approx(resolved)
    alike = [(2, 2)] * 5
    assert soft_unit_scores(resolved, alike, ONE_PROMPT, 0.5) == pytest.approx(resolved)
