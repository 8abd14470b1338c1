"""What an answer's grades are made from, and the risk that a slip in its essay would make one of them another."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from essays.calibration import grades_of
from essays.prompts import Prompt
from serving.catalogue import Catalogue, ServedModel
from serving.inference import Run, member_unit_scores, raw_unit_score
from serving.traits import trait_source


class Answers:
    """One model's answers on one prompt."""

    def __init__(self, catalogue: Catalogue, model: ServedModel, prompt: Prompt) -> None:
        self._catalogue, self._model, self._prompt = catalogue, model, prompt
        self._traits = trait_source(catalogue, model, prompt.prompt_id)

    def raw(self, runs: Mapping[str, Run]) -> NDArray[np.float64]:
        """The holistic raw unit score and each trait's, (1 + traits,), from the runs that the answer needs."""
        model, prompt_id = self._model, self._prompt.prompt_id
        raw = {name: runs[name].raw_unit_score for name in model.graph_names}
        members = member_unit_scores(self._catalogue, model, prompt_id, raw)
        traits = self._traits.raw(runs) if self._traits else ()
        return np.array([raw_unit_score(model, prompt_id, raw, members), *traits])

    def grades(self, raw: NDArray[np.float64]) -> NDArray[np.float64]:
        """Of many answers at once, (N, 1 + traits) like `raw`."""
        grades = [self._model.calibration.grades(self._prompt, raw[:, 0]).scores]
        if self._traits:
            scale = self._traits.traits.score_range
            for place, trait in enumerate(self._traits.traits.traits, start=1):
                grades.append(grades_of(trait.calibration, scale, raw[:, place]).scores)
        return np.stack(grades, axis=1)

    def differ(self, first: NDArray[np.float64], second: NDArray[np.float64]) -> bool:
        """Whether two answers, each (1 + traits,), have another grade anywhere."""
        grades = self.grades(np.stack([first, second]))
        return bool((grades[0] != grades[1]).any())

    def risk(self, raw: NDArray[np.float64], shifts: NDArray[np.float64]) -> float:
        """The share of these shifts, (N, 1 + traits), that would change a grade of this answer."""
        grades = self.grades(np.concatenate([raw[None], raw + shifts]))
        return float((grades[1:] != grades[0]).any(axis=1).mean())
