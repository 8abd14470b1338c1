"""The line between an ordinary answer and one that a person should look at."""

import pytest

from essays.scores import ScoreRange
from serving.advice import flags_for

RANGE = ScoreRange(low=1, high=5, step=0.5)


def codes(
    interval: tuple[float, float] = (2.5, 3.5), truncated: bool = False, members: dict[str, float] | None = None
) -> list[str]:
    flags = flags_for(score_range=RANGE, interval=interval, truncated=truncated, member_unit_scores=members or {})
    return [flag.code for flag in flags]


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (codes(), []),
        (codes(interval=(2.0, 4.0)), []),
        (codes(interval=(2.0, 4.5)), ["wide_interval"]),
        (codes(truncated=True), ["truncated"]),
        (codes(members={"a": 0.25, "b": 0.5}), []),
        (codes(members={"a": 0.25, "b": 0.51}), ["models_disagree"]),
        (codes((1.0, 5.0), True, {"a": 0.0, "b": 0.9}), ["truncated", "wide_interval", "models_disagree"]),
    ],
)
def test_each_reason_raises_its_own_flag(found: list[str], expected: list[str]) -> None:
    assert found == expected


def test_flags_speak_in_scores_of_the_prompt() -> None:
    (wide,) = flags_for(score_range=RANGE, interval=(2.0, 4.5), truncated=False, member_unit_scores={})
    assert "from 2 to 4.5" in wide.message
    (apart,) = flags_for(
        score_range=RANGE, interval=(3, 3), truncated=False, member_unit_scores={"low": 0.0, "mid": 0.5, "high": 1.0}
    )
    assert apart.message == "The models disagree: low gives about 1.0, high about 5.0."
