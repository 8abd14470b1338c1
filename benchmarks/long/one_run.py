"""A process of its own: loads a graph as the service does and scores one essay of so many tokens; a line of JSON."""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from essays.encoding import Arrays
from essays.manifest import Graph, Precision
from serving.runtimes.interface import Session
from serving.runtimes.onnxruntime_cpu import OnnxRuntimeCpu
from serving.runtimes.openvino_cpu import OpenVinoCpu

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def made_arrays(num_tokens: int) -> Arrays:
    """An essay of random ids, a batch of one."""
    ids = np.random.default_rng(7).integers(100, 20_000, (1, num_tokens))
    return {
        "input_ids": ids,
        "attention_mask": np.ones_like(ids),
        "num_tokens": np.array([num_tokens]),
        "prompt_index": np.array([0]),
    }


def open_session(folder: Path, graph: Graph, runtime: str, precision: Precision) -> Session:
    """One lane's session, on one thread."""
    made = OpenVinoCpu() if runtime == "openvino" else OnnxRuntimeCpu()
    return made.open(graph.model_copy(update={"precision": precision}), folder, 1)[0]


def measure(session: Session, num_tokens: int) -> dict[str, Any]:
    """Seconds of CPU and of the clock, and the peak above what the loaded graph took, of a first run."""
    arrays, before_mb = made_arrays(num_tokens), _status_mb("VmRSS")
    _CLEAR.write_text("5")
    wall, cpu = time.perf_counter(), time.process_time()
    session.outputs(arrays)
    return {
        "tokens": num_tokens,
        "cpu_s": round(time.process_time() - cpu, 2),
        "wall_s": round(time.perf_counter() - wall, 2),
        "loaded_mb": round(before_mb),
        "run_mb": round(_status_mb("VmHWM") - before_mb),
    }


def _status_mb(name: str) -> float:
    line = next(line for line in _STATUS.read_text("ascii").splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024 / 1e6


def main() -> None:
    """Parse, load, run, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--graph", required=True, help="its entry in a manifest, as JSON")
    parser.add_argument("--runtime", choices=["openvino", "onnxruntime"], required=True)
    parser.add_argument("--precision", choices=["fp32", "bf16"], required=True)
    parser.add_argument("--tokens", type=int, required=True)
    options = parser.parse_args()
    graph = Graph.model_validate_json(options.graph)
    session = open_session(options.folder, graph, options.runtime, options.precision)
    print(json.dumps(measure(session, options.tokens)))  # noqa: T201 - what the caller reads


if __name__ == "__main__":
    main()
