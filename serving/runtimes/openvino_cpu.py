"""OpenVINO on the CPU: the fastest for transformers, and with bf16 where the CPU multiplies it.

bf16 is a matter of loading the fp32 graph: OpenVINO rounds what goes into matrix products, adds up in fp32, and leaves
norms, sums over the residual stream and heads in fp32.
"""

import locale
from pathlib import Path
from typing import Any

import numpy as np
import openvino

from essays.encoding import Arrays
from essays.manifest import Graph, Precision
from essays.outputs import Outputs, outputs_from
from serving.runtimes.interface import Session, Tensors, does_not_load, require_tensors

_PRECISIONS = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}
"""What matrix products that the graph leaves in floating point run in."""
_CAPABILITIES: dict[Precision, str] = {"fp32": "FP32", "bf16": "BF16", "int8": "INT8"}
_MASK = "attention_mask"
_STEP = 16
"""Tokens are filled up to a multiple of this, masked: OpenVINO makes kernels for every length and keeps them."""
_VERSION = openvino.get_version().split("-")[0]
_LOCALE = locale.setlocale(locale.LC_ALL)
"""The process's. OpenVINO sets C while it compiles, then what it found: C again where another model was being compiled
beside, and from then on Python would read and write text as ASCII."""


class OpenVinoCpu:
    """One compiled graph with a stream of one thread for each lane."""

    def __init__(self, cache: Path | None = None) -> None:
        """`cache` keeps what compiling made, for the next start."""
        self._core = openvino.Core()
        self._cache = cache

    def open(self, graph: Graph, folder: Path, num_lanes: int) -> list[Session]:
        """As `Runtime.open`."""
        path = folder / graph.file
        try:
            compiled = self._core.compile_model(str(path), "CPU", self._options(graph.precision, num_lanes, folder))
        except Exception as error:
            raise does_not_load(path, error) from error
        finally:
            locale.setlocale(locale.LC_ALL, _LOCALE)
        require_tensors(path, _tensors(compiled.inputs), _tensors(compiled.outputs), graph)
        runtime = f"openvino {_VERSION} cpu {graph.precision}"
        return [OpenVinoSession(compiled.create_infer_request(), runtime, graph.precision) for _ in range(num_lanes)]

    def _options(self, precision: str, num_lanes: int, folder: Path) -> dict[str, str | int | bool]:
        options: dict[str, str | int | bool] = {
            "INFERENCE_PRECISION_HINT": _PRECISIONS[precision],
            "INFERENCE_NUM_THREADS": num_lanes,
            "NUM_STREAMS": num_lanes,
            # Other processes use these cores too.
            "ENABLE_CPU_PINNING": False,
        }
        return options if self._cache is None else {**options, "CACHE_DIR": str(self._cache / folder.name)}


def multiplies(precision: Precision) -> bool:
    """Whether this CPU has instructions for it; without them bf16 (AVX-512 BF16, AMX) would only lose digits."""
    return _CAPABILITIES[precision] in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


class OpenVinoSession:
    """A request object of the compiled graph, for one lane."""

    def __init__(self, request: openvino.InferRequest, runtime: str, precision: Precision) -> None:
        self.runtime = runtime
        self.precision = precision
        self._request = request
        self._input_names = [tensor.get_any_name() for tensor in request.model_inputs]
        self._output_names = [tensor.get_any_name() for tensor in request.model_outputs]

    def outputs(self, arrays: Arrays) -> Outputs:
        """As `Session.outputs`."""
        filled = _filled_up(arrays)
        results = self._request.infer({name: filled[name] for name in self._input_names}, share_inputs=True)
        return outputs_from({name: results[name] for name in self._output_names})


def _filled_up(arrays: Arrays) -> Arrays:
    """What is as long as the mask, (B, L), with masked zeros up to the next step."""
    mask = arrays.get(_MASK)
    if mask is None or not (missing := -mask.shape[1] % _STEP):
        return arrays
    return {
        name: np.pad(array, ((0, 0), (0, missing))) if array.shape == mask.shape else array
        for name, array in arrays.items()
    }


def _tensors(ports: list[Any]) -> Tensors:
    return {
        port.get_any_name(): (port.get_element_type().to_dtype().name, len(port.get_partial_shape())) for port in ports
    }
