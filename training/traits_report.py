"""`reports/traits.{json,md,svg}`: agreement with people on each trait, beside what could stand in its place."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from training.plots import BLUE, GREY, ORANGE, STYLE
from training.report import number, table
from training.trait_files import TraitMeasures

Measured = Mapping[str, Sequence[TraitMeasures]]
"""By model."""

_INTRODUCTION = """\
Written by `python -m pipelines.traits_report`, from the test part of fold {fold}, which neither training nor any choice
has seen; brackets hold {coverage:.0%} bootstrap intervals. Each trait has a ridge head on the model's pooled states,
pulled toward its holistic head.

`holistic` is the model's own holistic score in the trait's place and `length-only` the number of words, both
calibrated for the trait on the same dev essays as the head. `gain` is the head's QWK minus that of `holistic`, the same
essays drawn for both: where its interval is not above 0 the head is **no better** than the holistic score, and says
little of the trait alone. `people` is the humans' holistic score in the trait's place: people score traits much alike.
"""
_NONE = "No model scores traits here: the corpora have none, none is chosen to, or the fold has no test part.\n"


def traits_tree(measured: Measured, fold: int) -> dict[str, Any]:
    """The numbers, for `dvc metrics diff`."""
    return {
        model: {each.name: {"fold": fold, **_numbers(each)} for each in traits} for model, traits in measured.items()
    }


def traits_page(measured: Measured, fold: int, coverage: float, plot: str) -> str:
    """The page in Markdown; `plot` is a path relative to it."""
    if not measured:
        return f"# Traits\n\n{_NONE}"
    lines = ["# Traits", "", _INTRODUCTION.format(fold=fold, coverage=coverage)]
    for model, traits in measured.items():
        lines += [f"## {model}", "", *_agreement(traits), "", *_calibration(traits), ""]
    return "\n".join([*lines, f"![QWK by trait, beside the holistic score and length alone]({plot})", ""])


def traits_figure(measured: Measured) -> Figure:
    """QWK of each head with its interval, beside the holistic score and length in its place; a panel for each model."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 3.2 * max(len(measured), 1)), layout="constrained")
        if not measured:
            figure.text(0.5, 0.5, "not measured", ha="center")
            return figure
        grid = figure.subplots(len(measured), 1, squeeze=False).ravel().tolist()
        for axes, (model, traits) in zip(grid, measured.items(), strict=True):
            _draw(axes, traits)
            axes.set_title(model, fontsize=10)
    return figure


def _draw(axes: Axes, traits: Sequence[TraitMeasures]) -> None:
    rows = range(len(traits))
    for row, each in enumerate(traits):
        axes.plot(each.qwk_interval, (row, row), color=BLUE, linewidth=1.5, marker="|", markersize=6)
    marks = (
        ([each.qwk for each in traits], "o", BLUE, "its own head"),
        ([each.holistic_qwk for each in traits], "D", ORANGE, "holistic score in its place"),
        ([each.length_qwk for each in traits], "x", GREY, "length alone"),
    )
    for values, marker, colour, label in marks:
        axes.plot(values, rows, linestyle="none", marker=marker, color=colour, label=label, markersize=5)
    axes.set_yticks(list(rows), [each.name for each in traits])
    axes.invert_yaxis()
    axes.legend(frameon=False, fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    axes.set(xlabel="QWK on test essays", xlim=(0, 1))


def _agreement(traits: Sequence[TraitMeasures]) -> list[str]:
    header = ["trait", "essays", "QWK", "holistic", "gain", "better?", "length-only", "people", "dev"]
    return table(header, (_agreement_row(each) for each in traits))


def _agreement_row(each: TraitMeasures) -> list[str]:
    verdict = "yes" if each.quality.beats_holistic else "**no better**"
    gain = _with_interval(each.qwk - each.holistic_qwk, each.gain_interval)
    return [
        each.name,
        str(each.num_essays),
        _with_interval(each.qwk, each.qwk_interval),
        number(each.holistic_qwk),
        gain,
        verdict,
        *(number(value) for value in (each.length_qwk, each.people_qwk, each.dev_qwk)),
    ]


def _calibration(traits: Sequence[TraitMeasures]) -> list[str]:
    header = ["trait", "within a step", "SMD", "spread", "covered", "width"]
    return table(
        header,
        (
            [
                each.name,
                *(number(value) for value in (each.adjacent, each.smd, each.sd_ratio, each.coverage)),
                number(each.interval_width, places=2),
            ]
            for each in traits
        ),
    )


def _numbers(each: TraitMeasures) -> dict[str, Any]:
    rounded = {
        name: round(value, 4) if isinstance(value, float) else value
        for name, value in each.model_dump(exclude={"name", "qwk_interval", "gain_interval"}).items()
    }
    low, high = each.qwk_interval
    gain_low, gain_high = each.gain_interval
    bounds = {"qwk_low": low, "qwk_high": high, "gain_low": gain_low, "gain_high": gain_high}
    return {
        **rounded,
        **{name: round(value, 4) for name, value in bounds.items()},
        "better_than_holistic": each.quality.beats_holistic,
    }


def _with_interval(value: float, interval: tuple[float, float]) -> str:
    return f"{number(value)} [{number(interval[0])}, {number(interval[1])}]"
