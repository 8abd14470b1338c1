"""Traits in answers: whose they are, and how a run's raw ones are graded."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from essays.calibration import Grade
from essays.traits import Traits
from serving.catalogue import Catalogue, ServedModel
from serving.inference import Run


@dataclass(frozen=True)
class TraitSource:
    """The model whose graph scores the traits of an answer."""

    name: str
    traits: Traits

    def raw(self, runs: Mapping[str, Run]) -> tuple[float, ...]:
        """Raw unit scores, from the runs that the answer is made of."""
        return runs[self.name].raw_trait_scores

    def grades(self, raw: Sequence[float]) -> list[Grade]:
        """A grade for each trait."""
        return self.traits.grades(raw)


def trait_source(catalogue: Catalogue, model: ServedModel, prompt_id: str) -> TraitSource | None:
    """Where a model's traits on this prompt come from: its own graph, or the first member's of an ensemble; if any."""
    for name in model.graph_names:
        traits = catalogue.models[name].manifest.traits
        if traits is not None and traits.prompt_id == prompt_id:
            return TraitSource(name, traits)
    return None
