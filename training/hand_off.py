"""What is left to the model when people read the essays that it is least sure of.

QWK is no measure of this: it falls when the extremes leave, however good the grades that stay are.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from essays.bars import Measured
from essays.sureness import share_interval
from training.evaluate import PromptResult
from training.summary import PromptSummary

KEPT_SHARES = (1.0, 0.9, 0.8, 0.7)
FAR_STEPS = 2
"""A grade this many steps from the human score is far off."""


@dataclass(frozen=True)
class Kept:
    """The grades that stay when the least sure ones are handed to people."""

    share: float
    """Of the essays, as asked for; at hand is the nearest whole number of them."""
    num_essays: int
    exact: Measured
    """Share of grades that are the human score."""
    far: Measured
    """Share of grades `FAR_STEPS` steps or more from it."""


def hand_off(prompts: Sequence[PromptSummary], coverage: float) -> tuple[Kept, ...]:
    """A row for each of `KEPT_SHARES`, from the test essays of all folds, kept or handed off within each prompt."""
    sorted_steps = [steps_off_by_sureness(prompt.results) for prompt in prompts]
    rows = []
    for share in KEPT_SHARES:
        kept = np.concatenate([steps[: round(share * len(steps))] for steps in sorted_steps])
        rows.append(Kept(share, len(kept), _share(kept == 0, coverage), _share(kept >= FAR_STEPS, coverage)))
    return tuple(rows)


def steps_off_by_sureness(results: Sequence[PromptResult]) -> NDArray[np.int64]:
    """How many steps each grade is from the human score, the surest grade first, (N,).

    Surest is the narrowest interval; among equal ones, the score that lay nearest to its grade before rounding.
    Both are in the service's answer, so whoever hands off can sort by the same.
    """
    step = results[0].prompt.score_range.step
    grades, human, predicted, lows, highs = (
        np.concatenate([getattr(result, name) for result in results])
        for name in ("grades", "human_scores", "predicted", "lows", "highs")
    )
    widths = np.rint((highs - lows) / step)
    steps = np.rint(np.abs(grades - human) / step).astype(np.int64)
    return steps[np.lexsort((np.abs(predicted - grades), widths))]


def _share(hits: NDArray[np.bool_], coverage: float) -> Measured:
    share = float(hits.mean()) if hits.size else float("nan")
    return Measured(share, share_interval(share, hits.size, coverage))
