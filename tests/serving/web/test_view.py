"""Where things are drawn, for every prompt that there is."""

import pytest

from essays.prompts import all_prompts
from essays.scores import ScoreRange
from serving.schemas import ModelIdentity, ScoreResponse, Timing
from serving.web.view import Scale, scale_of


def drawn(score_range: ScoreRange, score: float, interval: tuple[float, float]) -> Scale:
    answer = ScoreResponse(
        score=score,
        score_range=score_range,
        unit_score=float(score_range.to_unit(score)),
        interval=interval,
        coverage=0.9,
        flags=[],
        advisory=False,
        hand_off=False,
        truncated=False,
        tokens_used=1,
        model=ModelIdentity(name="m", version="v", digest="d", runtime="r"),
        timing_ms=Timing(queue=0, tokenize=0, infer=0, total=0),
    )
    return scale_of(answer)


@pytest.mark.parametrize("prompt_id", all_prompts())
def test_every_range_is_labelled_at_both_ends_and_never_crowded(prompt_id: str) -> None:
    score_range = all_prompts()[prompt_id].score_range
    scale = drawn(score_range, score_range.low, (score_range.low, score_range.high))
    labels = [tick.label for tick in scale.ticks if tick.label]
    assert (labels[0], labels[-1]) == (f"{score_range.low:g}", f"{score_range.high:g}")
    assert 2 <= len(labels) <= 7
    assert len(scale.ticks) <= 21
    places = [float(tick.x.rstrip("%")) for tick in scale.ticks]
    assert (places[0], places[-1]) == (5, 95)
    assert places == sorted(places)
    assert (scale.interval_x, scale.interval_width) == ("5.00%", "90.00%")


def test_a_score_lies_between_the_ends_in_proportion() -> None:
    scale = drawn(ScoreRange(low=2, high=12), 7, (5, 8))
    assert (scale.score_x, scale.interval_x, scale.interval_width) == ("50.00%", "32.00%", "27.00%")
    assert scale.in_words == "Score 7 on a scale from 2 to 12; likely between 5 and 8"
