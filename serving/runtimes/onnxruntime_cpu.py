"""Something that runs a graph: one small interface, and ONNX Runtime on the CPU behind it.

A session belongs to one lane and scores one essay at a time, on one thread: on a CPU that is faster than batches of
mixed lengths, whose padding costs more than it saves, and a score never depends on its neighbours.
"""

from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from essays.encoding import Arrays
from essays.errors import GraphInvalid
from essays.manifest import OUTPUT_NAME, Graph, TensorSpec

CPU_RUNTIME = f"onnxruntime {onnxruntime.__version__} cpu"


class Session(Protocol):
    """A graph that is loaded and can be run."""

    @property
    def runtime(self) -> str:
        """What runs it, with version and device."""
        ...

    def run(self, arrays: Arrays) -> NDArray[np.float32]:
        """Raw unit scores, (B,)."""
        ...


def open_session(graph: Graph, folder: Path) -> Session:
    """A session for one lane. Raises GraphInvalid when the file does not load or is not what the manifest says."""
    return OnnxCpuSession(graph, folder / graph.file)


class OnnxCpuSession:
    """ONNX Runtime on one thread of the caller."""

    runtime = CPU_RUNTIME

    def __init__(self, graph: Graph, path: Path) -> None:
        self._session = _load(path)
        _require_tensors(path, "input", self._session.get_inputs(), graph.inputs)
        _require_tensors(path, "output", self._session.get_outputs(), graph.outputs)
        if OUTPUT_NAME not in [output.name for output in graph.outputs]:
            raise GraphInvalid(f"{path}: no output {OUTPUT_NAME!r}, which holds the scores; export the model again")
        self._input_names = [tensor.name for tensor in graph.inputs]

    def run(self, arrays: Arrays) -> NDArray[np.float32]:
        """Raw unit scores, (B,)."""
        (scores,) = self._session.run([OUTPUT_NAME], {name: arrays[name] for name in self._input_names})
        return np.asarray(scores, dtype=np.float32)


def _load(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    # Lanes are the parallelism: a pool of threads inside each would only fight over the same cores, and spin.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's errors share no base class
        reason = str(error).splitlines()[0][:300] if str(error) else type(error).__name__
        raise GraphInvalid(f"{path}: does not load: {reason}; publish the model again") from error


def _require_tensors(path: Path, role: str, found: list[Any], promised: tuple[TensorSpec, ...]) -> None:
    there = {tensor.name: (tensor.type, len(tensor.shape)) for tensor in found}
    wanted = {tensor.name: (f"tensor({_onnx_type(tensor)})", len(tensor.shape)) for tensor in promised}
    if there != wanted:
        raise GraphInvalid(
            f"{path}: {role}s are {_describe(there)}, the manifest says {_describe(wanted)}; publish the model again"
        )


def _onnx_type(tensor: TensorSpec) -> str:
    return {"int64": "int64", "float32": "float"}[tensor.dtype]


def _describe(tensors: dict[str, tuple[str, int]]) -> str:
    return ", ".join(f"{name} {kind} of rank {rank}" for name, (kind, rank) in sorted(tensors.items())) or "none"
