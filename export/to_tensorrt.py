"""Engines for NVIDIA GPUs: a graph compiled for one architecture by one version of TensorRT, with a profile per bucket.

Two builders make the same kind of plan. `tensorrt` measures kernels on the GPU of this machine and builds for it alone;
`tensorrt_rtx` (TensorRT for RTX) needs no GPU and builds for an architecture that is named. Both take types from the
graph, so half precision is written into it first (`export.mixed_precision`). No plan runs on another architecture or
version: both are part of an engine's key.
"""

import importlib
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from essays.bundle import write_bundle
from essays.engines import ENGINE_FILE, Bucket, BuilderName, EngineManifest, engine_key, engine_version
from essays.errors import StageFailed
from essays.manifest import Graph, describe_file
from export.mixed_precision import HalfPrecision, write_mixed

_ARCHITECTURE = re.compile(r"sm(\d{2,3})")


@dataclass(frozen=True)
class EngineSource:
    """A published model's graph, to be built."""

    name: str
    version: str
    graph: Graph
    graph_file: Path
    buckets: Sequence[Bucket]


class NoBuilder(StageFailed):
    """Nothing here can build engines; the message says what would."""


@dataclass(frozen=True)
class EngineBuilder:
    """A TensorRT that can build on this machine, for one architecture."""

    module: ModuleType
    name: BuilderName
    architecture: str
    """`sm89`: compute capability 8.9."""

    @property
    def key(self) -> str:
        """What an engine is bound to, as its manifest says it."""
        return engine_key(self.architecture, self.name, self.module.__version__)

    def build(self, graph: Path, buckets: Sequence[Bucket]) -> bytes:
        """The plan of a graph with free batch and length. Raises StageFailed with TensorRT's own words."""
        trt = self.module
        logger = _collector(trt)
        builder = trt.Builder(logger)
        network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        parser = trt.OnnxParser(network, logger)
        if not parser.parse_from_file(str(graph)):
            faults = "; ".join(parser.get_error(place).desc() for place in range(parser.num_errors))
            raise StageFailed(f"{graph}: {self.name} {trt.__version__} cannot read it: {faults}")
        config = builder.create_builder_config()
        for bucket in buckets:
            config.add_optimization_profile(_profile(builder, network, bucket))
        if self.name == "tensorrt_rtx":
            config.num_compute_capabilities = 1
            config.set_compute_capability(getattr(trt.ComputeCapability, self.architecture.upper()), 0)
        plan = builder.build_serialized_network(network, config)
        if plan is None:
            raise StageFailed(f"{graph}: {self.key} built no engine: {logger.last or 'it gave no reason'}")
        return bytes(plan)


def length_buckets(longest: int, token_budget: int, shares: Sequence[float] = (0.25, 0.5, 0.75, 1.0)) -> list[Bucket]:
    """Buckets up to the encoding's `longest` length, each with as many essays as its share of `token_budget` holds."""
    ends = sorted({max(1, round(longest * share)) for share in shares})
    starts = [1, *(end + 1 for end in ends[:-1])]
    return [
        Bucket(shortest=start, longest=end, most_essays=max(1, token_budget // end))
        for start, end in zip(starts, ends, strict=True)
    ]


def package_engine(
    source: EngineSource, builder: EngineBuilder, precision: Literal["fp32"] | HalfPrecision, out_folder: Path
) -> Path:
    """Build a published model's graph and write the engine's bundle, in a folder of its key below `out_folder`."""
    folder = out_folder / source.name / builder.key
    staging = folder / "staging"
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    graph = source.graph_file
    if precision != "fp32":
        graph = staging / f"{precision}.onnx"
        write_mixed(source.graph_file, graph, precision)
    (staging / ENGINE_FILE).write_bytes(builder.build(graph, source.buckets))
    manifest = EngineManifest(
        name=source.name,
        version="0" * 12,
        model_version=source.version,
        architecture=builder.architecture,
        builder=builder.name,
        builder_version=builder.module.__version__,
        precision=precision,
        buckets=tuple(source.buckets),
        inputs=source.graph.inputs,
        outputs=source.graph.outputs,
        files={ENGINE_FILE: describe_file(staging / ENGINE_FILE)},
    )
    bundle = write_bundle(staging, manifest.model_copy(update={"version": engine_version(manifest)}), folder)
    shutil.rmtree(staging)
    return bundle


def find_builder(architecture: str | None = None) -> EngineBuilder:
    """For the named architecture, else for this machine's GPU. Raises NoBuilder, saying what is missing."""
    if architecture is None:
        capability = _gpu_capability()
        if capability is None:
            raise NoBuilder("no NVIDIA GPU answers here, so there is nothing to build for; name an architecture (sm89)")
        return EngineBuilder(_installed("tensorrt"), "tensorrt", capability)
    trt = _installed("tensorrt_rtx")
    known = [name.lower() for name in dir(trt.ComputeCapability) if _ARCHITECTURE.fullmatch(name.lower())]
    if architecture not in known:
        raise NoBuilder(f"tensorrt_rtx {trt.__version__} builds for {', '.join(known)}, not for {architecture!r:.20}")
    return EngineBuilder(trt, "tensorrt_rtx", architecture)


def _installed(name: BuilderName) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        listed = "requirements/gpu.txt" if name == "tensorrt" else "requirements/tensorrt-rtx.txt"
        raise NoBuilder(f"{name} is not installed; install {listed} into an environment of its own") from error


def _gpu_capability() -> str | None:
    import torch  # only to ask for the GPU

    if not torch.cuda.is_available():
        return None
    major, minor = torch.cuda.get_device_capability()
    return f"sm{major}{minor}"


def _profile(builder: Any, network: Any, bucket: Bucket) -> Any:
    profile = builder.create_optimization_profile()
    for place in range(network.num_inputs):
        tensor = network.get_input(place)
        rank = len(tensor.shape)
        least, most = (1, bucket.shortest)[:rank], (bucket.most_essays, bucket.longest)[:rank]
        profile.set_shape(tensor.name, least, most, most)
    return profile


def _collector(trt: ModuleType) -> Any:
    class Collector(trt.ILogger):  # type: ignore[name-defined]
        """Keeps the last error, which TensorRT tells nobody else."""

        def __init__(self) -> None:
            super().__init__()
            self.last = ""

        def log(self, severity: Any, message: str) -> None:
            if severity <= trt.ILogger.Severity.ERROR:
                self.last = message

    return Collector()
