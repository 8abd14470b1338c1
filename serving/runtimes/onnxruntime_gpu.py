"""ONNX Runtime on an NVIDIA GPU, by its CUDA or its TensorRT provider; needs `onnxruntime-gpu` in place of onnxruntime.

A provider that cannot start, for want of a GPU or of its own libraries, falls back to the CPU in silence. So each is
tried on a graph of one node before it is chosen, and what a model runs on is checked after loading.
"""

import importlib
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Literal

import onnxruntime

from essays.console import say
from essays.errors import BadParams
from essays.manifest import Graph
from serving.runtimes.batched import BatchedSession
from serving.runtimes.interface import Session, first_line
from serving.runtimes.onnxruntime_cpu import OnnxSession, load

Provider = Literal["cuda", "tensorrt"]
_PROVIDERS: dict[Provider, str] = {"tensorrt": "TensorrtExecutionProvider", "cuda": "CUDAExecutionProvider"}
"""The faster first."""
LANES = 64
"""Lanes that gather essays for its batches: their threads wait for the GPU and hardly use a core."""
# An ONNX file that gives back its input, (1,) float32 (opset 17).
_IDENTITY = bytes.fromhex(
    "08083a370a100a017812017922084964656e746974791201675a0f0a0178120a0a08080112040a020801620f0a0179120a0a0808011204"
    "0a02080142040a001011"
)


class OnnxRuntimeGpu:
    """One session that all lanes share, in batches (`serving.runtimes.batched`)."""

    def __init__(self, provider: Provider, cache: Path | None = None) -> None:
        """`cache` keeps TensorRT's engines and timings, for the next start. Raises BadParams where there is no GPU."""
        if reason := why_not(provider):
            raise BadParams(
                f"service.runtime: {provider} is not available: {reason}; install requirements/gpu.txt on a machine"
                " with an NVIDIA GPU, or choose another runtime"
            )
        self._provider = provider
        self._cache = cache

    def open(self, graph: Graph, folder: Path, num_lanes: int) -> list[Session]:
        """As `Runtime.open`; raises BadParams too, when the provider was left for another while loading."""
        path = folder / graph.file
        session = load(path, graph, onnxruntime.SessionOptions(), self._providers(folder.name))
        used = session.get_providers()[0]
        if used != _PROVIDERS[self._provider]:
            raise BadParams(f"service.runtime: {self._provider} was asked for, but {path} runs on {used}")
        runtime = f"onnxruntime {onnxruntime.__version__} {self._provider} {graph.precision}"
        return [BatchedSession(OnnxSession(session, runtime, graph.precision))] * num_lanes

    def _providers(self, model: str) -> list[str | tuple[str, dict[str, str]]]:
        cuda = _PROVIDERS["cuda"]
        if self._provider == "cuda":
            return [cuda]
        options = {}
        if self._cache:
            # No engine is read by another version. Another GPU's has another name, which ONNX Runtime sees to.
            kept = self._cache / model / f"onnxruntime-{onnxruntime.__version__}"
            kept.mkdir(parents=True, exist_ok=True)
            options = {"trt_engine_cache_enable": "1", "trt_timing_cache_enable": "1"}
            options |= {"trt_engine_cache_path": str(kept), "trt_timing_cache_path": str(kept)}
        return [(_PROVIDERS["tensorrt"], options), cuda]


@cache
def best_provider() -> Provider | None:
    """The fastest that starts here, if any; says why one that this build of ONNX Runtime has does not."""
    for provider, name in _PROVIDERS.items():
        reason = why_not(provider)
        if reason is None:
            return provider
        if name in onnxruntime.get_available_providers():
            say(f"{provider} is not used: {reason}")
    return None


def why_not(provider: Provider) -> str | None:
    """Why this provider runs nothing here; None where it does."""
    wanted, offered = _PROVIDERS[provider], onnxruntime.get_available_providers()
    if wanted not in offered:
        return f"onnxruntime {onnxruntime.__version__} offers {', '.join(offered)}"
    _load_libraries(provider)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # its reasons are many lines, and go to stderr past everything
    try:
        used = onnxruntime.InferenceSession(_IDENTITY, options, providers=[wanted]).get_providers()[0]
    except Exception as error:  # noqa: BLE001 - the library's own errors share no base class
        return first_line(error)
    return None if used == wanted else f"it does not start here, and ONNX Runtime takes {used} in its place"


def _load_libraries(provider: Provider) -> None:
    """Load CUDA's and TensorRT's libraries where pip installed them: the system's loader does not look there."""
    onnxruntime.preload_dlls()
    if provider == "tensorrt":
        # Importing it loads them.
        with suppress(ImportError):
            importlib.import_module("tensorrt")
