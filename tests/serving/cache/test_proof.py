"""Shadow verification: bounds by the book, opening, closing, margins."""

import math

import numpy as np
import pytest
from scipy.stats import beta, binom

from serving.cache.economics import MIN_LOOKUPS, Ledger
from serving.cache.proof import AIM, CLOSE_ABOVE, MIN_GRADES, MIN_SHIFTS, OPEN_BELOW, Proof, shift_scale, upper_bound
from serving.cache.sql_store import Check


@pytest.mark.parametrize(("events", "trials"), [(0, 1), (0, 299), (1, 473), (3, 700), (20, 1000), (5, 5)])
def test_the_bound_is_clopper_and_pearsons(events: int, trials: int) -> None:
    expected = beta.ppf(0.95, events + 1, trials - events) if events < trials else 1.0
    assert upper_bound(events, trials) == pytest.approx(expected, abs=1e-9)


def test_without_trials_nothing_is_excluded() -> None:
    assert upper_bound(0, 0) == 1.0


def check(subject: str = "a", *, edits: int = 1, shift: float = 0.0, risk: float = 0.0, changed: bool = False) -> Check:
    return Check(subject, edits, (shift,), risk, changed)


def same(proof: Proof, times: int, subject: str = "a") -> None:
    for _ in range(times):
        assert proof.add(check(subject)) is None


def test_it_opens_after_enough_equal_grades_and_not_before() -> None:
    proof = Proof()
    same(proof, MIN_GRADES - 1)
    assert proof.state("a") == "proving"
    same(proof, 1)
    assert proof.bound("a") <= OPEN_BELOW
    assert proof.state("a") == "proved"
    assert proof.state("b") == "proving"


def test_some_bad_cases_do_not_close_it_and_many_do_for_good_and_with_a_reason() -> None:
    proof = Proof()
    same(proof, MIN_GRADES)
    reasons = [proof.add(check(changed=True)) for _ in range(12)]
    assert reasons[:7] == [None] * 7
    (reason,) = [each for each in reasons if each]
    assert "another grade" in reason
    assert proof.state("a") == "alarm"
    same(proof, 1_000)
    assert proof.bound("a") <= CLOSE_ABOVE
    assert proof.state("a") == "alarm"


def test_what_is_bad_from_the_start_never_opens() -> None:
    proof = Proof()
    for number in range(MIN_GRADES + 100):
        assert proof.add(check(changed=number % 50 == 0)) is None
    assert proof.state("a") == "proving"


def alarm_chance(share: float, verified: int) -> tuple[float, float]:
    """With this true share of changed grades: the chance that the tier has opened by then, and that it has closed."""
    changed = np.arange(60)
    proving, proved, alarm = np.eye(len(changed))[0], np.zeros(len(changed)), 0.0
    for number in range(1, verified + 1):
        proving, proved = (
            states * (1 - share) + share * np.concatenate([[0.0], states[:-1]]) for states in (proving, proved)
        )
        # The upper bound is below a share where so few changes were unlikely with that share.
        opening = (number >= MIN_GRADES) & (binom.cdf(changed, number, OPEN_BELOW) <= 0.05)
        proved, proving = proved + proving * opening, proving * ~opening
        closing = binom.cdf(changed, number, CLOSE_ABOVE) > 0.05
        alarm, proved = alarm + float(proved[closing].sum()), proved * ~closing
    return float(proved.sum()) + alarm, alarm


def test_what_the_tier_aims_at_opens_it_and_gives_no_alarm_and_twice_the_bound_does_not() -> None:
    opened, alarm = alarm_chance(AIM, 3_000)
    assert opened > 0.95
    assert alarm < 1e-3
    opened, _ = alarm_chance(2 * CLOSE_ABOVE, 3_000)
    assert opened < 1e-5


def test_before_enough_shifts_there_is_no_risk_and_before_enough_risks_no_limit() -> None:
    proof = Proof()
    for _ in range(MIN_SHIFTS - 1):
        proof.add(check())
    assert proof.shifts("a", 1, 1) is None
    assert proof.limit("a") < 0
    proof.add(check())
    assert proof.shifts("a", 0, 1) is not None
    assert proof.limit("a") == 0.0
    proof.add(check(shift=1.0, risk=0.1))
    assert proof.shifts("a", 1, 1).max() == 1.0
    assert proof.limit("a") == 0.1
    assert proof.shifts("b", 1, 1) is None
    # What one edit does says nothing of two, and a score's shifts nothing of an answer's with traits.
    assert proof.shifts("a", 2, 1) is None
    assert proof.shifts("a", 1, 7) is None


def test_up_to_the_limit_as_many_grades_change_as_is_aimed_at_and_no_higher_limit_keeps_that() -> None:
    rng = np.random.default_rng(9)
    shifts, spacing = rng.laplace(0.0005, 0.003, 2_000), 0.1
    proof, num_tokens = Proof(), rng.integers(100, 900, 5_000)
    kept = rng.uniform(0, spacing, 5_000)
    risks = [float(((place + shifts < 0) | (place + shifts > spacing)).mean()) for place in kept]
    for risk, tokens in zip(risks, num_tokens, strict=True):
        proof.add(check(risk=risk, shift=0.002 * shift_scale(tokens)))
    limit = proof.limit("a")
    given = np.array(risks) <= limit
    real = kept + rng.choice(shifts, 5_000)
    assert np.mean([risk for risk in risks if risk <= limit]) == pytest.approx(AIM, abs=1e-4)
    assert ((real < 0) | (real > spacing))[given].mean() == pytest.approx(AIM, abs=2e-3)
    assert given.mean() > 0.8
    higher = min(risk for risk in risks if risk > limit)
    assert np.mean([risk for risk in risks if risk <= higher]) > AIM
    assert proof.limit("a", aim=AIM / 3) < limit
    assert proof.gap("a") == pytest.approx(0.002 * shift_scale(900) / shift_scale(400), rel=0.02)


def test_where_every_answer_is_at_risk_nothing_is_handed_out() -> None:
    proof = Proof()
    for _ in range(200):
        proof.add(check(risk=0.2))
    assert proof.limit("a") < 0


def test_what_is_kept_is_learned_again_with_its_alarms_and_without_what_is_no_number() -> None:
    proof = Proof()
    checks = [check("a", shift=0.01)] * MIN_GRADES + [check("b")] * MIN_GRADES + [check("a", shift=math.nan)]
    proof.load(checks, {"b": "seven of ten"})
    assert (proof.state("a"), proof.state("b"), proof.alarm("b")) == ("proved", "alarm", "seven of ten")
    shifts = proof.shifts("a", 1, 1)
    assert shifts is not None
    assert shifts.shape == (MIN_GRADES, 1)
    assert (shifts == 0.01).all()


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


def test_a_run_is_cheap_where_others_take_nearly_all_of_the_time() -> None:
    ledger = Ledger()
    ledger.computed("small", 0.005, bypassed=False)
    assert not ledger.is_cheap("small", ["small", "large"], 0.1)
    ledger.computed("large", 0.1, bypassed=False)
    assert ledger.is_cheap("small", ["small", "large"], 0.1)
    assert not ledger.is_cheap("large", ["small", "large"], 0.1)
    assert not ledger.is_cheap("small", ["small"], 0.1)
