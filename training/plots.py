"""Plots of results and learning curves, as SVG or PNG, the same bytes for the same numbers.

Figures are made without pyplot: nothing global, no display. Colours are those of Okabe and Ito, told apart by
colour-blind readers, and no meaning rests on colour alone.
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from essays.metrics import confusion_matrix
from training.baselines import BASELINES, MEAN_GRADE
from training.evaluate import PromptResult
from training.learning_curves import LearningCurve
from training.summary import CorpusSummary, PromptSummary

BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#8c8c8c"
LINE_COLOURS = (BLUE, ORANGE, GREEN, PURPLE, "#d55e00", "#56b4e9")
STYLE: dict[Any, Any] = {
    # Ids inside an SVG are random without a salt; text stays text, so that it can be read and searched.
    "svg.hashsalt": "fairmark",
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
}
_PANEL_INCHES = 3.2
_MOST_COLUMNS = 4
# Above this many grades a confusion matrix has no room for numbers.
_MOST_NUMBERED_GRADES = 13
# Multiples of the golden ratio, modulo 1, fill an interval evenly.
_GOLDEN = 0.6180339887498949

Panel = TypeVar("Panel")


def draw_plots(
    results: Sequence[PromptResult],
    summaries: Sequence[CorpusSummary],
    curves: Sequence[LearningCurve],
    coverage: float,
    folder: Path,
) -> list[tuple[str, Path]]:
    """Every plot of a report, as SVG in `folder`, in place of what older models left there: captions and paths."""
    for old in folder.glob("*.svg"):
        old.unlink()
    drawn = [("QWK beside the two raters and length alone", "qwk", qwk_figure(summaries, coverage))]
    drawn += [("Learning curves", "learning_curves", learning_figure(curves))]
    for model in dict.fromkeys(result.model for result in results if result.model not in BASELINES):
        own = [result for result in results if result.model == model]
        drawn += [(f"{model}: grades against human scores", f"confusion_{model}", confusion_figure(own))]
        drawn += [(f"{model}: scores before rounding", f"predicted_vs_human_{model}", predicted_figure(own))]
    return [(caption, save_figure(figure, folder / f"{name}.svg")) for caption, name, figure in drawn]


def save_figure(figure: Figure, path: Path) -> Path:
    """Write the figure as its suffix says (`.svg`, `.png`), without the date that matplotlib would add."""
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = {"Date": None, "Creator": None} if path.suffix == ".svg" else {"Software": None}
    with mpl.rc_context(STYLE):
        figure.savefig(path, metadata=metadata, dpi=110)
    return path


def confusion_figure(results: Sequence[PromptResult]) -> Figure:
    """Human scores against grades, a panel for each prompt, folds counted together."""
    return _panels(_by_prompt(results), _draw_confusion)


def predicted_figure(results: Sequence[PromptResult]) -> Figure:
    """Each test essay's score before rounding above its human score, a panel for each prompt."""
    return _panels(_by_prompt(results), _draw_predicted)


def qwk_figure(summaries: Sequence[CorpusSummary], coverage: float) -> Figure:
    """QWK of every model with its interval, beside length alone and the two human raters, a panel for each prompt."""
    panels: dict[str, list[PromptSummary]] = {}
    for prompt in (prompt for summary in summaries for prompt in summary.prompts):
        if prompt.model != MEAN_GRADE:  # always 0
            panels.setdefault(prompt.prompt_id, []).append(prompt)
    return _panels(panels, lambda axes, prompts: _draw_qwk(axes, prompts, coverage))


def learning_figure(curves: Sequence[LearningCurve]) -> Figure:
    """QWK on dev and loss on train, by epoch, a panel for each model and a line for each fold."""
    panels: dict[str, list[LearningCurve]] = {}
    for curve in curves:
        panels.setdefault(curve.model, []).append(curve)
    return _panels(panels, _draw_curves)


def _panels(panels: Mapping[str, Panel], draw: Callable[[Axes, Panel], None]) -> Figure:
    """A grid of titled panels."""
    num_columns = min(len(panels), _MOST_COLUMNS)
    num_rows = -(-len(panels) // num_columns)
    with mpl.rc_context(STYLE):
        size = (max(num_columns, 1.4) * _PANEL_INCHES, num_rows * _PANEL_INCHES)
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(num_rows, num_columns, squeeze=False).ravel().tolist()
        for axes, (title, panel) in zip(grid, panels.items(), strict=False):
            axes.set_title(title, fontsize=10)
            draw(axes, panel)
        for axes in grid[len(panels) :]:
            axes.set_visible(False)
    return figure


def _by_prompt(results: Sequence[PromptResult]) -> dict[str, list[PromptResult]]:
    prompts: dict[str, list[PromptResult]] = {}
    for result in results:
        prompts.setdefault(result.prompt.prompt_id, []).append(result)
    return prompts


def _draw_confusion(axes: Axes, results: Sequence[PromptResult]) -> None:
    score_range = results[0].prompt.score_range
    counts = np.sum([confusion_matrix(each.human_scores, each.grades, score_range) for each in results], axis=0)
    grades = score_range.grades()
    edge = score_range.step / 2
    extent = (grades[0] - edge, grades[-1] + edge, grades[0] - edge, grades[-1] + edge)
    axes.imshow(counts, cmap="Blues", origin="lower", extent=extent, vmin=0, interpolation="nearest")
    if len(grades) <= _MOST_NUMBERED_GRADES:
        axes.set_xticks(grades)
        axes.set_yticks(grades)
        for row, column in np.argwhere(counts):
            colour = "white" if counts[row, column] > counts.max() / 2 else "black"
            text = axes.text(grades[column], grades[row], str(counts[row, column]), fontsize=6, color=colour)
            text.set(ha="center", va="center")
    axes.set(xlabel="grade", ylabel="human score")


def _draw_predicted(axes: Axes, results: Sequence[PromptResult]) -> None:
    score_range = results[0].prompt.score_range
    human = np.concatenate([result.human_scores for result in results])
    predicted = np.concatenate([result.predicted for result in results])
    # Spread sideways, so that essays of one score do not hide each other; by rank, not by chance.
    sideways = ((np.arange(len(human)) * _GOLDEN) % 1 - 0.5) * 0.6 * score_range.step
    ends = [score_range.low, score_range.high]
    axes.plot(ends, ends, color=GREY, linewidth=1)
    # One point in an SVG for each essay would make megabytes: points are an image inside it.
    axes.scatter(human + sideways, predicted, s=5, color=BLUE, alpha=0.35, linewidths=0, rasterized=True)
    given = np.unique(human)
    means = [predicted[human == score].mean() for score in given]
    axes.plot(given, means, "D", color=ORANGE, markeredgecolor="black", markersize=4, label="mean")
    axes.legend(frameon=False, loc="upper left")
    axes.set(xlabel="human score", ylabel="score before rounding")


def _draw_qwk(axes: Axes, prompts: Sequence[PromptSummary], coverage: float) -> None:
    kappas = [prompt.mean("qwk") for prompt in prompts]
    intervals = [prompt.qwk_interval(coverage) for prompt in prompts]
    colours = [GREY if prompt.model in BASELINES else BLUE for prompt in prompts]
    names = [prompt.model for prompt in prompts]
    axes.barh(names, kappas, color=colours)
    for name, (low, high) in zip(names, intervals, strict=True):
        axes.plot([low, high], [name, name], color="black", linewidth=1.2, marker="|", markersize=5)
    label, human = "QWK on test essays", prompts[0].mean("human_qwk")
    if not math.isnan(human):
        axes.axvline(human, color=ORANGE, linewidth=2)
        label += f" (line: two raters, {human:.3f})"
    axes.invert_yaxis()
    axes.set(xlabel=label, xlim=(min(0.0, *(low for low, _ in intervals)), 1))


def _draw_curves(axes: Axes, curves: Sequence[LearningCurve]) -> None:
    loss_axes = axes.twinx()
    for curve, colour in zip(curves, itertools.cycle(LINE_COLOURS)):
        label = f"fold {curve.fold}"
        axes.plot(curve.column("epoch"), curve.column("dev_qwk"), marker="o", markersize=3, color=colour, label=label)
        loss_axes.plot(curve.column("epoch"), curve.column("loss"), linestyle=":", marker=".", color=colour)
    axes.legend(frameon=False, fontsize=7, loc="center right")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="epoch", ylabel="QWK on dev (line)", xlim=(0.5, max(len(curve.rows) for curve in curves) + 0.5))
    loss_axes.set_ylabel("loss on train (dots)")
