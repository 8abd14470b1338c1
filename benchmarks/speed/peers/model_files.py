"""What every peer reads: the bundle's graph and its encoding of essays; the folders come by environment."""

import os
from pathlib import Path
from typing import Any, cast

from numpy.typing import NDArray

from essays.encoding import Encoder, load_encoder
from essays.manifest import MANIFEST_FILE, Manifest, read_manifest

MODEL_VARIABLE = "FAIRMARK_BENCH_MODEL"
"""The extracted bundle."""
WEIGHTS_VARIABLE = "FAIRMARK_BENCH_WEIGHTS"
"""The checkpoint that its graph was exported from."""


def model_folder() -> Path:
    """The extracted bundle."""
    return Path(os.environ[MODEL_VARIABLE])


def weights_folder() -> Path:
    """The checkpoint's folder."""
    return Path(os.environ[WEIGHTS_VARIABLE])


def manifest() -> Manifest:
    """What the bundle says of itself."""
    return read_manifest(model_folder() / MANIFEST_FILE)


def encoder() -> Encoder:
    """From a text to the graph's inputs."""
    encoding = manifest().encoding
    assert encoding is not None
    return load_encoder(encoding, model_folder())


def fp32_graph() -> Path:
    """The graph's file."""
    (graph, *_) = [graph for graph in manifest().graphs if graph.precision == "fp32"]
    return model_folder() / graph.file


def run(session: Any, arrays: dict[str, NDArray]) -> list[float]:
    """Scores of a batch by an ONNX Runtime session, which may have dropped inputs that its graph does not use."""
    wanted = {node.name: arrays[node.name] for node in session.get_inputs()}
    return cast(list[float], session.run(["raw_unit_score"], wanted)[0].tolist())
