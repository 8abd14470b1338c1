"""What a model's numbers must reach to be trusted with grades (Williamson, Xi and Breyer, 2012, and our own bars)."""

import math

from training.summary import PromptSummary

LOWEST_QWK = 0.70
LARGEST_GAP_TO_RATERS = 0.10
LARGEST_MEAN_DIFFERENCE = 0.15
SPREAD = (0.90, 1.10)
COVERAGE_MARGIN = 0.02
LOWEST_ADJACENT = 0.95
MOST_GRADES_FOR_ADJACENT = 6
"""On longer scales one step is too little for the bar to mean anything."""


def missed_measures(prompt: PromptSummary) -> set[str]:
    """Names of the measures (`training.summary.MEASURES`) that miss their bar."""
    qwk, human_qwk, num_grades = prompt.mean("qwk"), prompt.mean("human_qwk"), prompt.score_range.num_grades
    lowest_qwk = LOWEST_QWK if math.isnan(human_qwk) else max(LOWEST_QWK, human_qwk - LARGEST_GAP_TO_RATERS)
    held = {
        "qwk": qwk >= lowest_qwk,
        "smd": abs(prompt.mean("smd")) <= LARGEST_MEAN_DIFFERENCE,
        "sd_ratio": SPREAD[0] <= prompt.mean("sd_ratio") <= SPREAD[1],
        "coverage": abs(prompt.mean("coverage") - prompt.promised_coverage) <= COVERAGE_MARGIN,
        "adjacent": num_grades > MOST_GRADES_FOR_ADJACENT or prompt.mean("adjacent") >= LOWEST_ADJACENT,
    }
    return {measure for measure, is_held in held.items() if not is_held}
