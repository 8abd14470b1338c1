"""Plots for a page of HTML, as places that its template draws: sharp at any width, in the page's own colours.

Across, a place is a percentage of the plot's width, so that labels keep their size on a narrow screen; down, it is in
pixels. What a plot says stands in a table beside it, so a plot needs no words for every mark.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from essays.bars import Measured

ROW_PX = 40
CURVE_PX = 150
# Marks at either end of the scale stay whole.
_EDGE_PERCENT = 2.0
# Room for the words of a vertical axis.
_AXIS_PERCENT = 14.0


@dataclass(frozen=True)
class Scale:
    """The numbers that a plot spans."""

    low: float
    high: float
    step: float
    """Between ticks, which lie on multiples of it."""

    def place(self, value: float) -> float:
        """Per cent of the width; what lies outside goes to the nearer end."""
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return round(_EDGE_PERCENT + (100 - 2 * _EDGE_PERCENT) * share, 2)

    def ticks(self) -> list[float]:
        """The numbers to write below."""
        first, last = math.ceil(self.low / self.step - 1e-6), math.floor(self.high / self.step + 1e-6)
        return [round(index * self.step, 6) for index in range(first, last + 1)]


@dataclass(frozen=True)
class Row:
    """A number to show, with its name above it."""

    label: str
    number: Measured
    beside: tuple[tuple[str, float], ...] = ()
    """Other numbers on the same line, by the kind of their mark; what is undefined is not drawn."""


@dataclass(frozen=True)
class Mark:
    """A number's place."""

    kind: str
    x: float


@dataclass(frozen=True)
class DrawnRow:
    """A row's places."""

    label: str
    number: Measured
    y: int
    """Of the line, in pixels."""
    x: float
    interval: tuple[float, float] | None
    marks: tuple[Mark, ...]


@dataclass(frozen=True)
class DotPlot:
    """Numbers with their intervals, a row for each, before the zone that their bar allows."""

    summary: str
    """What the plot shows, in one sentence, for who does not see it."""
    rows: tuple[DrawnRow, ...]
    zone: tuple[float, float] | None
    """The ends of the bar that all rows share."""
    ticks: tuple[tuple[float, float], ...]
    """Place and number."""
    height: int


@dataclass(frozen=True)
class Curve:
    """One share as essays are handed off."""

    kind: str
    points: tuple[tuple[float, float], ...]
    """Across in per cent, down in pixels."""
    values: tuple[float, ...]


@dataclass(frozen=True)
class CurvePlot:
    """Shares, from 0 at the bottom to 1 at the top, against the share of essays kept."""

    summary: str
    curves: tuple[Curve, ...]
    ticks: tuple[tuple[float, float], ...]
    """Place and share kept."""
    height: int


def dot_plot(summary: str, rows: Sequence[Row], scale: Scale) -> DotPlot:
    """The plot; what is undefined has no row."""
    shown = [row for row in rows if not math.isnan(row.number.value)]
    zones = {(row.number.bar.low, row.number.bar.high) for row in shown if row.number.bar}
    (zone,) = zones if len(zones) == 1 else [None]
    return DotPlot(
        summary=summary,
        rows=tuple(_drawn(row, index, scale) for index, row in enumerate(shown)),
        zone=zone and (scale.place(zone[0]), scale.place(zone[1])),
        ticks=tuple((scale.place(tick), tick) for tick in scale.ticks()),
        height=ROW_PX * len(shown),
    )


def curve_plot(summary: str, kept: Sequence[float], curves: Sequence[tuple[str, Sequence[float]]]) -> CurvePlot:
    """The plot of curves by their kind, a value in [0, 1] for each share kept."""
    inside = 100 - _AXIS_PERCENT - _EDGE_PERCENT
    places = [round(_AXIS_PERCENT + inside * (1 - share) / (1 - min(kept)), 2) for share in kept]  # all at the left
    return CurvePlot(
        summary=summary,
        curves=tuple(
            Curve(
                kind,
                tuple((x, round(CURVE_PX * (1 - value), 1)) for x, value in zip(places, values, strict=True)),
                tuple(values),
            )
            for kind, values in curves
        ),
        ticks=tuple(zip(places, kept, strict=True)),
        height=CURVE_PX,
    )


def _drawn(row: Row, index: int, scale: Scale) -> DrawnRow:
    low, high = row.number.interval
    known = not (math.isnan(low) or math.isnan(high))
    return DrawnRow(
        label=row.label,
        number=row.number,
        y=ROW_PX * index + 28,
        x=scale.place(row.number.value),
        interval=(scale.place(low), scale.place(high)) if known else None,
        marks=tuple(Mark(kind, scale.place(value)) for kind, value in row.beside if not math.isnan(value)),
    )
