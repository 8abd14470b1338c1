"""When a person should look at a score: each reason is a flag in words, and any flag hands the essay off.

| flag | raised when |
|---|---|
| a reason of `essays.gate` | the essay should not be scored, and its score is advice alone |
| `truncated` | a model did not see the whole essay |
| `wide_interval` | the interval covers more than `WIDE_INTERVAL_SHARE` of the prompt's range |
| `models_disagree` | an ensemble's members are further apart than `MEMBERS_APART` of the range |

The numbers are shares of the range, so that they mean the same on every prompt.
"""

from collections.abc import Mapping, Sequence

from essays.gate import Finding
from essays.scores import ScoreRange
from serving.schemas import Flag

WIDE_INTERVAL_SHARE = 0.5
MEMBERS_APART = 0.25


def flags_for(
    *,
    score_range: ScoreRange,
    interval: tuple[float, float],
    truncated: bool,
    member_unit_scores: Mapping[str, float],
) -> list[Flag]:
    """The flags of one answer; `member_unit_scores` holds an ensemble's members that count, else nothing."""
    flags = []
    if truncated:
        flags.append(
            Flag(code="truncated", message="The essay is longer than the model can read; its middle was left out.")
        )
    if _share(score_range, interval) > WIDE_INTERVAL_SHARE:
        flags.append(
            Flag(
                code="wide_interval",
                message=f"A human score may lie anywhere from {interval[0]:g} to {interval[1]:g}, over half the scale.",
            )
        )
    if member_unit_scores and _apart(member_unit_scores) > MEMBERS_APART:
        flags.append(Flag(code="models_disagree", message=_disagreement(score_range, member_unit_scores)))
    return flags


def gate_flags(findings: Sequence[Finding]) -> list[Flag]:
    """What the gate found, as flags."""
    return [Flag.model_validate({"code": found.reason, "message": _sentence(found.message)}) for found in findings]


def _sentence(message: str) -> str:
    return f"{message[:1].upper()}{message[1:]}."


def _share(score_range: ScoreRange, interval: tuple[float, float]) -> float:
    return (interval[1] - interval[0]) / (score_range.high - score_range.low)


def _apart(unit_scores: Mapping[str, float]) -> float:
    return max(unit_scores.values()) - min(unit_scores.values())


def _disagreement(score_range: ScoreRange, unit_scores: Mapping[str, float]) -> str:
    lowest = min(unit_scores, key=lambda name: unit_scores[name])
    highest = max(unit_scores, key=lambda name: unit_scores[name])
    low, high = score_range.from_unit([unit_scores[lowest], unit_scores[highest]])
    return f"The models disagree: {lowest} gives about {low:.1f}, {highest} about {high:.1f}."
