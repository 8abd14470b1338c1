"""Whether a graph is the same model as the module it came from: scores compared on real essays, not only grades."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pandas as pd
import torch
from numpy.typing import NDArray

from essays.calibration import Calibration
from essays.console import Progress
from essays.encoding import EncodedEssay
from essays.errors import StageFailed
from essays.params import Section
from essays.prompts import get_prompt
from export.config import ExportConfig
from export.graphs import open_graph, run_graph
from training.models import LoadedModel


class ParityReport(Section):
    """What the comparison found; kept beside the graph and in the reports."""

    num_essays: int
    max_gap: float
    """Largest |module - graph| of raw unit scores, one essay at a time."""
    max_gap_batched: float
    """Largest |alone - in a batch of mixed lengths| of the graph's raw unit scores."""
    same_grade_share: float
    """Share of essays with the same grade after calibration."""
    accepted_gap: float
    """The bound that both gaps had to keep."""


def sample_essays(essays: pd.DataFrame, prompt_ids: Sequence[str], num_essays: int) -> pd.DataFrame:
    """Essays of a model's prompts, the shortest and the longest among them, the rest spread evenly over the lengths."""
    mine = essays[essays.prompt_id.isin(prompt_ids)]
    ordered = mine.loc[mine.text.str.len().sort_values(kind="stable").index]
    places = np.linspace(0, len(ordered) - 1, min(num_essays, len(ordered))).round().astype(int)
    return ordered.iloc[places]


def compare(
    loaded: LoadedModel, graph_path: Path, calibration: Calibration, essays: pd.DataFrame, config: ExportConfig
) -> ParityReport:
    """Score `essays` (columns prompt_id, text) by module and by graph. Raises StageFailed beyond `config.max_gap`."""
    encoded = [
        loaded.encoder.encode(text, loaded.spec.prompt_index(prompt_id))
        for prompt_id, text in zip(essays.prompt_id, essays.text, strict=True)
    ]
    session = open_graph(graph_path)
    ours, theirs = _one_at_a_time(loaded, session, encoded)
    batched = _batched(loaded, session, encoded, config.parity_batch_size)
    grades = [_grades(calibration, essays.prompt_id, scores) for scores in (ours, theirs)]
    report = ParityReport(
        num_essays=len(encoded),
        max_gap=float(np.abs(ours - theirs).max()),
        max_gap_batched=float(np.abs(theirs - batched).max()),
        same_grade_share=float((grades[0] == grades[1]).mean()),
        accepted_gap=config.max_gap,
    )
    # `not <=` so that a nan fails too.
    if not (report.max_gap <= config.max_gap and report.max_gap_batched <= config.max_gap):
        raise StageFailed(
            f"{graph_path}: the graph is not the module: largest gap {report.max_gap:.2e} alone and"
            f" {report.max_gap_batched:.2e} batched, accepted {config.max_gap:.0e}; nothing was exported"
        )
    return report


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


def _grades(calibration: Calibration, prompt_ids: pd.Series, scores: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.array(
        [
            calibration.grade(get_prompt(prompt_id), float(score)).score
            for prompt_id, score in zip(prompt_ids, scores, strict=True)
        ]
    )
