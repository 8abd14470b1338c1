"""What scores a batch on the GPU, from and to arrays in the host's memory: PyTorch, and the service's runtimes."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from essays.encoding import Arrays
from export.mixed_precision import write_mixed
from export.to_onnx import describe_graph, export_graph
from serving.runtimes.onnxruntime_gpu import OnnxRuntimeGpu, Provider, why_not
from training.models import LoadedModel

Score = Callable[[Arrays], NDArray[np.float32]]


class Contestant(NamedTuple):
    """A way to score, ready to be timed."""

    name: str
    score: Score
    shared: bool = False
    """Whether lanes may share it, each with an essay of its own, as the service does."""


def contestants(
    loaded: LoadedModel, folder: Path, opset: int, missing: dict[str, str], device: str
) -> Iterator[Contestant]:
    """Each in turn, the reference (PyTorch, fp32) first; those that do not start here go into `missing`, with why.

    `folder` takes the graphs; PyTorch runs on `device`.
    """
    plain, mixed = folder / "fp32.onnx", folder / "fp16.onnx"
    export_graph(loaded, plain, opset)
    write_mixed(plain, mixed, "fp16")
    yield Contestant("PyTorch eager, fp32", _eager(loaded, None, device))
    yield Contestant("PyTorch eager, bf16", _eager(loaded, torch.bfloat16, device))
    providers: tuple[tuple[Provider, str], ...] = (("cuda", "ONNX Runtime CUDA"), ("tensorrt", "TensorRT"))
    for provider, name in providers:
        if reason := why_not(provider):
            missing[name] = reason
            continue
        for path, precision in ((plain, "fp32"), (mixed, "fp16")):
            yield Contestant(f"{name}, {precision}", _onnx(provider, path, folder), shared=True)


def _eager(loaded: LoadedModel, dtype: torch.dtype | None, device: str) -> Score:
    module = loaded.module.to(device).eval()

    def score(arrays: Arrays) -> NDArray[np.float32]:
        inputs = {name: torch.from_numpy(value).to(device, non_blocking=True) for name, value in arrays.items()}
        with torch.inference_mode(), torch.autocast(device, dtype or torch.bfloat16, enabled=dtype is not None):
            scores: NDArray[np.float32] = module(**inputs).float().cpu().numpy()
        return scores

    return score


def _onnx(provider: Provider, path: Path, folder: Path) -> Score:
    session = OnnxRuntimeGpu(provider, folder / "engines").open(describe_graph(path), path.parent, 1)[0]
    return lambda arrays: session.outputs(arrays).raw_unit_scores
