"""Whose speed counts: only of the same model, so only with its scores."""

import math
from collections.abc import Mapping

from benchmarks.speed.contestants import Contestant
from benchmarks.speed.load import Outcome
from benchmarks.speed.results import Measured
from benchmarks.speed.subject import Expected

MAX_GAP = 1e-3
"""Largest difference from the reference's scores that still counts as the same model."""
MIN_SAME_GRADES = 0.995
"""Below fp32, where scores differ by more: the share of grades that must stay, as in the export's gate."""


def judge(
    contestant: Contestant,
    expected: Mapping[str, Expected],
    outcome: Outcome,
    grades: Mapping[str, float],
    found: Measured,
) -> None:
    """Note the largest gap and the share of same grades so far, and make the contestant void when they are too bad."""
    gaps = [abs(score - _wanted(contestant, expected[essay_id])) for essay_id, score in outcome.scores]
    # `max` may pass over a nan, which is no score at all.
    worst = float("inf") if any(map(math.isnan, gaps)) else max(gaps, default=0.0)
    found.max_score_gap = max(worst, found.max_score_gap or 0.0)
    if grades:
        same = [grade == expected[essay_id].grade for essay_id, grade in grades.items()]
        found.same_grade_share = sum(same) / len(same)
    if found.void is None:
        found.void = void_reason(found.precision, found.max_score_gap, found.same_grade_share)


def void_reason(precision: str | None, max_gap: float, same_grade_share: float | None) -> str | None:
    """Why scores such as these make a speed void; None when they do not."""
    if max_gap <= MAX_GAP:
        return None
    reason = f"scores differ from the fp32 reference by up to {max_gap:.2g}, more than {MAX_GAP:g}"
    if precision in (None, "fp32") or same_grade_share is None:
        return reason
    if same_grade_share >= MIN_SAME_GRADES:
        return None
    return f"{reason}, and {same_grade_share:.1%} of the grades are the same, fewer than {MIN_SAME_GRADES:.1%}"


def _wanted(contestant: Contestant, expected: Expected) -> float:
    return expected.unit_score if contestant.answers == "calibrated" else expected.raw_unit_score
