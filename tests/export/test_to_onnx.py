"""Graphs are the modules they came from: any batch, any length, the same scores."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pandas as pd
import pytest
import torch

from essays.calibration import Calibration
from essays.ensemble import EnsembleWeights, PromptWeights
from essays.errors import StageFailed
from essays.manifest import OUTPUT_NAME, Parity
from export.config import ExportConfig
from export.exported import COMPARED_FILE, PARITY_FILE, read_part
from export.graphs import open_graph, run_graph
from export.parity import Compared, compare, mix_compared, require_parity, sample_essays
from export.to_onnx import export_graph
from training.models import LoadedModel

PROMPT_IDS = ("asap-1", "ellipse-overall")


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
    theirs = run_graph(open_graph(tmp_path / "model.onnx"), arrays).raw_unit_scores
    assert theirs.shape == (num_essays,)
    np.testing.assert_allclose(theirs, ours, rtol=1e-5, atol=1e-5)


def test_scores_tell_essays_and_prompts_apart(loaded: LoadedModel, tmp_path: Path) -> None:
    export_graph(loaded, tmp_path / "model.onnx", 17)
    session = open_graph(tmp_path / "model.onnx")
    pairs = [("the dog laughs", 0), ("the dog laughs", 1), ("we go late because they think", 0)]
    outputs = [run_graph(session, loaded.encoder.collate([loaded.encoder.encode(*pair)])) for pair in pairs]
    scores = [each.raw_unit_scores[0] for each in outputs]
    assert len({round(float(score), 6) for score in scores}) == 3


def test_export_leaves_the_module_as_it_was(loaded: LoadedModel, tmp_path: Path) -> None:
    arrays = loaded.encoder.collate([loaded.encoder.encode("we think the dog laughs", 0)])
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    attention = [part.config._attn_implementation for part in loaded.module.modules() if hasattr(part, "config")]
    with torch.inference_mode():
        before = loaded.module(**tensors)
        export_graph(loaded, tmp_path / "model.onnx", 17)
        assert torch.equal(loaded.module(**tensors), before)
    assert not loaded.module.training
    after = [part.config._attn_implementation for part in loaded.module.modules() if hasattr(part, "config")]
    assert after == attention


def test_parity_is_measured_alone_and_batched(
    exports: dict[str, Path], calibration: Calibration, export_config: ExportConfig
) -> None:
    for kind, folder in exports.items():
        compared = read_part(folder / COMPARED_FILE, Compared)
        assert len(set(compared.graph)) > 30
        parity = require_parity(kind, compared, calibration, export_config)
        assert parity == read_part(folder / PARITY_FILE, Parity)
        assert parity.num_essays == 60
        assert parity.max_gap == pytest.approx(np.abs(np.subtract(compared.module, compared.graph)).max())
        assert parity.max_gap <= 1e-4
        assert parity.max_gap_batched <= 1e-4
        assert parity.same_grade_share == 1.0


@pytest.mark.parametrize("side", ["graph", "batched"])
@pytest.mark.parametrize("gap", [2e-4, math.nan])
def test_one_essay_that_is_scored_otherwise_fails_parity(
    exports: dict[str, Path], calibration: Calibration, export_config: ExportConfig, side: str, gap: float
) -> None:
    compared = read_part(exports["lexical"] / COMPARED_FILE, Compared)
    scores = [*getattr(compared, side)]
    scores[7] += gap
    with pytest.raises(StageFailed, match="lexical: the graph is not the module: largest gap"):
        require_parity("lexical", compared.model_copy(update={side: tuple(scores)}), calibration, export_config)


def test_grades_that_differ_fail_parity_though_the_scores_are_near(
    exports: dict[str, Path], calibration: Calibration, export_config: ExportConfig
) -> None:
    compared = read_part(exports["lexical"] / COMPARED_FILE, Compared)
    # On both sides of the edge between two grades of asap-1; the other prompt's essays keep theirs.
    edge = 0.5 + (0.55 - 0.5) / 1.2
    near = compared.model_copy(
        update={
            "prompt_ids": ("asap-1",) * 60,
            "module": (edge - 1e-5,) * 60,
            "graph": (edge + 1e-5,) * 60,
            "batched": (edge + 1e-5,) * 60,
        }
    )
    with pytest.raises(StageFailed, match=r"same grade for 0\.0%"):
        require_parity("lexical", near, calibration, export_config)


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
        require_parity("changed", compare(loaded, path, essays, 7), calibration, export_config)


def test_an_ensembles_parity_is_that_of_the_mixes(exports: dict[str, Path], calibration: Calibration) -> None:
    names = ("lexical", "lstm")
    members = {name: read_part(exports[name] / COMPARED_FILE, Compared) for name in names}
    weights = EnsembleWeights(
        prompts=tuple(PromptWeights(prompt_id=p, weights={"lexical": 0.25, "lstm": 0.75}) for p in PROMPT_IDS)
    )
    mixed = mix_compared(weights, members, dict.fromkeys(names, calibration))
    for side in ("module", "graph", "batched"):
        by_hand = [
            0.25 * np.clip(0.5 + 1.2 * (lexical - 0.5), 0, 1) + 0.75 * np.clip(0.5 + 1.2 * (lstm - 0.5), 0, 1)
            for lexical, lstm in zip(*(getattr(members[name], side) for name in names), strict=True)
        ]
        np.testing.assert_allclose(getattr(mixed, side), by_hand, atol=1e-12)
    members["lstm"] = members["lstm"].model_copy(update={"essay_ids": members["lstm"].essay_ids[::-1]})
    with pytest.raises(StageFailed, match="different essays"):
        mix_compared(weights, members, dict.fromkeys(names, calibration))


def test_the_sample_spans_all_lengths_of_a_models_prompts(essays: pd.DataFrame) -> None:
    sample = sample_essays(essays, ["asap-1"], 10)
    assert len(sample) == 10
    assert set(sample.prompt_id) == {"asap-1"}
    lengths = essays[essays.prompt_id == "asap-1"].text.str.len()
    assert sample.text.str.len().min() == lengths.min()
    assert sample.text.str.len().max() == lengths.max()
    assert len(sample_essays(essays, ["asap-1"], 1000)) == 30


def test_a_module_too_large_for_one_file_is_refused_before_it_is_traced(loaded: LoadedModel, tmp_path: Path) -> None:
    with torch.device("meta"):
        large = replace(loaded, module=torch.nn.Linear(30_000, 30_000))
    with pytest.raises(StageFailed, match=r"3\.6 GB of weights, and an ONNX file holds at most 2 GB"):
        export_graph(large, tmp_path / "model.onnx", 17)
