"""The parity gate for precisions below fp32: what they change on every held-out essay, and whether that may be served.

Scores are made one essay at a time by the runtime that serves them, and compared with the checkpoint's. What rounding
the weights moves alike for all essays of a prompt is measured on dev essays, as calibration is, and taken back first.
A precision that fails is not published, and the service runs none that is not (docs/decisions/0017).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from essays.calibration import Calibration
from essays.console import Progress, say
from essays.encoding import Arrays, Encoder
from essays.ensemble import EnsembleWeights, mix_unit_scores
from essays.errors import StageFailed
from essays.manifest import Precision, PrecisionParity, TraitPrecision
from essays.metrics import quadratic_weighted_kappa
from essays.params import Section
from essays.prompts import get_prompt
from export.config import ExportConfig
from training.fold_scores import FoldScores

if TYPE_CHECKING:
    import pandas as pd

BELOW_FP32: tuple[Precision, ...] = ("bf16", "int8")
Run = Callable[[Arrays], NDArray[np.float32]]
"""From an encoder's arrays to raw unit scores, (B,)."""
_FAR_OFF = -1.0
"""For a nan, which JSON cannot hold: the lowest grade, and a gap that no gate lets pass."""


class PrecisionScores(Section):
    """The same held-out essays at every precision, kept so that an ensemble's mixes can be judged too."""

    essay_ids: tuple[str, ...]
    prompt_ids: tuple[str, ...]
    human_scores: tuple[float, ...]
    raw: dict[str, tuple[float, ...]]
    """Raw unit scores by precision; those of fp32 are the checkpoint's own."""
    shifts: dict[str, dict[str, float]] = Field(default_factory=dict)
    """By precision and prompt: what `raw` holds of shifts already."""


def split_for_shifts(scores: FoldScores, per_prompt: int) -> tuple[PrecisionScores, PrecisionScores]:
    """Dev essays to measure shifts on, up to so many of each prompt, and the essays to judge by, with fp32's scores.

    Those are the whole test part; for a model that has none (decision 11) the rest of dev, at least half of it.
    """
    places = np.argsort(scores.essay_ids)
    dev, test = (places[scores.parts[places] == part] for part in ("dev", "test"))
    on: list[int] = []
    for prompt_id in scores.prompts():
        mine = dev[scores.prompt_ids[dev] == prompt_id]
        number = min(per_prompt, len(mine) if len(test) else len(mine) // 2)
        on += mine[np.linspace(0, len(mine) - 1, number).round().astype(int)].tolist()
    rest = test if len(test) else np.array([place for place in dev if place not in set(on)], dtype=np.int64)
    return _with_fp32(scores.rows(np.array(on, dtype=np.int64))), _with_fp32(scores.rows(rest))


def find_shifts(scored: PrecisionScores, precision: Precision) -> dict[str, float]:
    """By prompt, the mean of what this precision lacks of the checkpoint's scores."""
    lacks = np.subtract(scored.raw["fp32"], scored.raw[precision])
    prompt_ids = np.array(scored.prompt_ids)
    return {prompt_id: float(lacks[prompt_ids == prompt_id].mean()) for prompt_id in sorted(set(scored.prompt_ids))}


def score_at(
    scored: PrecisionScores,
    precision: Precision,
    run: Run,
    encoder: Encoder,
    essays: "pd.DataFrame",
    prompt_ids: Sequence[str],
) -> PrecisionScores:
    """`scored` with this precision too.

    `essays` holds the text of each, by essay_id, in any order; `prompt_ids` is in the order of `prompt_index`.
    """
    texts = essays.set_index("essay_id").text
    progress, raw = Progress(f"parity at {precision}", len(scored.essay_ids)), []
    for essay_id, prompt_id in zip(scored.essay_ids, scored.prompt_ids, strict=True):
        essay = encoder.encode(texts[essay_id], prompt_ids.index(prompt_id))
        raw.append(float(np.nan_to_num(run(encoder.collate([essay]))[0], nan=_FAR_OFF)))
        progress.update(len(raw))
    return scored.model_copy(update={"raw": {**scored.raw, precision: tuple(raw)}})


def judge(
    name: str,
    scored: PrecisionScores,
    calibration: Calibration,
    config: ExportConfig,
    traits: Mapping[Precision, Mapping[str, TraitPrecision]] | None = None,
) -> tuple[PrecisionParity, ...]:
    """The precisions that pass; says of each what was found, and why one is not published.

    `traits` is what each precision changes of the model's traits, where it scores any.
    """
    passed = []
    for precision in BELOW_FP32:
        if precision in scored.raw:
            parity = compare_precision(scored, precision, calibration)
            parity = parity.model_copy(update={"traits": dict((traits or {}).get(precision, {}))})
            faults = objections(parity, config)
            verdict = f"not published: {'; '.join(faults)}" if faults else "passes"
            say(
                f"{name} at {precision}  {parity.num_essays} essays  largest gap {parity.max_gap:.1e}"
                f"  same grade {parity.same_grade_share:.2%}  {verdict}"
            )
            passed += [] if faults else [parity]
    return tuple(passed)


def compare_precision(scored: PrecisionScores, precision: Precision, calibration: Calibration) -> PrecisionParity:
    """What a precision changes against the checkpoint."""
    prompt_ids = np.array(scored.prompt_ids)
    before, after = (np.array(scored.raw[name]) for name in ("fp32", precision))
    same, changes = np.zeros(len(prompt_ids), dtype=bool), dict[str, list[float]]()
    for prompt_id in sorted(set(scored.prompt_ids)):
        mine, prompt = prompt_ids == prompt_id, get_prompt(prompt_id)
        human = np.array(scored.human_scores)[mine]
        grades = [calibration.grades(prompt, raw[mine]).scores for raw in (before, after)]
        kappas = [quadratic_weighted_kappa(each, human, prompt.score_range) for each in grades]
        same[mine] = grades[0] == grades[1]
        # Where neither side varies kappa is nan: equal grades are no change, others as large a one as can be.
        change = 0.0 if same[mine].all() else float(np.nan_to_num(kappas[1] - kappas[0], nan=-1.0))
        changes.setdefault(prompt.corpus, []).append(change)
    return PrecisionParity(
        precision="int8" if precision == "int8" else "bf16",
        runtime="openvino",
        shifts=scored.shifts.get(precision, {}),
        num_essays=len(prompt_ids),
        max_gap=float(np.abs(after - before).max()),
        same_grade_share=float(same.mean()),
        qwk_changes={corpus: float(np.mean(each)) for corpus, each in changes.items()},
    )


def objections(parity: PrecisionParity, config: ExportConfig) -> list[str]:
    """Why a precision may not be served; empty when it may."""
    found = [
        f"QWK on {corpus} changes by {change:+.4f} ({config.max_qwk_change:g} accepted)"
        for corpus, change in parity.qwk_changes.items()
        if not abs(change) <= config.max_qwk_change
    ]
    if parity.same_grade_share < config.min_same_grades:
        found.append(f"same grade for {parity.same_grade_share:.2%} ({config.min_same_grades:.1%} wanted)")
    return found + _trait_objections(parity.traits, config)


def _trait_objections(found: Mapping[str, TraitPrecision], config: ExportConfig) -> list[str]:
    """The bars of the holistic score, over all traits together."""
    if not found:
        return []
    change = float(np.mean([each.qwk_change for each in found.values()]))
    share = float(np.mean([each.same_grade_share for each in found.values()]))
    objections = []
    if not abs(change) <= config.max_qwk_change:
        objections.append(f"QWK on traits changes by {change:+.4f} ({config.max_qwk_change:g} accepted)")
    if share < config.min_same_grades:
        objections.append(f"same grade of traits for {share:.2%} ({config.min_same_grades:.1%} wanted)")
    return objections


def mix_precisions(
    weights: EnsembleWeights,
    members: Mapping[str, PrecisionScores],
    passed: Mapping[str, Sequence[PrecisionParity]],
    calibrations: Mapping[str, Calibration],
) -> PrecisionScores:
    """An ensemble's mixes: at each precision that a member passed, of those members at it and of the others in fp32.

    Raises StageFailed when the members were scored on different essays.
    """
    first = next(iter(members.values()))
    if any(member.essay_ids != first.essay_ids for member in members.values()):
        raise StageFailed(f"{', '.join(members)} were scored on different essays; export them again")
    listed = {name: {parity.precision for parity in passed[name]} for name in members}

    def mixed(precision: Precision) -> tuple[float, ...]:
        raw = {name: member.raw[precision if precision in listed[name] else "fp32"] for name, member in members.items()}
        return tuple(
            float(
                mix_unit_scores(
                    weights.of(prompt_id),
                    {name: calibrations[name].unit_scores(prompt_id, raw[name][place]) for name in members},
                )
            )
            for place, prompt_id in enumerate(first.prompt_ids)
        )

    wanted: list[Precision] = ["fp32", *(each for each in BELOW_FP32 if any(each in own for own in listed.values()))]
    # Members' scores hold their shifts already; the mix has none of its own.
    return first.model_copy(update={"raw": {precision: mixed(precision) for precision in wanted}, "shifts": {}})


def _with_fp32(chosen: FoldScores) -> PrecisionScores:
    return PrecisionScores(
        essay_ids=tuple(chosen.essay_ids.tolist()),
        prompt_ids=tuple(chosen.prompt_ids.tolist()),
        human_scores=tuple(chosen.human_scores.tolist()),
        raw={"fp32": tuple(chosen.raw_unit_scores.tolist())},
    )
