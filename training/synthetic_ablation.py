"""What each kind of synthetic essay is worth: dev QWK with and without it, and how sure the difference is.

Every arm has the same essays, dev part and seeds; only the synthetic essays differ. Test essays are not looked at.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from essays.metrics import percentile_interval
from training.fold_scores import FoldScores
from training.objective import matched_qwk

NONE = "none"
"""The arm without synthetic essays, which the others are compared with."""
_COVERAGE = 0.95


@dataclass(frozen=True)
class Arm:
    """One model trained with one kind of synthetic essays, by seed."""

    model: str
    kind: str
    num_children: int
    dev: Mapping[int, FoldScores]
    """Scores of dev essays by training seed, in the same order for every arm."""


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    model: str
    kind: str
    num_children: int
    seeds: tuple[int, ...]
    dev_qwk: float
    """Mean over seeds, spread matched."""
    deviation: float
    """Over seeds; nan with one."""
    gain: float
    """Over the arm without, mean over the seeds that both have; 0 for that arm itself."""
    interval: tuple[float, float]
    """95 % of the gain over resampled dev essays, seeds kept."""


def compare(arms: Sequence[Arm], num_resamples: int, seed: int) -> list[Row]:
    """A row for each arm. An arm without a seed in common with its baseline has a gain of nan."""
    baselines = {arm.model: arm for arm in arms if arm.kind == NONE}
    return [_row(arm, baselines.get(arm.model), num_resamples, seed) for arm in arms]


def dev_part(scores: FoldScores) -> FoldScores:
    """The dev essays, by their ids."""
    dev = scores.rows(scores.parts == "dev")
    return dev.rows(np.argsort(dev.essay_ids))


def table(rows: Sequence[Row]) -> str:
    """The rows as Markdown."""
    lines = [
        f"| `{row.model}` | {row.kind} | {row.num_children} | {len(row.seeds)} | {row.dev_qwk:.3f}"
        f" | {_signed(row.deviation)[1:] or '–'} | {_signed(row.gain)} | {' to '.join(map(_signed, row.interval))} |"
        for row in rows
    ]
    head = "| model | kind | synthetic essays | seeds | dev QWK | s.d. | gain | 95 % interval |"
    return "\n".join([head, "|---|---|---|---|---|---|---|---|", *lines])


def _row(arm: Arm, baseline: Arm | None, num_resamples: int, seed: int) -> Row:
    found = [_qwk(scores) for scores in arm.dev.values()]
    common = [own for own in arm.dev if baseline is not None and own in baseline.dev]
    gain, interval = float("nan"), (float("nan"), float("nan"))
    if baseline is not None and common:
        pairs = [(arm.dev[own], baseline.dev[own]) for own in common]
        gain = _gain(pairs, None)
        interval = percentile_interval(_resampled_gains(pairs, num_resamples, seed), _COVERAGE)
    return Row(
        model=arm.model,
        kind=arm.kind,
        num_children=arm.num_children,
        seeds=tuple(arm.dev),
        dev_qwk=float(np.mean(found)),
        deviation=float(np.std(found, ddof=1)) if len(found) > 1 else float("nan"),
        gain=gain,
        interval=interval,
    )


def _resampled_gains(
    pairs: Sequence[tuple[FoldScores, FoldScores]], num_resamples: int, seed: int
) -> NDArray[np.float64]:
    """The gain on essays drawn with replacement within each prompt, (num_resamples,)."""
    random, prompt_ids = np.random.default_rng(seed), pairs[0][0].prompt_ids
    places = [np.flatnonzero(prompt_ids == name) for name in np.unique(prompt_ids)]
    draws = (np.concatenate([random.choice(own, len(own)) for own in places]) for _ in range(num_resamples))
    return np.array([_gain(pairs, chosen) for chosen in draws])


def _gain(pairs: Sequence[tuple[FoldScores, FoldScores]], chosen: NDArray | None) -> float:
    return float(np.mean([_qwk(ours, chosen) - _qwk(theirs, chosen) for ours, theirs in pairs]))


def _qwk(scores: FoldScores, chosen: NDArray | None = None) -> float:
    picked = scores if chosen is None else scores.rows(chosen)
    return matched_qwk(picked.raw_unit_scores, picked.human_scores, picked.prompt_ids.tolist())


def _signed(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:+.3f}"
