"""Shadow verification: bounds by the book, opening, closing, margins."""

import math

import numpy as np
import pytest
from scipy.stats import beta

from serving.cache.economics import MIN_LOOKUPS, Ledger
from serving.cache.proof import AIM, CLOSE_ABOVE, MIN_GAPS, OPEN_BELOW, Proof, upper_bound
from serving.cache.sql_store import Check


@pytest.mark.parametrize(("events", "trials"), [(0, 1), (0, 299), (1, 473), (3, 700), (20, 1000), (5, 5)])
def test_the_bound_is_clopper_and_pearsons(events: int, trials: int) -> None:
    expected = beta.ppf(0.95, events + 1, trials - events) if events < trials else 1.0
    assert upper_bound(events, trials) == pytest.approx(expected, abs=1e-9)


def test_without_trials_nothing_is_excluded() -> None:
    assert upper_bound(0, 0) == 1.0


def same(proof: Proof, times: int, subject: str = "a") -> None:
    for _ in range(times):
        assert proof.add(Check(subject, "grade", 0.0)) is None


def test_it_opens_after_six_hundred_equal_grades_and_not_before() -> None:
    proof = Proof()
    same(proof, 597)
    assert proof.state("a") == "proving"
    same(proof, 2)
    assert proof.bound("a") <= OPEN_BELOW
    assert proof.state("a") == "proved"
    assert proof.state("b") == "proving"


def test_one_bad_case_does_not_close_it_and_several_do_for_good_and_with_a_reason() -> None:
    proof = Proof()
    same(proof, 600)
    reasons = [proof.add(Check("a", "grade", 1.0)) for _ in range(4)]
    assert reasons[0] is None
    (reason,) = [each for each in reasons if each]
    assert "another grade" in reason
    assert proof.state("a") == "alarm"
    same(proof, 1_000)
    assert proof.bound("a") <= CLOSE_ABOVE
    assert proof.state("a") == "alarm"


def test_what_is_bad_from_the_start_never_opens() -> None:
    proof = Proof()
    for number in range(400):
        assert proof.add(Check("a", "grade", float(number % 50 == 0))) is None
    assert proof.state("a") == "proving"


def test_before_enough_gaps_there_is_no_margin() -> None:
    proof = Proof()
    for _ in range(MIN_GAPS - 1):
        proof.add(Check("a", "gap_1", 0.0))
    assert proof.margin("a", 0.1, 1) == math.inf
    proof.add(Check("a", "gap_1", 0.0))
    assert proof.margin("a", 0.1, 1) == 0.0
    assert proof.margin("b", 0.1, 1) == math.inf
    # What one edit does says nothing of two.
    assert proof.margin("a", 0.1, 2) == math.inf


def changed_share(gaps: np.ndarray, margin: float, spacing: float) -> tuple[float, float]:
    """By throwing scores at a scale: how many handed-out ones had another grade, and how many were handed out."""
    rng = np.random.default_rng(8)
    gaps = rng.choice(gaps, 400_000)
    kept = rng.uniform(0, spacing, len(gaps))
    real = kept + gaps * rng.choice([-1, 1], len(gaps))
    given = (kept > margin) & (kept < spacing - margin)
    return float(((real < 0) | (real > spacing))[given].mean()), float(given.mean())


def test_a_margin_leaves_the_share_of_changed_grades_that_is_aimed_at_and_no_smaller_one_does() -> None:
    proof, spacing = Proof(), 0.1
    gaps = np.random.default_rng(9).exponential(0.003, 1_500)
    for gap in gaps:
        proof.add(Check("a", "gap_1", float(gap)))
    margin = proof.margin("a", spacing, 1)
    share, handed_out = changed_share(gaps, margin, spacing)
    assert share == pytest.approx(AIM, abs=3e-4)
    assert handed_out > 0.7
    assert changed_share(gaps, margin * 0.7, spacing)[0] > 1.5 * AIM
    # Grades that stand closer than slips move a score: nothing can be handed out.
    assert proof.margin("a", 0.004, 1) == math.inf
    assert proof.gap("a") == pytest.approx(float(np.quantile(gaps, 0.99)))


def test_what_is_kept_is_learned_again_with_its_alarms() -> None:
    checks = [Check("a", "grade", 0.0)] * 700 + [Check("a", "gap_1", 0.01)] * 200 + [Check("b", "grade", 0.0)] * 700
    proof = Proof()
    proof.load(checks, {"b": "seven of ten"})
    assert (proof.state("a"), proof.state("b"), proof.alarm("b")) == ("proved", "alarm", "seven of ten")
    assert proof.margin("a", 0.1, 1) == 0.01


def tried(found: bool, run_s: float) -> Ledger:
    ledger = Ledger()
    ledger.computed("a", run_s, bypassed=False)
    for _ in range(MIN_LOOKUPS):
        ledger.looked_near("a", 0.001, found=found)
    return ledger


def test_it_pays_where_hits_save_more_than_looking_costs() -> None:
    assert Ledger().account("a").pays is None
    assert tried(found=True, run_s=0.1).account("a").pays is True
    assert tried(found=True, run_s=0.0005).account("a").pays is False
    assert tried(found=False, run_s=10.0).account("a").pays is False
    assert tried(found=True, run_s=0.1).worth_trying("a")
    tries = sum(tried(found=False, run_s=1.0).worth_trying("a") for _ in range(40))
    assert tries < 20
