"""One essay through one model, as plain functions that the scorer and the warm-up share."""

import time
from collections.abc import Mapping
from dataclasses import dataclass

from essays.encoding import Arrays
from essays.ensemble import mix_unit_scores
from serving.catalogue import Catalogue, ServedModel
from serving.lanes import Lane
from serving.memory import require_room_to_run


@dataclass(frozen=True)
class Run:
    """What one graph said about one essay."""

    raw_unit_score: float
    tokens_used: int
    truncated: bool
    tokenize_ms: float
    infer_ms: float
    raw_trait_scores: tuple[float, ...] = ()
    """In the order of the model's traits; empty where its graph has none."""


@dataclass(frozen=True)
class Encoded:
    """An essay as one graph takes it."""

    arrays: Arrays
    tokens_used: int
    truncated: bool
    tokenize_ms: float


def run_graph(lane: Lane, *, model: ServedModel, text: str, prompt_id: str) -> Run:
    """Encode a normalized essay and run the model's graph on it, on this lane's thread. Raises what `infer` raises."""
    return infer(lane, model, encode(model, text, prompt_id))


def encode(model: ServedModel, text: str, prompt_id: str) -> Encoded:
    """A normalized essay as the model's graph takes it, a batch of one."""
    assert model.encoder is not None, f"{model.name} is an ensemble and has no graph"
    started = time.perf_counter()
    encoded = model.encoder.encode(text, model.manifest.prompt_ids.index(prompt_id))
    arrays = model.encoder.collate([encoded])
    return Encoded(arrays, encoded.tokens_used, encoded.truncated, (time.perf_counter() - started) * 1000)


def infer(lane: Lane, model: ServedModel, encoded: Encoded) -> Run:
    """Run the model's graph on this lane's thread, if there is the memory for it: every run of a graph comes by here.

    Raises Overloaded or NotEnoughMemory.
    """
    session = lane.sessions[model.name]
    require_room_to_run(model, session, encoded.tokens_used)
    started = time.perf_counter()
    outputs = session.outputs(encoded.arrays)
    return Run(
        raw_unit_score=float(outputs.raw_unit_scores[0]),
        tokens_used=encoded.tokens_used,
        truncated=encoded.truncated,
        tokenize_ms=encoded.tokenize_ms,
        infer_ms=(time.perf_counter() - started) * 1000,
        raw_trait_scores=tuple(map(float, outputs.raw_trait_scores[0])),
    )


def member_unit_scores(
    catalogue: Catalogue, model: ServedModel, prompt_id: str, raw: Mapping[str, float]
) -> dict[str, float]:
    """The calibrated unit scores of an ensemble's members by name, from their raw ones; empty for a single model."""
    return {
        member.name: float(catalogue.models[member.name].calibration.unit_scores(prompt_id, raw[member.name]))
        for member in model.manifest.members
    }


def raw_unit_score(model: ServedModel, prompt_id: str, raw: Mapping[str, float], members: Mapping[str, float]) -> float:
    """What the model's own calibration starts from: the graph's score, or the mix of its members' calibrated ones."""
    if not model.is_ensemble:
        return raw[model.name]
    return float(mix_unit_scores(model.weights(prompt_id), members))
