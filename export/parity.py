"""Whether a graph is the same model as the module it came from: scores compared on real essays, not only grades."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pandas as pd
import torch
from numpy.typing import NDArray

from essays.calibration import Calibration
from essays.console import Progress
from essays.encoding import EncodedEssay
from essays.ensemble import EnsembleWeights, mix_unit_scores
from essays.errors import StageFailed
from essays.manifest import Parity
from essays.params import Section
from essays.prompts import get_prompt
from export.config import ExportConfig
from export.graphs import open_graph, run_graph
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


def sample_essays(essays: pd.DataFrame, prompt_ids: Sequence[str], num_essays: int) -> pd.DataFrame:
    """Essays of a model's prompts, the shortest and the longest among them, the rest spread evenly over the lengths."""
    mine = essays[essays.prompt_id.isin(prompt_ids)]
    ordered = mine.loc[mine.text.str.len().sort_values(kind="stable").index]
    places = np.linspace(0, len(ordered) - 1, min(num_essays, len(ordered))).round().astype(int)
    return ordered.iloc[places]


def compare(loaded: LoadedModel, graph_path: Path, essays: pd.DataFrame, batch_size: int) -> Compared:
    """Score `essays` (columns essay_id, prompt_id, text) by module and by graph."""
    encoded = [
        loaded.encoder.encode(text, loaded.spec.prompt_index(prompt_id))
        for prompt_id, text in zip(essays.prompt_id, essays.text, strict=True)
    ]
    session = open_graph(graph_path)
    ours, theirs = _one_at_a_time(loaded, session, encoded)
    return Compared(
        essay_ids=tuple(essays.essay_id),
        prompt_ids=tuple(essays.prompt_id),
        module=tuple(ours.tolist()),
        graph=tuple(theirs.tolist()),
        batched=tuple(_batched(loaded, session, encoded, batch_size).tolist()),
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


def require_parity(name: str, compared: Compared, calibration: Calibration, config: ExportConfig) -> Parity:
    """How near graph and module are. Raises StageFailed beyond what `config` accepts."""
    ours, theirs, batched = (np.asarray(scores) for scores in (compared.module, compared.graph, compared.batched))
    grades = [_grades(calibration, compared.prompt_ids, scores) for scores in (ours, theirs)]
    parity = Parity(
        num_essays=len(compared.essay_ids),
        # A nan is as far away as can be, and JSON could not hold it.
        max_gap=float(np.nan_to_num(np.abs(ours - theirs), nan=1.0).max()),
        max_gap_batched=float(np.nan_to_num(np.abs(theirs - batched), nan=1.0).max()),
        same_grade_share=float((grades[0] == grades[1]).mean()),
    )
    if max(parity.max_gap, parity.max_gap_batched) > config.max_gap or parity.same_grade_share < config.min_same_grades:
        raise StageFailed(
            f"{name}: the graph is not the module: largest gap {parity.max_gap:.2e} alone and"
            f" {parity.max_gap_batched:.2e} batched ({config.max_gap:.0e} accepted), same grade for"
            f" {parity.same_grade_share:.1%} of {parity.num_essays} essays ({config.min_same_grades:.1%} wanted)"
        )
    return parity


def _one_at_a_time(
    loaded: LoadedModel, session: ort.InferenceSession, encoded: Sequence[EncodedEssay]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    ours, theirs = [], []
    progress = Progress("parity", len(encoded))
    for done, essay in enumerate(encoded, start=1):
        arrays = loaded.encoder.collate([essay])
        with torch.inference_mode():
            ours.append(loaded.module(**{name: torch.from_numpy(array) for name, array in arrays.items()}).item())
        theirs.append(run_graph(session, arrays)[0])
        progress.update(done)
    return np.asarray(ours, dtype=np.float32), np.asarray(theirs, dtype=np.float32)


def _batched(
    loaded: LoadedModel, session: ort.InferenceSession, encoded: Sequence[EncodedEssay], batch_size: int
) -> NDArray[np.float32]:
    # The sample is ordered by length: striding mixes short with long, the worst case for padding.
    num_batches = -(-len(encoded) // batch_size)
    scores = np.empty(len(encoded), dtype=np.float32)
    for first in range(num_batches):
        places = np.arange(first, len(encoded), num_batches)
        scores[places] = run_graph(session, loaded.encoder.collate([encoded[int(place)] for place in places]))
    return scores


def _grades(calibration: Calibration, prompt_ids: Sequence[str], scores: NDArray) -> NDArray[np.float64]:
    return np.array(
        [
            calibration.grade(get_prompt(prompt_id), float(score)).score
            for prompt_id, score in zip(prompt_ids, scores, strict=True)
        ]
    )
