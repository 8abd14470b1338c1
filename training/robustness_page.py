"""`reports/robustness.html`: what each model did when essays were changed, and whether it should have."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from training.behaviours import Behaviour
from training.robustness import Changes

ROBUSTNESS_PAGE = Path("reports/robustness.html")
_TEMPLATE = "pages/robustness.html"
_STYLES = ("pages/validity.css", "pages/robustness.css")
_HERE = Path(__file__).parent
WIDEST = 0.5
"""Changes beyond half of the range are drawn at the plot's edge."""
_EDGE_PERCENT = 2.0


@dataclass(frozen=True)
class Strip:
    """One model's changes under one perturbation, as places in per cent of the width."""

    model: str
    points: tuple[float, ...]
    """One an essay."""
    mean: float
    words: str
    """The same for who does not see it."""


@dataclass(frozen=True)
class Part:
    """One perturbation: what was asked of each model, and every change."""

    name: str
    behaviours: tuple[Behaviour, ...]
    strips: tuple[Strip, ...]


def robustness_page(
    behaviours: Sequence[Behaviour],
    changes: Mapping[str, Mapping[str, Changes]],
    num_essays: Mapping[str, int],
    fold: int,
) -> str:
    """The page in HTML; `changes` by model and perturbation, `num_essays` of each prompt by model."""
    environment = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["measure"] = _measure
    return environment.get_template(_TEMPLATE).render(
        models={model: [each for each in behaviours if each.model == model] for model in _models(behaviours)},
        parts=[_part(name, behaviours, changes) for name in _perturbations(behaviours)],
        claims=list(dict.fromkeys(each.perturbation for each in behaviours if each.model != "gate")),
        num_essays=num_essays,
        fold=fold,
        ticks=[(place_of(value), f"{value:+.0%}" if value else "0") for value in (-0.5, -0.25, 0.0, 0.25, 0.5)],
        style="".join((_HERE / name).read_text(encoding="utf-8") for name in _STYLES),
    )


def place_of(change: float) -> float:
    """Where a change is drawn, in per cent of the width."""
    share = (min(max(change, -WIDEST), WIDEST) + WIDEST) / (2 * WIDEST)
    return round(_EDGE_PERCENT + (100 - 2 * _EDGE_PERCENT) * share, 2)


def _part(name: str, behaviours: Sequence[Behaviour], changes: Mapping[str, Mapping[str, Changes]]) -> Part:
    return Part(
        name,
        tuple(each for each in behaviours if each.model != "gate" and _perturbation(each) == name),
        tuple(_strip(model, found[name]) for model, found in changes.items() if name in found),
    )


def _strip(model: str, changes: Changes) -> Strip:
    deltas = changes.delta
    mean = float(deltas.mean())
    words = (
        f"{model}: {len(deltas)} essays, mean change {mean:+.1%} of the range, from {deltas.min():+.1%} to"
        f" {deltas.max():+.1%}; the gate keeps {changes.flagged.mean():.0%} from a score"
    )
    return Strip(model, tuple(place_of(float(delta)) for delta in deltas), place_of(mean), words)


def _models(behaviours: Sequence[Behaviour]) -> list[str]:
    return list(dict.fromkeys(each.model for each in behaviours))


def _perturbations(behaviours: Sequence[Behaviour]) -> list[str]:
    return list(dict.fromkeys(_perturbation(each) for each in behaviours if each.model != "gate"))


def _perturbation(behaviour: Behaviour) -> str:
    return behaviour.perturbation.partition(":")[0]


def _measure(value: float) -> str:
    return f"{value:.3f}".rstrip("0").rstrip(".") if abs(value) < 1000 else "refused"
