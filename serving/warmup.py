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
    tolerance = golden_tolerance(model, lane)
    for place, essay in enumerate(model.golden.essays, start=1):
        found = _golden_score(catalogue, model, lane, essay)
        # Not `gap > tolerance`: a NaN from broken weights must fail.
        if not abs(found - essay.raw_unit_score) <= tolerance:
            raise WarmUpFailed(
                f"{model.name}@{model.artifact.version}: golden essay {place} on {essay.prompt_id} got {found:.5f} on"
                f" lane {lane.number}, {essay.raw_unit_score:.5f} at publication (at most {tolerance:g} apart);"
                " the graph or its runtime is not what was published"
            )


def golden_tolerance(model: ServedModel, lane: Lane) -> float:
    """How far a golden score may be from that at publication, which was made in fp32.

    Below fp32 twice what was measured on held-out essays: golden essays were not among those, and another CPU adds up
    in another order.
    """
    precisions = {lane.sessions[name].precision for name in model.graph_names}
    measured = [parity.max_gap for name in precisions if (parity := model.manifest.parity_at(name))]
    return max([GOLDEN_TOLERANCE, *(2 * gap for gap in measured)])


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
