"""int8 by static calibration: a graph of its own, near the fp32 one, whose scores no neighbour moves."""

import warnings
from pathlib import Path

import numpy as np
import onnx
import pandas as pd
import pytest

from essays.encoding import TOKENIZER_FILE
from essays.errors import StageFailed
from essays.manifest import GRAPH_FILE, Graph
from export.exported import read_exported
from export.quantize import quantize_graph
from serving.runtimes.openvino_cpu import OpenVinoCpu
from tests.optional import installed
from training.models import load_model


def test_without_nncf_the_list_to_install_is_named(
    model_folders: dict[str, Path], essays: pd.DataFrame, tmp_path: Path
) -> None:
    with pytest.raises(StageFailed, match=r"requirements/int8\.txt"):
        quantize_graph(load_model(model_folders["encoder"]), tmp_path, essays, 20)


@pytest.mark.slow
def test_an_int8_graph_is_near_and_its_scores_are_their_own(
    exports: dict[str, Path],
    model_folders: dict[str, Path],
    essays: pd.DataFrame,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(installed("int8", "--no-deps"))
    for name in (GRAPH_FILE, TOKENIZER_FILE):
        (tmp_path / name).write_bytes((exports["encoder"] / name).read_bytes())
    loaded, fp32 = load_model(model_folders["encoder"]), read_exported(exports["encoder"]).graphs[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of NNCF's own making
        described = quantize_graph(loaded, tmp_path, essays, 20)
    assert described.precision == "int8"
    assert (described.inputs, described.outputs) == (fp32.inputs, fp32.outputs)
    kinds = {node.op_type for node in onnx.load(str(tmp_path / described.file)).graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= kinds

    encoded = [loaded.encoder.encode(text, place % 2) for place, text in enumerate(essays.text)]

    def scores(graph: Graph, order: slice) -> np.ndarray:
        (session,) = OpenVinoCpu().open(graph, tmp_path, 1)
        return np.concatenate(
            [session.outputs(loaded.encoder.collate([essay])).raw_unit_scores for essay in encoded[order]]
        )

    full, low = scores(fp32, slice(None)), scores(described, slice(None))
    assert 0 < np.abs(full - low).max() < 0.1
    assert np.corrcoef(full, low)[0, 1] > 0.98
    np.testing.assert_array_equal(scores(described, slice(None, None, -1))[::-1], low)
