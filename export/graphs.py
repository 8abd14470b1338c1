"""Graphs scored on this side, one essay at a time, as serving will."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from essays.encoding import Arrays, Encoder, load_encoder
from essays.manifest import GRAPH_FILE, OUTPUT_NAME
from export.exported import read_exported


@dataclass(frozen=True)
class GraphScorer:
    """A graph with the encoder that makes its inputs."""

    session: ort.InferenceSession
    encoder: Encoder
    prompt_ids: tuple[str, ...]

    def raw_score(self, text: str, prompt_id: str) -> float:
        """The raw unit score of one normalized essay."""
        essay = self.encoder.encode(text, self.prompt_ids.index(prompt_id))
        return float(run_graph(self.session, self.encoder.collate([essay]))[0])


def open_graph(path: Path) -> ort.InferenceSession:
    """A CPU session on one thread, so that a rerun gives the same bits."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def run_graph(session: ort.InferenceSession, arrays: Arrays) -> NDArray[np.float32]:
    """`raw_unit_score` (B,) of a batch."""
    return np.asarray(session.run([OUTPUT_NAME], arrays)[0])


def open_exported(folder: Path) -> GraphScorer:
    """The scorer of an export's folder."""
    exported = read_exported(folder)
    return GraphScorer(open_graph(folder / GRAPH_FILE), load_encoder(exported.encoding, folder), exported.prompt_ids)
