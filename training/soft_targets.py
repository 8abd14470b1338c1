"""What is learned where two raters' scores are published: between the resolved score and the raters' mean.

The resolved score alone is what counts, and what dev and test are measured by. But a 2 that both raters gave and a 2
that one of them gave are not alike, and a model learns more from knowing which is which.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

NUM_RATERS = 2


def soft_unit_scores(
    unit_scores: NDArray[np.float32], rater_scores: Sequence[Sequence[float]], prompt_index: NDArray, rater_share: float
) -> NDArray[np.float32]:
    """Unit scores (N,) moved by `rater_share` toward the raters' mean, prompt by prompt.

    Raters have scales of their own, so the mean of the first two is brought to the mean and spread of the prompt's unit
    scores first. A prompt with an essay without two raters, or whose raters never differ from each other, is left.
    """
    softened = unit_scores.astype(np.float64)
    for prompt in np.unique(prompt_index):
        places = np.flatnonzero(prompt_index == prompt)
        given = [list(rater_scores[place])[:NUM_RATERS] for place in places.tolist()]
        if any(len(scores) < NUM_RATERS for scores in given):
            continue
        means = np.mean(given, axis=1)
        if not means.std():
            continue
        resolved = softened[places]
        raters = resolved.mean() + resolved.std() * (means - means.mean()) / means.std()
        softened[places] = (1 - rater_share) * resolved + rater_share * raters
    return softened.astype(np.float32)
