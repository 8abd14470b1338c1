"""The benchmark of runtimes on a GPU, with the CPU where the GPU would be: every row is real but for the device."""

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pandas as pd
import pytest

from benchmarks.gpu import __main__ as gpu
from benchmarks.gpu.__main__ import Row, bench, bench_here, line
from essays.errors import BadParams
from serving.runtimes import onnxruntime_gpu
from training.models import load_model


def test_every_runtime_that_starts_scores_the_same_essays_and_the_rest_are_named(
    model_folders: dict[str, Path], essays: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(onnxruntime_gpu._PROVIDERS, "cuda", "CPUExecutionProvider")
    loaded = load_model(model_folders["encoder"])
    encoded = [
        loaded.encoder.encode(text, loaded.spec.prompt_index(prompt_id))
        for text, prompt_id in zip(essays["text"], essays["prompt_id"], strict=True)
    ]
    content = bench(loaded, encoded, [4, 16], tmp_path, opset=17, device="cpu")
    rows = {row["name"]: row for row in content["rows"]}
    assert list(rows) == [
        "PyTorch eager, fp32",
        "PyTorch eager, bf16",
        "ONNX Runtime CUDA, fp32",
        "ONNX Runtime CUDA, fp16",
    ]
    assert list(content["not_measured"]) == ["TensorRT"]
    assert "CPUExecutionProvider" in content["not_measured"]["TensorRT"]
    assert content["essays"] == {
        "number": 60,
        "mean_tokens": float(np.mean([essay.tokens_used for essay in encoded])),
        "most_tokens": 32,
    }
    assert rows["PyTorch eager, fp32"]["max_score_gap"] == 0
    assert rows["ONNX Runtime CUDA, fp32"]["max_score_gap"] < 1e-5
    assert 0 < rows["ONNX Runtime CUDA, fp16"]["max_score_gap"] < 0.02
    assert all(0 < row["p50_ms"] <= row["p99_ms"] and row["essays_per_s"] > 0 for row in rows.values())
    assert {row["best_batch"] for row in rows.values()} <= {4, 16}
    in_lanes = {name for name, row in rows.items() if row["lanes_essays_per_s"]}
    assert in_lanes == {"ONNX Runtime CUDA, fp32", "ONNX Runtime CUDA, fp16"}
    json.dumps(content)


def test_a_line_gives_the_ratios_to_the_reference() -> None:
    reference, other = Row("a", 0.0, 4.0, 8.0, 32, 500.0, None), Row("b", 1e-4, 1.0, 2.0, 64, 1500.0, 900.0)
    assert "(4.0x)" in line(other, reference)
    assert "(3.0x)  900 in 64 lanes" in line(other, reference)


def test_without_a_gpu_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.fail("this test is for machines without a GPU build")
    monkeypatch.setattr(gpu, "find_gpu", lambda: None)
    with pytest.raises(BadParams, match="nvidia-smi names no GPU here"):
        bench_here(tmp_path, 10, [4], tmp_path / "gpu.json")
    monkeypatch.setattr(gpu, "find_gpu", lambda: "a card")
    with pytest.raises(BadParams, match="sees no NVIDIA GPU here; install a build of it for CUDA"):
        bench_here(tmp_path, 10, [4], tmp_path / "gpu.json")
    assert not (tmp_path / "gpu.json").exists()
