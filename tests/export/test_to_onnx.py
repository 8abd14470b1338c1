"""Graphs are the modules they came from: any batch, any length, the same scores."""

from pathlib import Path

import numpy as np
import onnx
import pandas as pd
import pytest
import torch

from essays.calibration import Calibration
from essays.errors import StageFailed
from export.config import ExportConfig
from export.graphs import open_graph, run_graph
from export.parity import compare, sample_essays
from export.to_onnx import OUTPUT_NAME, export_graph
from training.models import LoadedModel


def test_a_graph_has_the_encoders_inputs_and_free_axes(loaded: LoadedModel, tmp_path: Path) -> None:
    graph = export_graph(loaded, tmp_path / "model.onnx", 17)
    essay = loaded.encoder.encode("the dog laughs", 0)
    assert {tensor.name for tensor in graph.inputs} == set(loaded.encoder.collate([essay]))
    assert all(tensor.shape[0] == "batch" for tensor in graph.inputs + graph.outputs)
    assert [tensor.name for tensor in graph.outputs] == [OUTPUT_NAME]
    assert not list(tmp_path.glob("*.data"))


@pytest.mark.parametrize("num_essays", [1, 3, 9])
def test_a_graph_scores_any_batch_as_its_module_does(loaded: LoadedModel, num_essays: int, tmp_path: Path) -> None:
    export_graph(loaded, tmp_path / "model.onnx", 17)
    texts = [" ".join(["we", "think", "water"] * (count + 1)) for count in range(num_essays)]
    arrays = loaded.encoder.collate([loaded.encoder.encode(text, place % 2) for place, text in enumerate(texts)])
    with torch.inference_mode():
        ours = loaded.module(**{name: torch.from_numpy(array) for name, array in arrays.items()}).numpy()
    theirs = run_graph(open_graph(tmp_path / "model.onnx"), arrays)
    assert theirs.shape == (num_essays,)
    np.testing.assert_allclose(theirs, ours, atol=1e-5)


def test_scores_tell_essays_and_prompts_apart(loaded: LoadedModel, tmp_path: Path) -> None:
    export_graph(loaded, tmp_path / "model.onnx", 17)
    session = open_graph(tmp_path / "model.onnx")
    pairs = [("the dog laughs", 0), ("the dog laughs", 1), ("we go late because they think", 0)]
    scores = [run_graph(session, loaded.encoder.collate([loaded.encoder.encode(*pair)]))[0] for pair in pairs]
    assert len({round(float(score), 6) for score in scores}) == 3


def test_parity_is_measured_alone_and_batched(
    loaded: LoadedModel, essays: pd.DataFrame, calibration: Calibration, export_config: ExportConfig, tmp_path: Path
) -> None:
    export_graph(loaded, tmp_path / "model.onnx", 17)
    report = compare(loaded, tmp_path / "model.onnx", calibration, essays, export_config)
    assert report.num_essays == 60
    assert report.max_gap <= 1e-4
    assert report.max_gap_batched <= 1e-4
    assert report.same_grade_share == 1.0


def test_a_graph_with_one_changed_weight_fails_parity(
    loaded: LoadedModel, essays: pd.DataFrame, calibration: Calibration, export_config: ExportConfig, tmp_path: Path
) -> None:
    path = tmp_path / "model.onnx"
    export_graph(loaded, path, 17)
    model = onnx.load(str(path))
    weights = [tensor for tensor in model.graph.initializer if tensor.name.endswith(("target.deviation", "bias"))]
    assert weights
    for tensor in weights:
        tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor) + 0.01, tensor.name))
    onnx.save(model, str(path))
    with pytest.raises(StageFailed, match="largest gap"):
        compare(loaded, path, calibration, essays, export_config)


def test_the_sample_spans_all_lengths_of_a_models_prompts(essays: pd.DataFrame) -> None:
    sample = sample_essays(essays, ["asap-1"], 10)
    assert len(sample) == 10
    assert set(sample.prompt_id) == {"asap-1"}
    lengths = essays[essays.prompt_id == "asap-1"].text.str.len()
    assert sample.text.str.len().min() == lengths.min()
    assert sample.text.str.len().max() == lengths.max()
    assert len(sample_essays(essays, ["asap-1"], 1000)) == 30
