"""The plot: three bars for each server, longest name first to read."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.speed.summary import Row

OURS, OTHERS = "#0072b2", "#8c8c8c"
_STYLE: dict[Any, Any] = {
    # Ids inside an SVG are random without a salt; text stays text, so that it can be read and searched.
    "svg.hashsalt": "fairmark",
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
_PANELS = (
    ("essays_per_s", 8, "essays/s at concurrency 8\n(more is better)"),
    ("p50_ms", 1, "p50 ms at concurrency 1\n(less is better)"),
    ("cpu_ms_per_essay", 1, "CPU ms per essay at concurrency 1\n(less is better)"),
)


def draw(rows: Sequence[Row], path: Path) -> None:
    """Servers that are not void, this project's in colour; the same bytes for the same numbers."""
    with mpl.rc_context(_STYLE):
        names = list(dict.fromkeys(row["server"] for row in rows))
        figure = Figure(figsize=(11, 1.2 + 0.28 * len(names)), layout="constrained")
        panels = figure.subplots(1, len(_PANELS), squeeze=False).ravel().tolist()
        for axes, (key, concurrency, title) in zip(panels, _PANELS, strict=True):
            _draw_panel(axes, [row for row in rows if row["concurrency"] == concurrency], key)
            axes.set_title(title, fontsize=9)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, metadata={"Date": None, "Creator": None})


def _draw_panel(axes: Axes, rows: Sequence[Row], key: str) -> None:
    shown = [row for row in rows if row[key] is not None]
    if not shown:
        axes.set_axis_off()
        axes.text(0.5, 0.5, "not measured", ha="center", transform=axes.transAxes)
        return
    names, values = [row["server"] for row in shown], [row[key] for row in shown]
    bars = axes.barh(names, values, color=[OURS if name.startswith("fairmark") else OTHERS for name in names])
    axes.bar_label(bars, fmt="{:.1f}", padding=3, fontsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.15)
