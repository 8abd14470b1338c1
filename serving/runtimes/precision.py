"""Which precision each model runs at: fp32, or a lower one that passed the gate and that this CPU multiplies.

Whether a precision keeps the grades is measured before publication (`export.precisions`) and stands in the manifest;
nothing is measured here, and no setting overrules it. All models run at one precision or in fp32, so that an ensemble
mixes what was measured together.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from essays.console import say
from essays.errors import BadParams
from essays.manifest import Manifest, Precision

PrecisionSetting = Literal["auto", "fp32", "bf16", "int8"]
_FASTEST_FIRST: tuple[Precision, ...] = ("int8", "bf16")


def choose_precisions(
    manifests: Sequence[Manifest],
    runtime_of: Callable[[Manifest], str],
    multiplies: Callable[[Precision], bool],
    setting: PrecisionSetting,
) -> dict[str, Precision]:
    """The precision of each single model by name; says which one was chosen, and why a model does not take part.

    `multiplies` says whether the machine has instructions for a precision. Raises BadParams when the settings name one
    that the machine lacks or that no model may be served at.
    """
    singles = [manifest for manifest in manifests if manifest.graphs]
    chosen: dict[str, Precision] = {manifest.name: "fp32" for manifest in singles}
    for precision in _FASTEST_FIRST if setting == "auto" else () if setting == "fp32" else (setting,):
        objections = {each.name: _objection(each, precision, manifests, runtime_of(each)) for each in singles}
        able = [name for name, objection in objections.items() if objection is None]
        if setting != "auto":
            _require_usable(precision, objections, multiplies(precision))
        if able and multiplies(precision):
            _say_chosen(precision, objections)
            return {**chosen, **dict.fromkeys(able, precision)}
    return chosen


def _objection(model: Manifest, precision: Precision, manifests: Sequence[Manifest], runtime: str) -> str | None:
    """Why a model may not run at this precision, if so."""
    parity = model.parity_at(precision)
    if parity is None:
        return f"its bundle was not published for {precision}"
    if parity.runtime != runtime:
        return f"{precision} was measured on {parity.runtime}, and it runs on {runtime}"
    for ensemble in manifests:
        mixed = any(member.name == model.name for member in ensemble.members)
        if mixed and ensemble.parity_at(precision) is None:
            return f"{ensemble.name}, which mixes it, was not published for {precision}"
    return None


def _require_usable(precision: Precision, objections: Mapping[str, str | None], multiplied: bool) -> None:
    if not multiplied:
        raise BadParams(
            f"service.precision: this CPU has no instructions for {precision}, which would only lose digits; choose"
            " auto or fp32"
        )
    if objections and all(objections.values()):
        reasons = "; ".join(f"{name}: {objection}" for name, objection in objections.items())
        raise BadParams(f"service.precision: no model can be served at {precision}: {reasons}; choose auto or fp32")


def _say_chosen(precision: Precision, objections: Mapping[str, str | None]) -> None:
    for name, objection in objections.items():
        say(f"{name} runs at {precision}" if objection is None else f"{name} runs at fp32: {objection}")
