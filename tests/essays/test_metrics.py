import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from essays.errors import ScoreOutOfRange
from essays.metrics import (
    bootstrap_qwk,
    bootstrap_qwk_interval,
    confusion_matrix,
    exact_agreement,
    fisher_mean,
    percentile_interval,
    quadratic_weighted_kappa,
    spread_ratio,
    standardized_mean_difference,
)
from essays.scores import ScoreRange

FOUR = ScoreRange(low=0.0, high=3.0)
HALVES = ScoreRange(low=1.0, high=5.0, step=0.5)

pairs_of_scores = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=60)


def columns(pairs):
    return [first for first, _ in pairs], [second for _, second in pairs]


def test_confusion_matrix_counts_rows_for_the_first_rater():
    counts = confusion_matrix([1.0, 1.0, 5.0], [1.5, 1.5, 4.5], HALVES)
    assert counts.shape == (9, 9)
    assert counts[0, 1] == 2
    assert counts[8, 7] == 1
    assert counts.sum() == 3


def test_qwk_of_a_matrix_worked_by_hand():
    # Rows 0, 0, 1, 3 against 0, 1, 1, 2. Squared distances 0, 1, 0, 1: mean 1/2.
    # By chance: E a^2 + E b^2 - 2 E a E b = 10/4 + 6/4 - 2 * 1 * 1 = 2. So 1 - (1/2) / 2.
    assert quadratic_weighted_kappa([0, 0, 1, 3], [0, 1, 1, 2], FOUR) == pytest.approx(0.75)


def test_full_agreement_is_one_and_reversal_of_two_ends_is_minus_one():
    assert quadratic_weighted_kappa([0, 1, 3], [0, 1, 3], FOUR) == pytest.approx(1)
    assert quadratic_weighted_kappa([0, 3], [3, 0], FOUR) == pytest.approx(-1)


def test_one_grade_for_everybody_is_chance_and_nan_only_if_both_give_the_same():
    assert quadratic_weighted_kappa([0, 1, 2, 3], [2, 2, 2, 2], FOUR) == pytest.approx(0)
    assert quadratic_weighted_kappa([1, 1], [2, 2], FOUR) == pytest.approx(0)
    assert math.isnan(quadratic_weighted_kappa([2, 2], [2, 2], FOUR))


@given(pairs_of_scores)
def test_qwk_equals_scikit_learns(pairs):
    first, second = columns(pairs)
    if len({*first, *second}) == 1:
        return  # scikit-learn divides nought by nought there
    expected = cohen_kappa_score(first, second, weights="quadratic", labels=[0, 1, 2, 3])
    assert quadratic_weighted_kappa(first, second, FOUR) == pytest.approx(expected, abs=1e-12)


def test_qwk_equals_scikit_learns_on_half_steps_and_sixty_grades():
    rng = np.random.default_rng(1)
    sixty = ScoreRange(low=0.0, high=60.0)
    first = rng.integers(10, 61, 300)
    second = np.clip(first + rng.integers(-9, 10, 300), 0, 60)
    expected = cohen_kappa_score(first, second, weights="quadratic", labels=list(range(61)))
    assert quadratic_weighted_kappa(first, second, sixty) == pytest.approx(expected, abs=1e-12)
    ninths, others = rng.integers(0, 9, 200), rng.integers(0, 9, 200)
    expected = cohen_kappa_score(ninths, others, weights="quadratic", labels=list(range(9)))
    assert quadratic_weighted_kappa(1 + ninths / 2, 1 + others / 2, HALVES) == pytest.approx(expected, abs=1e-12)


@given(pairs_of_scores)
def test_qwk_does_not_depend_on_who_is_first_nor_on_grades_nobody_gave(pairs):
    first, second = columns(pairs)
    kappa = quadratic_weighted_kappa(first, second, FOUR)
    for other in (
        quadratic_weighted_kappa(second, first, FOUR),
        quadratic_weighted_kappa(first, second, ScoreRange(low=-2.0, high=9.0)),
    ):
        assert other == pytest.approx(kappa, abs=1e-9, nan_ok=True)
    assert math.isnan(kappa) or abs(kappa) <= 1 + 1e-9


@pytest.mark.parametrize(("first", "second"), [([0, 1], [0]), ([], []), ([[0]], [[0]])])
def test_scores_that_do_not_pair_up_are_refused(first, second):
    with pytest.raises(ValueError, match=r"same essays|no essay"):
        quadratic_weighted_kappa(first, second, FOUR)
    with pytest.raises(ValueError, match=r"same essays|no essay"):
        exact_agreement(first, second, FOUR)


def test_a_score_between_steps_or_outside_the_range_is_refused():
    for wrong in (1.25, 5.5):
        with pytest.raises(ScoreOutOfRange, match=f"score {wrong:g} is not one of 1 to 5 in steps of 0.5"):
            quadratic_weighted_kappa([1.0, wrong], [1.0, 1.5], HALVES)


def test_agreement_counts_steps_and_not_points():
    assert exact_agreement([1.0, 2.0, 4.0, 4.0], [1.0, 2.5, 3.0, 4.0], HALVES) == pytest.approx(0.5)
    assert exact_agreement([1.0, 2.0, 4.0, 4.0], [1.0, 2.5, 3.0, 4.0], HALVES, within_steps=1) == pytest.approx(0.75)


def noisy_raters(num_essays, seed):
    rng = np.random.default_rng(seed)
    ability = rng.normal(1.5, 0.8, num_essays)
    return [np.clip(np.rint(ability + rng.normal(0, 0.5, num_essays)), 0, 3) for _ in range(2)]


def test_bootstrap_draws_average_to_the_qwk_and_are_the_same_for_a_seed():
    first, second = noisy_raters(400, seed=0)
    draws = bootstrap_qwk(first, second, FOUR, num_resamples=2000, seed=3)
    assert draws.mean() == pytest.approx(quadratic_weighted_kappa(first, second, FOUR), abs=0.005)
    assert np.array_equal(draws, bootstrap_qwk(first, second, FOUR, num_resamples=2000, seed=3))
    assert not np.array_equal(draws, bootstrap_qwk(first, second, FOUR, num_resamples=2000, seed=(3, 1)))


def test_bootstrap_interval_is_as_wide_as_drawing_essays_one_by_one_makes_it():
    first, second = noisy_raters(300, seed=5)
    low, high = bootstrap_qwk_interval(first, second, FOUR, num_resamples=3000, seed=1)
    rng = np.random.default_rng(8)
    chosen = rng.integers(0, 300, (3000, 300))
    plain = [quadratic_weighted_kappa(first[rows], second[rows], FOUR) for rows in chosen]
    assert [low, high] == pytest.approx(np.quantile(plain, [0.025, 0.975]), abs=0.01)


def test_bootstrap_interval_narrows_with_essays_and_widens_with_coverage():
    few = bootstrap_qwk_interval(*noisy_raters(100, seed=2), FOUR, num_resamples=1000, seed=1)
    many = bootstrap_qwk_interval(*noisy_raters(1600, seed=2), FOUR, num_resamples=1000, seed=1)
    assert 3 < (few[1] - few[0]) / (many[1] - many[0]) < 5.5  # the root of 16, roughly
    sure = bootstrap_qwk_interval(*noisy_raters(100, seed=2), FOUR, num_resamples=1000, seed=1, coverage=0.99)
    assert sure[0] < few[0] < few[1] < sure[1]


def test_bootstrap_interval_covers_the_true_qwk_about_as_often_as_it_says():
    truth = quadratic_weighted_kappa(*noisy_raters(200_000, seed=99), FOUR)
    intervals = [
        bootstrap_qwk_interval(*noisy_raters(200, seed=seed), FOUR, num_resamples=300, seed=seed, coverage=0.9)
        for seed in range(200)
    ]
    assert 0.84 <= np.mean([low <= truth <= high for low, high in intervals]) <= 0.95


def test_draws_without_a_qwk_are_left_out_and_nothing_left_is_nan():
    # Two essays of one grade and one of another: some draws hold the first alone, where no QWK exists.
    draws = bootstrap_qwk([1, 1, 2], [1, 1, 2], FOUR, num_resamples=200, seed=0)
    assert np.isnan(draws).any()
    assert percentile_interval(draws, 0.95) == pytest.approx((1, 1))
    assert all(map(math.isnan, bootstrap_qwk_interval([2, 2], [2, 2], FOUR, num_resamples=100, seed=0)))


def test_standardized_mean_difference_is_in_pooled_deviations():
    # Means 2 and 1, variances 1 and 1.
    assert standardized_mean_difference([1, 3], [0, 2]) == pytest.approx(1)
    assert standardized_mean_difference([0, 2], [1, 3]) == pytest.approx(-1)
    assert math.isnan(standardized_mean_difference([1, 1], [1, 1]))


def test_spread_ratio_is_ours_over_theirs():
    assert spread_ratio([1, 2], [0, 4]) == pytest.approx(0.25)
    assert math.isnan(spread_ratio([1, 2], [2, 2]))


def test_fisher_mean_lies_above_the_plain_mean_and_survives_full_agreement():
    assert fisher_mean([0.6, 0.6]) == pytest.approx(0.6)
    assert fisher_mean([0.5, 0.9]) == pytest.approx(math.tanh((math.atanh(0.5) + math.atanh(0.9)) / 2))
    assert fisher_mean([0.5, 0.9]) > 0.7
    assert fisher_mean([1.0, 1.0]) == pytest.approx(0.999)
