"""A model on one NVIDIA GPU: PyTorch eager, ONNX Runtime CUDA and TensorRT, one essay at a time and in batches.

Every row scores the same essays at their natural lengths, and its scores are compared with PyTorch's at fp32 first.
Writes reports/bench/gpu.json and prints the table. Needs requirements/gpu.txt in place of onnxruntime.
"""

import argparse
import json
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.gpu.contestants import Contestant, Score, contestants
from benchmarks.speed.machine import describe_machine, find_gpu
from data.tables import ESSAYS_FILE, ESSAYS_SCHEMA, read_table
from essays.console import run, say, wrote
from essays.encoding import Arrays, EncodedEssay
from essays.errors import BadParams
from essays.params import read_params
from export.config import ExportConfig
from serving.runtimes.onnxruntime_gpu import LANES
from training.models import LoadedModel, load_model

FOLDER, REPORT = Path("out/bench/gpu"), Path("reports/bench/gpu.json")
WARM_UP = 20


@dataclass(frozen=True)
class Row:
    """One runtime at one precision."""

    name: str
    max_score_gap: float
    """From PyTorch at fp32, unit scores."""
    p50_ms: float
    """One essay at a time."""
    p99_ms: float
    best_batch: int
    """Essays of like length in a batch, where most are scored in a second."""
    essays_per_s: float
    lanes_essays_per_s: float | None
    """Essays in random order, one in each of the service's lanes, which put them into batches; None without lanes."""


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--model", type=Path, default=Path("out/models/minilm/fold-0"), help="a trained model's folder")
    parser.add_argument("--essays", type=int, default=500, help="how many (default: %(default)s)")
    parser.add_argument("--batches", type=int, nargs="+", default=[8, 32, 64, 128, 256], help="sizes to try")
    parser.add_argument("--report", type=Path, default=REPORT, help="default: %(default)s")
    options = parser.parse_args()
    run(lambda: bench_here(options.model, options.essays, options.batches, options.report))


def bench_here(model: Path, num_essays: int, batches: Sequence[int], report: Path) -> None:
    """All rows for a trained model's folder on this machine's GPU, into `report`. Raises BadParams without one."""
    if find_gpu() is None:
        raise BadParams("nvidia-smi names no GPU here; this benchmark needs one")
    if not torch.cuda.is_available():
        raise BadParams(f"torch {torch.__version__} sees no NVIDIA GPU here; install a build of it for CUDA")
    loaded = load_model(model)
    opset = read_params("export", ExportConfig).opset
    content = bench(loaded, some_essays(loaded, num_essays), batches, FOLDER, opset)
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_text(json.dumps({"machine": describe_machine(), **content}, indent=1) + "\n", encoding="utf-8")
    wrote(report)


def bench(
    loaded: LoadedModel,
    encoded: Sequence[EncodedEssay],
    batches: Sequence[int],
    folder: Path,
    opset: int,
    device: str = "cuda",
) -> dict[str, Any]:
    """All rows, and what was not measured with why; graphs go into `folder`, PyTorch runs on `device`."""
    folder.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    missing: dict[str, str] = {}
    reference: NDArray[np.float32] | None = None
    for contestant in contestants(loaded, folder, opset, missing, device):
        alone = np.concatenate([contestant.score(loaded.encoder.collate([essay])) for essay in encoded])
        reference = alone if reference is None else reference
        rows.append(measure(contestant, loaded, encoded, batches, float(np.abs(alone - reference).max())))
        say(line(rows[-1], rows[0]))
    for name, reason in missing.items():
        say(f"{name}: not measured: {reason}")
    lengths = [essay.tokens_used for essay in encoded]
    return {
        "model": loaded.spec.kind,
        "essays": {"number": len(encoded), "mean_tokens": float(np.mean(lengths)), "most_tokens": max(lengths)},
        "rows": [asdict(row) for row in rows],
        "not_measured": missing,
    }


def some_essays(loaded: LoadedModel, number: int) -> list[EncodedEssay]:
    """Essays of the model's prompts, the same in every run, shortest first."""
    table = read_table(ESSAYS_FILE, ESSAYS_SCHEMA)
    known = [row for row in table.to_pylist() if row["prompt_id"] in loaded.spec.prompt_ids]
    if not known:
        raise BadParams(f"{ESSAYS_FILE} has no essay on {', '.join(loaded.spec.prompt_ids)}")
    chosen = np.random.default_rng(0).permutation(len(known))[:number]
    encoded = [
        loaded.encoder.encode(known[place]["text"], loaded.spec.prompt_index(known[place]["prompt_id"]))
        for place in chosen
    ]
    return sorted(encoded, key=lambda essay: essay.tokens_used)


def measure(
    contestant: Contestant, loaded: LoadedModel, encoded: Sequence[EncodedEssay], batches: Sequence[int], gap: float
) -> Row:
    """Latency one by one in random order, then the best throughput over batch sizes; lengths are warm already."""
    order = np.random.default_rng(1).permutation(len(encoded))
    singles = [loaded.encoder.collate([encoded[place]]) for place in order]
    for arrays in singles[:WARM_UP]:
        contestant.score(arrays)
    times_ms = []
    for arrays in singles:
        began = time.perf_counter()
        contestant.score(arrays)
        times_ms.append(1000 * (time.perf_counter() - began))
    rates = {size: rate(contestant.score, in_batches(loaded, encoded, size)) for size in batches}
    best = max(rates, key=lambda size: rates[size])
    in_lanes = rate(contestant.score, singles, LANES) if contestant.shared else None
    p50, p99 = np.percentile(times_ms, [50, 99])
    return Row(contestant.name, gap, float(p50), float(p99), best, rates[best], in_lanes)


def in_batches(loaded: LoadedModel, encoded: Sequence[EncodedEssay], size: int) -> list[Arrays]:
    """Batches of `size` neighbours, which are of like length."""
    return [loaded.encoder.collate(encoded[start : start + size]) for start in range(0, len(encoded), size)]


def rate(score: Score, made: Sequence[Arrays], num_lanes: int = 1) -> float:
    """Essays a second over batches made beforehand, `num_lanes` at a time; the better of two warm runs."""
    seconds = []
    with ThreadPoolExecutor(num_lanes) as lanes:
        for _ in range(3):
            began = time.perf_counter()
            for _ in lanes.map(score, made):
                pass
            seconds.append(time.perf_counter() - began)
    return sum(len(arrays["prompt_index"]) for arrays in made) / min(seconds[1:])


def line(row: Row, reference: Row) -> str:
    """A row in words, with its ratios to the reference."""
    in_lanes = f"  {row.lanes_essays_per_s:.0f} in {LANES} lanes" if row.lanes_essays_per_s else ""
    return (
        f"{row.name:24}  p50 {row.p50_ms:6.2f} ms ({reference.p50_ms / row.p50_ms:.1f}x)  p99 {row.p99_ms:6.2f} ms"
        f"  {row.essays_per_s:7.0f} essays/s at {row.best_batch} ({row.essays_per_s / reference.essays_per_s:.1f}x)"
        f"{in_lanes}  gap {row.max_score_gap:.1e}"
    )


if __name__ == "__main__":
    main()
