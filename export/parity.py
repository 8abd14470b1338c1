"""Whether a graph is the same model as the module it came from: scores compared on real essays, not only grades.

Who only reads what was compared (packaging) needs no torch, and does not import it.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from essays.calibration import Calibration
from essays.console import Progress
from essays.encoding import Arrays, EncodedEssay
from essays.ensemble import EnsembleWeights, mix_unit_scores
from essays.errors import StageFailed
from essays.manifest import OUTPUT_NAME, TRAITS_OUTPUT_NAME, Parity, TraitParity
from essays.outputs import Outputs, outputs_from
from essays.params import Section
from essays.prompts import get_prompt
from essays.traits import Traits
from export.config import ExportConfig
from export.graphs import open_graph, run_graph

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn

    from training.models import LoadedModel


class Compared(Section):
    """The same essays scored by module and by graph, kept so that an ensemble's mixes can be compared too."""

    essay_ids: tuple[str, ...]
    prompt_ids: tuple[str, ...]
    module: tuple[float, ...]
    """Raw unit scores of the checkpoint's module."""
    graph: tuple[float, ...]
    """Those of the graph, one essay at a time."""
    batched: tuple[float, ...]
    """Those of the graph, in batches of mixed lengths."""
    module_traits: tuple[tuple[float, ...], ...] = ()
    """The traits' raw unit scores likewise, essay by essay; empty where there are none, as of an ensemble."""
    graph_traits: tuple[tuple[float, ...], ...] = ()
    batched_traits: tuple[tuple[float, ...], ...] = ()


def sample_essays(essays: "pd.DataFrame", prompt_ids: Sequence[str], num_essays: int) -> "pd.DataFrame":
    """Essays of a model's prompts, the shortest and the longest among them, the rest spread evenly over the lengths."""
    mine = essays[essays.prompt_id.isin(prompt_ids)]
    ordered = mine.loc[mine.text.str.len().sort_values(kind="stable").index]
    places = np.linspace(0, len(ordered) - 1, min(num_essays, len(ordered))).round().astype(int)
    return ordered.iloc[places]


def compare(loaded: "LoadedModel", graph_path: Path, essays: "pd.DataFrame", batch_size: int) -> Compared:
    """Score `essays` (columns essay_id, prompt_id, text) by module and by graph."""
    encoded = [
        loaded.encoder.encode(text, loaded.spec.prompt_index(prompt_id))
        for prompt_id, text in zip(essays.prompt_id, essays.text, strict=True)
    ]
    session = open_graph(graph_path)
    ours, theirs = _one_at_a_time(loaded, session, encoded)
    batched = _batched(loaded, session, encoded, batch_size)
    return Compared(
        essay_ids=tuple(essays.essay_id),
        prompt_ids=tuple(essays.prompt_id),
        module=tuple(ours.raw_unit_scores.tolist()),
        graph=tuple(theirs.raw_unit_scores.tolist()),
        batched=tuple(batched.raw_unit_scores.tolist()),
        module_traits=_rows(ours),
        graph_traits=_rows(theirs),
        batched_traits=_rows(batched),
    )


def mix_compared(
    weights: EnsembleWeights, members: Mapping[str, Compared], calibrations: Mapping[str, Calibration]
) -> Compared:
    """The ensemble's mixes of its members' scores. Raises StageFailed when they were compared on different essays."""
    first = next(iter(members.values()))
    if any(member.essay_ids != first.essay_ids for member in members.values()):
        raise StageFailed(f"{', '.join(members)} were compared on different essays; export them again")

    def mixed(scores: Callable[[Compared], tuple[float, ...]]) -> tuple[float, ...]:
        return tuple(
            float(
                mix_unit_scores(
                    weights.of(prompt_id),
                    {
                        name: calibrations[name].unit_scores(prompt_id, scores(member)[place])
                        for name, member in members.items()
                    },
                )
            )
            for place, prompt_id in enumerate(first.prompt_ids)
        )

    return Compared(
        essay_ids=first.essay_ids,
        prompt_ids=first.prompt_ids,
        module=mixed(lambda member: member.module),
        graph=mixed(lambda member: member.graph),
        batched=mixed(lambda member: member.batched),
    )


def require_parity(
    name: str, compared: Compared, calibration: Calibration, config: ExportConfig, traits: Traits | None = None
) -> Parity:
    """How near graph and module are, in traits too where there are any. Raises StageFailed beyond what is accepted."""
    ours, theirs, batched = (np.asarray(scores) for scores in (compared.module, compared.graph, compared.batched))
    grades = [_grades(calibration, compared.prompt_ids, scores) for scores in (ours, theirs)]
    parity = Parity(
        num_essays=len(compared.essay_ids),
        max_gap=_largest_gap(ours, theirs),
        max_gap_batched=_largest_gap(theirs, batched),
        same_grade_share=float((grades[0] == grades[1]).mean()),
        traits=_trait_parity(compared, traits) if traits else None,
    )
    if parity.traits and _is_beyond(parity.traits, config):
        raise StageFailed(
            f"{name}: the graph's traits are not the module's: largest gap {parity.traits.max_gap:.2e} alone and"
            f" {parity.traits.max_gap_batched:.2e} batched ({config.max_gap:.0e} accepted), same grade for"
            f" {parity.traits.same_grade_share:.1%} ({config.min_same_grades:.1%} wanted)"
        )
    if _is_beyond(parity, config):
        raise StageFailed(
            f"{name}: the graph is not the module: largest gap {parity.max_gap:.2e} alone and"
            f" {parity.max_gap_batched:.2e} batched ({config.max_gap:.0e} accepted), same grade for"
            f" {parity.same_grade_share:.1%} of {parity.num_essays} essays ({config.min_same_grades:.1%} wanted)"
        )
    return parity


def _is_beyond(parity: Parity | TraitParity, config: ExportConfig) -> bool:
    gap = max(parity.max_gap, parity.max_gap_batched)
    return gap > config.max_gap or parity.same_grade_share < config.min_same_grades


def _trait_parity(compared: Compared, traits: Traits) -> TraitParity:
    """Over the essays of the prompt that has traits."""
    mine = np.array(compared.prompt_ids) == traits.prompt_id
    ours, theirs, batched = (
        np.asarray(scores, dtype=np.float64)[mine]
        for scores in (compared.module_traits, compared.graph_traits, compared.batched_traits)
    )
    grades = [
        np.array([[grade.score for grade in traits.grades(row)] for row in each.tolist()]) for each in (ours, theirs)
    ]
    return TraitParity(
        max_gap=_largest_gap(ours, theirs),
        max_gap_batched=_largest_gap(theirs, batched),
        same_grade_share=float((grades[0] == grades[1]).mean()),
    )


def _largest_gap(first: NDArray, second: NDArray) -> float:
    # A nan is as far away as can be, and JSON could not hold it.
    return float(np.nan_to_num(np.abs(first - second), nan=1.0).max(initial=0.0))


def _rows(outputs: Outputs) -> tuple[tuple[float, ...], ...]:
    return tuple(map(tuple, outputs.raw_trait_scores.tolist())) if outputs.raw_trait_scores.shape[1] else ()


def _one_at_a_time(
    loaded: "LoadedModel", session: ort.InferenceSession, encoded: Sequence[EncodedEssay]
) -> tuple[Outputs, Outputs]:
    ours, theirs = [], []
    progress = Progress("parity", len(encoded))
    for done, essay in enumerate(encoded, start=1):
        arrays = loaded.encoder.collate([essay])
        ours.append(_run_module(loaded.module, arrays))
        theirs.append(run_graph(session, arrays))
        progress.update(done)
    return _stacked(ours), _stacked(theirs)


def _run_module(module: "nn.Module", arrays: Arrays) -> Outputs:
    import torch

    with torch.inference_mode():
        given = module(**{name: torch.from_numpy(array) for name, array in arrays.items()})
    named = given if isinstance(given, tuple) else (given,)
    return outputs_from(dict(zip((OUTPUT_NAME, TRAITS_OUTPUT_NAME), (each.numpy() for each in named), strict=False)))


def _stacked(outputs: Sequence[Outputs]) -> Outputs:
    return Outputs(*(np.concatenate(parts) for parts in zip(*outputs, strict=True)))


def _batched(
    loaded: "LoadedModel", session: ort.InferenceSession, encoded: Sequence[EncodedEssay], batch_size: int
) -> Outputs:
    # The sample is ordered by length: striding mixes short with long, the worst case for padding.
    num_batches = -(-len(encoded) // batch_size)
    places = [np.arange(first, len(encoded), num_batches) for first in range(num_batches)]
    scored = _stacked(
        [run_graph(session, loaded.encoder.collate([encoded[int(place)] for place in batch])) for batch in places]
    )
    back = np.argsort(np.concatenate(places))
    return Outputs(*(part[back] for part in scored))


def _grades(calibration: Calibration, prompt_ids: Sequence[str], scores: NDArray) -> NDArray[np.float64]:
    return np.array(
        [
            calibration.grade(get_prompt(prompt_id), float(score)).score
            for prompt_id, score in zip(prompt_ids, scores, strict=True)
        ]
    )
