"""Graphs scored on this side, one essay at a time, as serving will."""

from dataclasses import dataclass
from pathlib import Path

import onnxruntime as ort

from essays.encoding import Arrays, Encoder, load_encoder
from essays.manifest import GRAPH_FILE
from essays.outputs import Outputs, outputs_from
from essays.traits import Traits
from export.exported import read_exported


@dataclass(frozen=True)
class GraphScorer:
    """A graph with the encoder that makes its inputs."""

    session: ort.InferenceSession
    encoder: Encoder
    prompt_ids: tuple[str, ...]
    traits: Traits | None = None

    def raw_score(self, text: str, prompt_id: str) -> float:
        """The raw unit score of one normalized essay."""
        return float(self._outputs(text, prompt_id).raw_unit_scores[0])

    def raw_traits(self, text: str, prompt_id: str) -> tuple[float, ...]:
        """The traits' raw unit scores of one normalized essay; empty where its prompt has none."""
        if self.traits is None or prompt_id != self.traits.prompt_id:
            return ()
        return tuple(map(float, self._outputs(text, prompt_id).raw_trait_scores[0]))

    def _outputs(self, text: str, prompt_id: str) -> Outputs:
        essay = self.encoder.encode(text, self.prompt_ids.index(prompt_id))
        return run_graph(self.session, self.encoder.collate([essay]))


def open_graph(path: Path) -> ort.InferenceSession:
    """A CPU session on one thread, so that a rerun gives the same bits."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def run_graph(session: ort.InferenceSession, arrays: Arrays) -> Outputs:
    """Raw unit scores of a batch, those of traits among them where the graph has any."""
    names = [output.name for output in session.get_outputs()]
    return outputs_from(dict(zip(names, session.run(names, arrays), strict=True)))


def open_exported(folder: Path) -> GraphScorer:
    """The scorer of an export's folder."""
    exported = read_exported(folder)
    session, encoder = open_graph(folder / GRAPH_FILE), load_encoder(exported.encoding, folder)
    return GraphScorer(session, encoder, exported.prompt_ids, exported.traits)
