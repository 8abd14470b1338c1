"""OpenVINO on the CPU: the fastest for transformers, and with bf16 where the CPU multiplies it."""

from pathlib import Path
from typing import Any

import numpy as np
import openvino
from numpy.typing import NDArray

from essays.encoding import Arrays
from essays.manifest import OUTPUT_NAME, Graph
from serving.runtimes.interface import Session, Tensors, does_not_load, require_tensors

_PRECISIONS = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}
"""What matrix products that the graph leaves in floating point run in."""
_VERSION = openvino.get_version().split("-")[0]


class OpenVinoCpu:
    """One compiled graph with a stream of one thread for each lane."""

    def __init__(self, cache: Path | None = None) -> None:
        """`cache` keeps what compiling made, for the next start."""
        self._core = openvino.Core()
        self._cache = cache

    def multiplies_bf16(self) -> bool:
        """Whether this CPU has instructions for it; without them bf16 would only lose digits."""
        return "BF16" in self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")

    def open(self, graph: Graph, folder: Path, num_lanes: int) -> list[Session]:
        """As `Runtime.open`."""
        path = folder / graph.file
        try:
            compiled = self._core.compile_model(str(path), "CPU", self._options(graph.precision, num_lanes))
        except Exception as error:
            raise does_not_load(path, error) from error
        require_tensors(path, _tensors(compiled.inputs), _tensors(compiled.outputs), graph)
        runtime = f"openvino {_VERSION} cpu {graph.precision}"
        return [OpenVinoSession(compiled.create_infer_request(), runtime) for _ in range(num_lanes)]

    def _options(self, precision: str, num_lanes: int) -> dict[str, str | int | bool]:
        options: dict[str, str | int | bool] = {
            "INFERENCE_PRECISION_HINT": _PRECISIONS[precision],
            "INFERENCE_NUM_THREADS": num_lanes,
            "NUM_STREAMS": num_lanes,
            # Other processes use these cores too.
            "ENABLE_CPU_PINNING": False,
        }
        return options if self._cache is None else {**options, "CACHE_DIR": str(self._cache)}


class OpenVinoSession:
    """A request object of the compiled graph, for one lane."""

    def __init__(self, request: openvino.InferRequest, runtime: str) -> None:
        self.runtime = runtime
        self._request = request
        self._input_names = [tensor.get_any_name() for tensor in request.model_inputs]

    def run(self, arrays: Arrays) -> NDArray[np.float32]:
        """Raw unit scores, (B,)."""
        results = self._request.infer({name: arrays[name] for name in self._input_names}, share_inputs=True)
        # A copy: the request writes its next result into the same memory.
        return np.array(results[OUTPUT_NAME], dtype=np.float32)


def _tensors(ports: list[Any]) -> Tensors:
    return {
        port.get_any_name(): (port.get_element_type().to_dtype().name, len(port.get_partial_shape())) for port in ports
    }
