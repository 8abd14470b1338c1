"""The last check before traffic: golden essays through every lane, compared with their scores at publication.

It also takes the memory and builds the plans that a first request would wait for.
"""

import math

from essays.errors import WarmUpFailed
from essays.manifest import GOLDEN_TOLERANCE, GoldenEssay
from essays.text import normalize_text
from serving.catalogue import Catalogue, ServedModel
from serving.inference import member_unit_scores, raw_unit_score, run_graph
from serving.lanes import Lane


def warm_up(catalogue: Catalogue, model: ServedModel, lane: Lane) -> None:
    """Run one model's golden essays on one lane. Raises WarmUpFailed, naming the essay by its place."""
    _require_calibration(catalogue, model)
    for place, essay in enumerate(model.golden.essays, start=1):
        found = _golden_score(catalogue, model, lane, essay)
        # Not `gap > tolerance`: a NaN from broken weights must fail.
        if not abs(found - essay.raw_unit_score) <= GOLDEN_TOLERANCE:
            raise WarmUpFailed(
                f"{model.name}@{model.artifact.version}: golden essay {place} on {essay.prompt_id} got {found:.5f} on"
                f" lane {lane.number}, {essay.raw_unit_score:.5f} at publication (at most {GOLDEN_TOLERANCE:g} apart);"
                " the graph or its runtime is not what was published"
            )


def _golden_score(catalogue: Catalogue, model: ServedModel, lane: Lane, essay: GoldenEssay) -> float:
    text = normalize_text(essay.text)
    raw = {
        name: run_graph(lane, model=catalogue.models[name], text=text, prompt_id=essay.prompt_id).raw_unit_score
        for name in model.graph_names
    }
    members = member_unit_scores(catalogue, model, essay.prompt_id, raw)
    return raw_unit_score(model, essay.prompt_id, raw, members)


def _require_calibration(catalogue: Catalogue, model: ServedModel) -> None:
    for place, essay in enumerate(model.golden.essays, start=1):
        prompt = catalogue.prompt(essay.prompt_id, model)
        found = model.calibration.grade(prompt, essay.raw_unit_score).score
        if not math.isclose(found, essay.score):
            raise WarmUpFailed(
                f"{model.name}@{model.artifact.version}: golden essay {place} is graded {found:g}, {essay.score:g} at"
                " publication; the calibration is not what was published"
            )
