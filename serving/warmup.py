"""The last check before traffic: golden essays through every lane, compared with their scores at publication.

It also takes the memory and builds the plans that a first request would wait for.
"""

import math
from collections.abc import Sequence

from essays.errors import FairmarkError, WarmUpFailed
from essays.manifest import GOLDEN_TOLERANCE, GoldenEssay
from essays.text import normalize_text
from serving.catalogue import Catalogue, ServedModel
from serving.inference import Run, member_unit_scores, raw_unit_score, run_graph
from serving.lanes import Lane
from serving.runtimes.interface import Session, first_line


class GoldenRuns:
    """What each session gave: an ensemble's members, warmed before it, are not run on the same essays once more."""

    def __init__(self) -> None:
        self._runs: dict[tuple[Session, str, str], Run] = {}

    def run(self, lane: Lane, model: ServedModel, text: str, prompt_id: str, *, anew: bool) -> Run:
        """As `run_graph`; what is known already does unless it is to be run `anew`, as on each lane of a session."""
        key = (lane.sessions[model.name], text, prompt_id)
        run = None if anew else self._runs.get(key)
        if run is None:
            # Returned as it is: another lane may put its own here meanwhile.
            run = self._runs[key] = run_graph(lane, model=model, text=text, prompt_id=prompt_id)
        return run


def warm_up(catalogue: Catalogue, model: ServedModel, lane: Lane, runs: GoldenRuns) -> None:
    """Run one model's golden essays on one lane; of an ensemble's members what is not among `runs`.

    Raises WarmUpFailed, naming the essay by its place; Overloaded or NotEnoughMemory where it cannot be run here.
    """
    _require_calibration(catalogue, model)
    tolerance = golden_tolerance(model, lane)
    for place, essay in enumerate(model.golden.essays, start=1):
        try:
            found, traits = _golden_scores(catalogue, model, lane, essay, runs)
        except FairmarkError:
            raise
        except Exception as error:  # runtimes' own errors share no base class
            raise WarmUpFailed(
                f"{model.name}@{model.artifact.version}: golden essay {place} on {essay.prompt_id} breaks the graph on"
                f" lane {lane.number}: {first_line(error)}; publish the model again"
            ) from error
        # Not `gap > tolerance`: a NaN from broken weights must fail.
        if not abs(found - essay.raw_unit_score) <= tolerance:
            raise WarmUpFailed(
                f"{model.name}@{model.artifact.version}: golden essay {place} on {essay.prompt_id} got {found:.5f} on"
                f" lane {lane.number}, {essay.raw_unit_score:.5f} at publication (at most {tolerance:g} apart);"
                " the graph or its runtime is not what was published"
            )
        if essay.raw_trait_scores and not _near(traits, essay.raw_trait_scores, tolerance):
            raise WarmUpFailed(
                f"{model.name}@{model.artifact.version}: the traits of golden essay {place} are not those at"
                f" publication on lane {lane.number} (at most {tolerance:g} apart); the graph or its runtime is not"
                " what was published"
            )


def golden_tolerance(model: ServedModel, lane: Lane) -> float:
    """How far a golden score may be from that at publication, which was made in fp32.

    Below fp32 twice what was measured on held-out essays: golden essays were not among those, and another CPU adds up
    in another order.
    """
    precisions = {lane.sessions[name].precision for name in model.graph_names}
    measured = [parity for name in precisions if (parity := model.manifest.parity_at(name))]
    gaps = [gap for each in measured for gap in (each.max_gap, *(trait.max_gap for trait in each.traits.values()))]
    return max([GOLDEN_TOLERANCE, *(2 * gap for gap in gaps)])


def _golden_scores(
    catalogue: Catalogue, model: ServedModel, lane: Lane, essay: GoldenEssay, runs: GoldenRuns
) -> tuple[float, tuple[float, ...]]:
    """The holistic score and, of a single model, the traits."""
    text = normalize_text(essay.text)
    found = {
        name: runs.run(lane, catalogue.models[name], text, essay.prompt_id, anew=not model.is_ensemble)
        for name in model.graph_names
    }
    raw = {name: run.raw_unit_score for name, run in found.items()}
    members = member_unit_scores(catalogue, model, essay.prompt_id, raw)
    traits = () if model.is_ensemble else found[model.name].raw_trait_scores
    return raw_unit_score(model, essay.prompt_id, raw, members), traits


def _near(found: Sequence[float], published: Sequence[float], tolerance: float) -> bool:
    """Whether all are; a NaN is not."""
    pairs = zip(found, published, strict=False)
    return len(found) == len(published) and all(abs(ours - theirs) <= tolerance for ours, theirs in pairs)


def _require_calibration(catalogue: Catalogue, model: ServedModel) -> None:
    for place, essay in enumerate(model.golden.essays, start=1):
        prompt = catalogue.prompt(essay.prompt_id, model)
        found = model.calibration.grade(prompt, essay.raw_unit_score).score
        if not math.isclose(found, essay.score):
            raise WarmUpFailed(
                f"{model.name}@{model.artifact.version}: golden essay {place} is graded {found:g}, {essay.score:g} at"
                " publication; the calibration is not what was published"
            )
