"""`reports/evaluation.md`: the results as tables that a person reads, with the plots below them."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from training.bands import pooled_bands
from training.bars import missed_measures
from training.baselines import BASELINES
from training.summary import CorpusSummary, PromptSummary

Row = Sequence[str]

_INTRODUCTION = """\
Written by `python -m pipelines.evaluate`. Each number is measured on test essays that neither training nor any choice
has seen, a mean where there are several folds (here: {folds}), or a share of all their essays; brackets hold
{coverage:.0%} bootstrap intervals.
`two raters` is how well rater 1 and rater 2 agree on the same test essays, where their scores are published.
`length-only` sees nothing but the number of words, and `mean-grade` nothing at all. `dev mean` is no result:
calibration chose on those essays.
"""
_BARS = """\
A number in **bold** misses its bar: QWK of at least .70 and at most .10 below the two raters, a standardized mean
difference (SMD) within ±.15, a spread of grades of .90 to 1.10 times the humans', a share of human scores inside the
interval at most .02 from what it promises, and 95 of 100 grades within one step on scales of up to six grades. `width`
is the mean distance between an interval's ends, in points of the scale. A share is as sure as its essays are many: 90
of 100 may as well be 84 or 96.
"""


def evaluation_page(summaries: Sequence[CorpusSummary], coverage: float, plots: Sequence[tuple[str, str]]) -> str:
    """The page in Markdown; `plots` are captions and paths relative to it."""
    folds = sorted({result.fold for summary in summaries for part in summary.prompts for result in part.results})
    named = f"fold{'s' * (len(folds) > 1)} {', '.join(map(str, folds))}"
    lines = ["# Evaluation", "", _INTRODUCTION.format(folds=named, coverage=coverage), _BARS]
    for corpus in sorted({summary.corpus for summary in summaries}):
        here = [summary for summary in summaries if summary.corpus == corpus]
        lines += [f"## {corpus}: QWK", "", *qwk_table(here, coverage), ""]
        lines += [f"## {corpus}: agreement, prompt by prompt", "", *agreement_table(here, coverage), ""]
        lines += [f"## {corpus}: intervals, band by band", "", *band_table(here), ""]
    for caption, path in plots:
        lines += [f"## {caption}", "", f"![{caption}]({path})", ""]
    return "\n".join(lines)


def write_page(page: str, path: Path) -> None:
    """The page, in UTF-8."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")


def qwk_table(summaries: Sequence[CorpusSummary], coverage: float) -> list[str]:
    """A row for each model, a column for each prompt, and the means over prompts."""
    prompts = summaries[0].prompts
    header = ["", *(prompt.prompt_id for prompt in prompts), "mean", "Fisher-z mean", "dev mean"]
    raters = [number(prompt.mean("human_qwk")) for prompt in prompts]
    rows = [["two raters", *raters, number(summaries[0].mean("human_qwk")), "", ""]]
    for summary in summaries:
        mean = _with_interval(summary.mean("qwk"), summary.qwk_interval(coverage))
        kappas = [number(prompt.mean("qwk")) for prompt in summary.prompts]
        rows.append([summary.model, *kappas, mean, number(summary.fisher_qwk()), number(summary.mean("dev_qwk"))])
    return table(header, rows)


def agreement_table(summaries: Sequence[CorpusSummary], coverage: float) -> list[str]:
    """A row for each prompt and model."""
    header = ["prompt", "model", "essays", "QWK", "exact", "within a step", "SMD", "spread", "covered", "width"]
    return table(header, (_agreement_row(prompt, coverage) for prompt in _by_prompt(summaries)))


def band_table(summaries: Sequence[CorpusSummary]) -> list[str]:
    """A row for each prompt, model and band; baselines are left out."""
    header = ["prompt", "model", "scores", "essays", "covered", "width"]
    prompts = [prompt for prompt in _by_prompt(summaries) if prompt.model not in BASELINES]
    return table(header, (row for prompt in prompts for row in _band_rows(prompt)))


def table(header: Row, rows: Iterable[Row]) -> list[str]:
    """Lines of a Markdown table, the first column to the left and all else to the right."""
    rule = [":--", *("--:" for _ in header[1:])]
    return [f"| {' | '.join(cells)} |" for cells in (header, rule, *rows)]


def _by_prompt(summaries: Sequence[CorpusSummary]) -> list[PromptSummary]:
    prompts = [prompt for summary in summaries for prompt in summary.prompts]
    return sorted(prompts, key=lambda prompt: prompt.prompt_id)  # stable: models keep their order


def _agreement_row(prompt: PromptSummary, coverage: float) -> Row:
    missed = set() if prompt.model in BASELINES else missed_measures(prompt)
    texts = {measure: number(prompt.mean(measure)) for measure in ("smd", "sd_ratio")}
    texts |= {measure: number(prompt.share(measure)) for measure in ("exact", "adjacent", "coverage")}
    texts["qwk"] = _with_interval(prompt.mean("qwk"), prompt.qwk_interval(coverage))
    bold = {measure: f"**{text}**" if measure in missed else text for measure, text in texts.items()}
    shown = [bold[measure] for measure in ("qwk", "exact", "adjacent", "smd", "sd_ratio", "coverage")]
    width = number(prompt.mean("interval_width"), places=2)
    return [prompt.prompt_id, prompt.model, str(prompt.num_essays), *shown, width]


def _band_rows(prompt: PromptSummary) -> Iterable[Row]:
    for band in pooled_bands(prompt):
        ends, width = f"{band.from_score:.3g} to {band.to_score:.3g}", number(band.mean_width, places=2)
        yield [prompt.prompt_id, prompt.model, ends, str(band.num_essays), number(band.coverage), width]


def _with_interval(value: float, interval: tuple[float, float]) -> str:
    return f"{number(value)} [{number(interval[0])}, {number(interval[1])}]"


def number(value: float, places: int = 3) -> str:
    """`.712`, as agreements are written; a dash for what is undefined."""
    if math.isnan(value):
        return "–"
    text = f"{value:z.{places}f}"  # z: no -0
    return text.replace("0.", ".", 1) if text.removeprefix("-").startswith("0.") else text
