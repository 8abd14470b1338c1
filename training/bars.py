"""A model's numbers on a prompt, and which of them miss the bars of `essays.bars`."""

import math
from collections.abc import Mapping

from essays.bars import Bar, bars_that_apply
from training.summary import PromptSummary


def bar_values(prompt: PromptSummary) -> dict[str, float]:
    """What is held against a bar, by measure: means over folds, and shares of all folds' essays."""
    return {
        "qwk": prompt.mean("qwk"),
        "degradation": prompt.mean("human_qwk") - prompt.mean("qwk"),
        "smd": prompt.mean("smd"),
        "sd_ratio": prompt.mean("sd_ratio"),
        "adjacent": prompt.share("adjacent"),
        "coverage": prompt.share("coverage"),
    }


def bars_of(prompt: PromptSummary) -> Mapping[str, Bar]:
    """The bars that apply to a prompt."""
    two_raters = not math.isnan(prompt.mean("human_qwk"))
    return bars_that_apply(prompt.score_range, prompt.promised_coverage, two_raters=two_raters)


def missed_measures(prompt: PromptSummary) -> set[str]:
    """Names of the measures (`training.summary.MEASURES`) that miss their bar."""
    values = bar_values(prompt)
    missed = {measure for measure, bar in bars_of(prompt).items() if not bar.holds(values[measure])}
    # Loss against the raters is a bar of its own, and no measure of its own.
    return {"qwk" if measure == "degradation" else measure for measure in missed}
