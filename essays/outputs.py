"""What a graph gives for a batch, on both sides: the holistic scores and, from the same pass, the traits'."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from essays.manifest import OUTPUT_NAME, TRAITS_OUTPUT_NAME


class Outputs(NamedTuple):
    """Raw unit scores of a batch."""

    raw_unit_scores: NDArray[np.float32]
    """(B,)."""
    raw_trait_scores: NDArray[np.float32]
    """(B, traits); no column where the graph scores none."""


def outputs_from(results: Mapping[str, ArrayLike]) -> Outputs:
    """From a runtime's results by output name; copied, since some write their next result into the same memory."""
    scores = np.array(results[OUTPUT_NAME], dtype=np.float32)
    if TRAITS_OUTPUT_NAME not in results:
        return Outputs(scores, np.empty((len(scores), 0), dtype=np.float32))
    return Outputs(scores, np.array(results[TRAITS_OUTPUT_NAME], dtype=np.float32))
