"""ONNX Runtime on an NVIDIA GPU, by its CUDA or its TensorRT provider; needs `onnxruntime-gpu` in place of onnxruntime.

A provider that cannot start falls back to the CPU in silence, so what was asked for is checked after loading.
"""

from pathlib import Path
from typing import Literal

import onnxruntime

from essays.errors import BadParams
from essays.manifest import Graph
from serving.runtimes.interface import Session
from serving.runtimes.onnxruntime_cpu import OnnxSession, load

Provider = Literal["cuda", "tensorrt"]
_PROVIDERS: dict[Provider, str] = {"cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider"}


class OnnxRuntimeGpu:
    """One session that all lanes share."""

    def __init__(self, provider: Provider, cache: Path | None = None) -> None:
        """`cache` keeps TensorRT's engines and timings, for the next start. Raises BadParams where there is no GPU."""
        if not is_there(provider):
            raise BadParams(
                f"service.runtime: {provider} is not available: onnxruntime {onnxruntime.__version__} offers"
                f" {', '.join(onnxruntime.get_available_providers())}; install requirements/gpu.in on a machine with an"
                " NVIDIA GPU, or choose another runtime"
            )
        self._provider = provider
        self._cache = cache

    def open(self, graph: Graph, folder: Path, num_lanes: int) -> list[Session]:
        """As `Runtime.open`; raises BadParams too, when the provider was left for another while loading."""
        path = folder / graph.file
        session = load(path, graph, onnxruntime.SessionOptions(), self._providers())
        used = session.get_providers()[0]
        if used != _PROVIDERS[self._provider]:
            raise BadParams(f"service.runtime: {self._provider} was asked for, but {path} runs on {used}")
        runtime = f"onnxruntime {onnxruntime.__version__} {self._provider} {graph.precision}"
        return [OnnxSession(session, runtime, graph.precision)] * num_lanes

    def _providers(self) -> list[str | tuple[str, dict[str, str]]]:
        cuda = _PROVIDERS["cuda"]
        if self._provider == "cuda":
            return [cuda]
        options = {"trt_engine_cache_enable": "1", "trt_timing_cache_enable": "1"} if self._cache else {}
        if self._cache:
            options |= {"trt_engine_cache_path": str(self._cache), "trt_timing_cache_path": str(self._cache)}
        return [(_PROVIDERS["tensorrt"], options), cuda]


def is_there(provider: Provider) -> bool:
    """Whether this build of ONNX Runtime has the provider; whether a GPU answers shows when a graph is loaded."""
    return _PROVIDERS[provider] in onnxruntime.get_available_providers()
