"""The ensemble's weights, and the one way in which evaluation and serving mix its members' scores."""

import math
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field, model_validator

from essays.errors import UnknownPrompt
from essays.params import Section, write_section

ENSEMBLE = "ensemble"
"""The name that stands beside the models' in folders, reports and the service."""
WEIGHTS_FILE = "weights.json"
# How far a sum of weights may lie from 1 and still be a matter of rounding.
_SUM_TOLERANCE = 1e-6


def are_shares(weights: Collection[float]) -> bool:
    """Whether weights are non-negative and sum to 1; nan is neither."""
    return min(weights) >= 0 and math.isclose(math.fsum(weights), 1, abs_tol=_SUM_TOLERANCE)


class PromptWeights(Section):
    """How much each member counts on one prompt."""

    prompt_id: str
    weights: dict[str, float] = Field(min_length=1)
    """By member; non-negative, summing to 1."""

    @model_validator(mode="after")
    def _shares(self) -> "PromptWeights":
        if not are_shares(self.weights.values()):
            total = math.fsum(self.weights.values())
            raise ValueError(f"weights are non-negative and sum to 1, found {self.weights}, which sum to {total:g}")
        return self


class EnsembleWeights(Section):
    """The weights of one fold's ensemble."""

    prompts: tuple[PromptWeights, ...]

    def of(self, prompt_id: str) -> Mapping[str, float]:
        """Weights by member for this prompt. Raises UnknownPrompt."""
        for part in self.prompts:
            if part.prompt_id == prompt_id:
                return part.weights
        known = ", ".join(part.prompt_id for part in self.prompts)
        raise UnknownPrompt(f"no weights for prompt {prompt_id!r:.80}; known: {known}", field="prompt_id")


def mix_unit_scores(weights: Mapping[str, float], unit_scores: Mapping[str, ArrayLike]) -> NDArray[np.float64]:
    """The weighted sum of the members' calibrated unit scores, of their common shape.

    Adds in the order of the members' names, so that the sum is the same to the last bit however the mappings came
    about. Raises ValueError when a member with a weight has no score, or a score no weight.
    """
    missing = sorted(name for name, weight in weights.items() if weight and name not in unit_scores)
    surplus = sorted(set(unit_scores) - set(weights))
    if missing or surplus:
        raise ValueError(
            f"each weight needs a score and each score a weight: no score of {missing}, no weight of {surplus}"
        )
    counted = [name for name in sorted(weights) if name in unit_scores]
    mixed = np.zeros_like(np.asarray(unit_scores[counted[0]], dtype=np.float64))
    for name in counted:
        mixed += weights[name] * np.asarray(unit_scores[name], dtype=np.float64)
    return mixed


def read_weights(path: Path) -> EnsembleWeights:
    """Weights as `write_weights` left them."""
    return EnsembleWeights.model_validate_json(path.read_bytes())


def write_weights(weights: EnsembleWeights, path: Path) -> None:
    """The same bytes for the same weights."""
    write_section(weights, path)
