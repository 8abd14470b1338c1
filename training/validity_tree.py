"""`reports/validity.json`: the numbers of the validity page for programs, with what each key means."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from essays import bars
from essays.bars import Measured
from training.hand_off import Kept
from training.subgroups import SMALLEST_GROUP, Group
from training.summary import rounded
from training.validity import BandValidity, ModelValidity, PromptValidity, Verdict

VALIDITY_FILE = Path("reports/validity.json")

KEYS = {
    "corpora.CORPUS.MODEL": "one model on one corpus, measured on test essays; the ensemble first",
    "verdicts.BAR": "met: everywhere that it applies, absent where that is nowhere; num_judged: prompts, bands or"
    " groups that it applies to; missed: those that miss it, the worst first",
    "prompts.PROMPT": "one prompt: means over folds (qwk, smd, sd_ratio), shares of all folds' essays (the others)",
    "value, low, high": "a number and the interval that says how sure it is; a key is absent where it is undefined",
    "met, sure": "whether the number meets its bar, and whether the whole interval does (or misses it); absent without",
    "num_essays": "test essays of all folds",
    "human_qwk": "QWK of rater 1 with rater 2, where single ratings are published",
    "length_only_qwk": "QWK of grades made from the number of words alone",
    "qwk": "quadratic weighted kappa with the human scores; bootstrap interval",
    "degradation": "human_qwk less qwk; the interval is the model's alone",
    "smd": "mean grade above (+) or below (-) the humans', in standard deviations; normal interval",
    "sd_ratio": "standard deviation of grades over that of human scores",
    "exact, adjacent": "share of grades that are the human score, and at most one step from it; binomial interval",
    "coverage": "share of human scores inside the answered interval; binomial interval",
    "bands": "the same by score before rounding, from_score to to_score; bands that every fold has",
    "group_smd.ATTRIBUTE.GROUP": "smd of one group of writers; nothing but num_essays for fewer than smallest_group",
    "hand_off": "kept: share of essays that stay when the least sure are handed to people, num_essays of them;"
    " exact: as above; far: share of grades two steps or more from the human score",
}


def validity_tree(models: Sequence[ModelValidity], folds: Sequence[int], coverage: float) -> dict[str, Any]:
    """The whole file."""
    corpora: dict[str, dict[str, Any]] = {}
    for model in models:
        corpora.setdefault(model.corpus, {})[model.model] = _model(model)
    return {"keys": KEYS, "folds": [*folds], "interval_coverage": coverage, "bars": _bars(), "corpora": corpora}


def _bars() -> dict[str, Any]:
    return {
        "lowest_qwk": bars.LOWEST_QWK,
        "largest_degradation": bars.LARGEST_GAP_TO_RATERS,
        "largest_smd": bars.LARGEST_MEAN_DIFFERENCE,
        "largest_group_smd": bars.LARGEST_GROUP_DIFFERENCE,
        "smallest_group": SMALLEST_GROUP,
        "sd_ratio": [*bars.SPREAD],
        "lowest_adjacent": bars.LOWEST_ADJACENT,
        "most_grades_for_adjacent": bars.MOST_GRADES_FOR_ADJACENT,
        "coverage_margin": bars.COVERAGE_MARGIN,
    }


def _model(model: ModelValidity) -> dict[str, Any]:
    return {
        "verdicts": {verdict.bar: _verdict(verdict) for verdict in model.verdicts()},
        "prompts": {prompt.prompt_id: _prompt(prompt) for prompt in model.prompts},
        "hand_off": _hand_off(model.hand_off),
    }


def _verdict(verdict: Verdict) -> dict[str, Any]:
    met = {} if verdict.met is None else {"met": verdict.met}
    return {**met, "num_judged": len(verdict.judged), "missed": [each.place for each in verdict.missed]}


def _prompt(prompt: PromptValidity) -> dict[str, Any]:
    counts = {
        "num_essays": prompt.num_essays,
        "human_qwk": prompt.human_qwk,
        "length_only_qwk": prompt.length_only_qwk,
    }
    measures = ("qwk", "degradation", "smd", "sd_ratio", "exact", "adjacent", "coverage")
    return {
        **rounded(counts),
        **{name: _measured(getattr(prompt, name)) for name in measures},
        "bands": [_band(band) for band in prompt.bands],
        "group_smd": _groups(prompt.groups),
        "hand_off": _hand_off(prompt.hand_off),
    }


def _band(band: BandValidity) -> dict[str, Any]:
    ends = {"from_score": band.from_score, "to_score": band.to_score, "num_essays": band.num_essays}
    return {**rounded(ends), "coverage": _measured(band.coverage)}


def _groups(groups: Iterable[Group]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for group in groups:
        tree.setdefault(group.attribute, {})[group.name] = {"num_essays": group.num_essays, **_measured(group.smd)}
    return tree


def _hand_off(rows: Iterable[Kept]) -> list[dict[str, Any]]:
    return [
        {"kept": row.share, "num_essays": row.num_essays, "exact": _measured(row.exact), "far": _measured(row.far)}
        for row in rows
    ]


def _measured(number: Measured) -> dict[str, Any]:
    low, high = number.interval
    judged = {"met": number.met, "sure": number.sure}
    return {
        **rounded({"value": number.value, "low": low, "high": high}),
        **{name: value for name, value in judged.items() if value is not None},
    }
