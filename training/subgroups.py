"""Whether grades are as fair to one group of writers as to another: attributes from audit.parquet, never an input."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from essays.bars import LARGEST_GROUP_DIFFERENCE, Measured, within
from essays.metrics import standardized_mean_difference
from essays.sureness import mean_difference_error, normal_interval
from training.summary import PromptSummary

SMALLEST_GROUP = 50
"""A difference of fewer essays says more about those essays than about the group."""

Attributes = Mapping[str, Mapping[str, str]]
"""By attribute: each essay's group, by essay id; only essays whose writer's attribute is known."""


@dataclass(frozen=True)
class Group:
    """Test essays of one prompt whose writers share an attribute."""

    attribute: str
    name: str
    num_essays: int
    smd: Measured
    """Mean grade above (+) or below (-) the humans', in standard deviations; nan, and no bar, for a group too small."""

    @property
    def title(self) -> str:
        """The name, and what it is of where that is a number: `school grade 12`."""
        return f"{self.attribute.replace('_', ' ')} {self.name}" if self.name.isdigit() else self.name

    @property
    def too_small(self) -> bool:
        """Whether there are too few essays to say anything."""
        return self.num_essays < SMALLEST_GROUP


def attributes_of(audit: pa.Table) -> Attributes:
    """The groups in audit.parquet."""
    essay_ids = audit["essay_id"].to_pylist()
    return {
        attribute: {
            essay_id: group
            for essay_id, group in zip(essay_ids, audit[attribute].to_pylist(), strict=True)
            if group is not None
        }
        for attribute in audit.column_names
        if attribute != "essay_id"
    }


def groups_of(prompt: PromptSummary, attributes: Attributes, coverage: float) -> tuple[Group, ...]:
    """Every group of every attribute, the largest first; nothing where the corpus tells no attributes."""
    essay_ids, grades, human = (
        np.concatenate([getattr(result, name) for result in prompt.results])
        for name in ("essay_ids", "grades", "human_scores")
    )
    groups = []
    for attribute, names in attributes.items():
        of_essay = np.array([names.get(essay_id, "") for essay_id in essay_ids.tolist()])
        members = [(name, of_essay == name) for name in sorted({*of_essay.tolist()} - {""})]
        found = [_group(attribute, name, grades[mask], human[mask], coverage) for name, mask in members]
        groups += sorted(found, key=lambda group: -group.num_essays)
    return tuple(groups)


def _group(attribute: str, name: str, grades: NDArray, human: NDArray, coverage: float) -> Group:
    if len(human) < SMALLEST_GROUP:
        return Group(attribute, name, len(human), Measured(float("nan")))
    difference = standardized_mean_difference(grades, human)
    interval = normal_interval(difference, mean_difference_error(grades, human), coverage)
    smd = Measured(difference, interval, within(0, LARGEST_GROUP_DIFFERENCE))
    return Group(attribute, name, len(human), smd)
