"""The plot: seconds and memory against tokens."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

_STYLE: dict[Any, Any] = {"svg.hashsalt": "fairmark", "svg.fonttype": "none", "font.size": 9}


def draw(runs: Sequence[dict[str, Any]], path: Path) -> None:
    """CPU seconds, and peak memory beside what admission asks for; the same bytes for the same numbers."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(9, 3.4), layout="constrained")
        times, memory = figure.subplots(1, 2)
        for precision in dict.fromkeys(run["precision"] for run in runs):
            mine = [run for run in runs if run["precision"] == precision]
            tokens = [run["tokens"] for run in mine]
            times.plot(tokens, [run["cpu_s"] for run in mine], marker="o", label=precision)
            memory.plot(tokens, [run["run_mb"] for run in mine], marker="o", label=f"{precision}, measured")
        longest = [run for run in runs if run["precision"] == runs[0]["precision"]]
        asked = [run["admission_mb"] for run in longest]
        memory.plot([run["tokens"] for run in longest], asked, linestyle="--", color="grey", label="asked for")
        times.set(xlabel="tokens", ylabel="CPU seconds on one thread", ylim=(0, None))
        memory.set(xlabel="tokens", ylabel="MB above the loaded graph", ylim=(0, None))
        for axes in (times, memory):
            axes.legend(frameon=False)
            axes.grid(alpha=0.3)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, metadata={"Date": None, "Creator": None})
