"""`reports/validity.html`: one page, whole in itself, for whoever decides whether to trust the models' grades."""

import itertools
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from essays import bars
from essays.bars import Measured
from training.figures import CurvePlot, DotPlot, Row, Scale, curve_plot, dot_plot
from training.hand_off import Kept
from training.report import number
from training.subgroups import SMALLEST_GROUP, Group
from training.validity import Judged, ModelValidity, PromptValidity, Verdict, band_name

VALIDITY_PAGE = Path("reports/validity.html")
_TEMPLATE = "pages/validity.html"
_STYLE = "pages/validity.css"
_HERE = Path(__file__).parent

# What each bar is for, and asks, by its key in `training.validity.CRITERIA`.
_TITLES = {
    "qwk": "Agrees with people",
    "degradation": "Agrees nearly as people do with each other",
    "smd": "Neither lenient nor severe",
    "group_smd": "Fair to groups of writers",
    "sd_ratio": "Uses the whole scale",
    "adjacent": "Seldom far off",
    "coverage": "Intervals hold what they promise",
    "band_coverage": "Intervals hold for weak and strong essays",
}
_ASKS = {
    "qwk": f"QWK of at least {number(bars.LOWEST_QWK, 2)} on each prompt",
    "degradation": f"QWK at most {number(bars.LARGEST_GAP_TO_RATERS, 2)} below that of two raters",
    "smd": f"mean grade within {number(bars.LARGEST_MEAN_DIFFERENCE, 2)} standard deviations of the humans’ (SMD)",
    "group_smd": f"SMD within {number(bars.LARGEST_GROUP_DIFFERENCE, 2)} in each group of at least {SMALLEST_GROUP}",
    "sd_ratio": f"spread of grades {number(bars.SPREAD[0], 2)} to {number(bars.SPREAD[1], 2)} times the humans’",
    "adjacent": f"{bars.LOWEST_ADJACENT:.0%} of grades within a step, on up to {bars.MOST_GRADES_FOR_ADJACENT} grades",
    "coverage": "{zone} of human scores inside the interval, on each prompt",
    "band_coverage": "{zone} of human scores inside the interval, in each band of scores",
}
_REASONS = {
    "degradation": "single ratings are not published",
    "group_smd": "the corpus tells nothing of its writers, or too little",
    "adjacent": "every scale is longer",
}
"""Why a bar may apply nowhere."""
# Beyond these a number lies on its bar.
_MOST_PLACES = 6
_SHARES = {"adjacent", "coverage", "band_coverage"}


def validity_page(models: Sequence[ModelValidity], folds: Sequence[int], coverage: float) -> str:
    """The page in HTML; `coverage` is that of the intervals which say how sure a number is."""
    corpora = [
        (corpus, [model_view(model) for model in models if model.corpus == corpus])
        for corpus in dict.fromkeys(model.corpus for model in models)
    ]
    return (
        _environment()
        .get_template(_TEMPLATE)
        .render(
            corpora=corpora,
            folds=folds,
            coverage=coverage,
            titles=_TITLES,
            reasons=_REASONS,
            smallest_group=SMALLEST_GROUP,
            style=(_HERE / _STYLE).read_text(encoding="utf-8"),
        )
    )


def model_view(model: ModelValidity) -> dict[str, Any]:
    """What the template shows of one model on one corpus."""
    verdicts = model.verdicts()
    judged = [verdict for verdict in verdicts if verdict.met is not None]
    zone = coverage_zone(model)
    return {
        "name": model.model,
        "prompts": model.prompts,
        "by_bar": {verdict.bar: verdict for verdict in verdicts},
        "asks": {bar: asked.format(zone=zone) for bar, asked in _ASKS.items()},
        "coverage_zone": zone,
        "has_raters": any(not math.isnan(prompt.human_qwk) for prompt in model.prompts),
        "has_groups": any(prompt.groups for prompt in model.prompts),
        "verdicts": [(verdict, verdict_words(verdict)) for verdict in verdicts],
        "num_met": sum(verdict.met is True for verdict in judged),
        "num_judged": len(judged),
        "missed": [_TITLES[verdict.bar] for verdict in judged if not verdict.met],
        "hand_off": [(prompt.prompt_id, prompt.hand_off) for prompt in model.prompts]
        + ([("all prompts", model.hand_off)] if len(model.prompts) > 1 else []),
        "figures": figures(model),
    }


def coverage_zone(model: ModelValidity) -> str:
    """`88% to 92%`: the shares of human scores that the intervals may hold."""
    bar = model.prompts[0].coverage.bar
    assert bar
    return f"{bar.low:.0%} to {bar.high:.0%}"


def verdict_words(verdict: Verdict) -> list[str]:
    """Where a bar is missed and by what; where it is met everywhere, the number nearest to it."""
    as_share = verdict.bar in _SHARES
    if verdict.missed:
        return [place_words(each, as_share) for each in verdict.missed]
    return [place_words(each, as_share) for each in verdict.judged[:1]]


def place_words(judged: Judged, as_share: bool) -> str:
    """`asap-3: .681 [.652, .710]`, and whether its essays are too few to be sure."""
    found = judged.measured
    words = [f"{judged.place}:", shown(found, as_share), interval(found, as_share)]
    doubt = " – too close to the bar to be sure" if found.sure is False else ""
    return " ".join(filter(None, words)) + doubt


def shown(found: Measured, as_share: bool = False) -> str:
    """`.681`, or `91.7%` of a share; with more places where rounding would carry it across its bar."""
    places = 3
    while found.bar and found.bar.holds(round(found.value, places)) != found.met and places < _MOST_PLACES:
        places += 1
    return percent(found.value, places - 2) if as_share else number(found.value, places)


def percent(share: float, places: int = 1) -> str:
    """`91.7%`; a dash for what is undefined."""
    return "–" if math.isnan(share) else f"{100 * share:.{places}f}%"


def interval(found: Measured, as_share: bool = False) -> str:
    """`[.652, .710]`, or `[88.5, 93.9]` of a share, in per cent; nothing where it is unknown."""
    low, high = found.interval
    if math.isnan(low) or math.isnan(high):
        return ""
    return f"[{100 * low:.1f}, {100 * high:.1f}]" if as_share else f"[{number(low)}, {number(high)}]"


def by_attribute(groups: Iterable[Group]) -> list[tuple[str, list[Group]]]:
    """The groups of each attribute, in their order."""
    return [(attribute, [*own]) for attribute, own in itertools.groupby(groups, key=lambda group: group.attribute)]


def figures(model: ModelValidity) -> dict[str, Any]:
    """Every plot of one model, by name."""
    return {
        "qwk": qwk_plot(model),
        "smd": smd_plot(model),
        "groups": group_plot(model),
        "spread": spread_plot(model),
        "coverage": coverage_plot(model),
        "hand_off": [(prompt.prompt_id, hand_off_plot(prompt.prompt_id, prompt.hand_off)) for prompt in model.prompts],
    }


def qwk_plot(model: ModelValidity) -> DotPlot:
    """QWK with its interval beside the two raters and length alone."""
    rows = [
        Row(prompt.prompt_id, prompt.qwk, (("raters", prompt.human_qwk), ("length", prompt.length_only_qwk)))
        for prompt in model.prompts
    ]
    lowest = min([0.4, *(value for row in rows for value in (row.number.interval[0], *dict(row.beside).values()))])
    scale = Scale(max(-1.0, math.floor(10 * lowest) / 10), 1.0, 0.1 if lowest > 0.3 else 0.2)
    return dot_plot(
        f"QWK of {model.model} on each prompt, before the bar; the table beside it holds the numbers", rows, scale
    )


def smd_plot(model: ModelValidity) -> DotPlot:
    """Standardized mean difference of each prompt."""
    rows = [Row(prompt.prompt_id, prompt.smd) for prompt in model.prompts]
    summary = f"Mean grade of {model.model} above or below the humans’ on each prompt, before the bar"
    return dot_plot(summary, rows, _around_zero(rows))


def group_plot(model: ModelValidity) -> DotPlot:
    """Standardized mean difference of each group that is large enough."""
    several = len(model.prompts) > 1
    rows = [
        Row(f"{prompt.prompt_id}, {group.title}" if several else group.title, group.smd)
        for prompt in model.prompts
        for group in prompt.groups
    ]
    summary = f"Mean grade of {model.model} above or below the humans’ in each group of writers, before the bar"
    return dot_plot(summary, rows, _around_zero(rows))


def spread_plot(model: ModelValidity) -> DotPlot:
    """Spread of grades over the humans', of each prompt."""
    rows = [Row(prompt.prompt_id, prompt.sd_ratio) for prompt in model.prompts]
    values = [row.number.value for row in rows]
    scale = Scale(min(0.8, *(math.floor(10 * value) / 10 for value in values)), max(1.2, *values), 0.1)
    return dot_plot(
        f"Spread of the grades of {model.model} over the humans’ on each prompt, before the bar", rows, scale
    )


def coverage_plot(model: ModelValidity) -> DotPlot:
    """Coverage of each prompt, and of its bands below it."""
    rows = [row for prompt in model.prompts for row in _coverage_rows(prompt)]
    lowest = min([0.8, *(row.number.interval[0] for row in rows if row.number.bar)])
    scale = Scale(math.floor(20 * lowest) / 20, 1.0, 0.05 if lowest > 0.7 else 0.1)
    summary = f"Share of human scores inside the intervals of {model.model}, by prompt and score band, before the bar"
    return dot_plot(summary, rows, scale)


def hand_off_plot(name: str, kept: Iterable[Kept]) -> CurvePlot:
    """What stays right, and what stays far off, as more essays go to people."""
    rows = [*kept]
    curves = [("exact", [row.exact.value for row in rows]), ("far", [row.far.value for row in rows])]
    summary = f"{name}: share of exact grades, and of grades far off, as more essays are handed to people"
    return curve_plot(summary, [row.share for row in rows], curves)


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    ours = (number, percent, shown, interval, band_name, by_attribute, zip)
    environment.filters.update({each.__name__: each for each in ours})
    return environment


def _coverage_rows(prompt: PromptValidity) -> list[Row]:
    bands = [Row(f"{prompt.prompt_id}, {band_name(band)}", band.coverage) for band in prompt.bands]
    return [Row(prompt.prompt_id, prompt.coverage), *(bands if len(bands) > 1 else [])]


def _around_zero(rows: Sequence[Row]) -> Scale:
    """As far to the left as to the right, at least .3."""
    ends = [abs(end) for row in rows for end in (row.number.value, *row.number.interval) if not math.isnan(end)]
    furthest = math.ceil(10 * max([0.3, *ends])) / 10
    return Scale(-furthest, furthest, 0.1 if furthest <= 0.4 else 0.2)
