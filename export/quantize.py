"""An int8 graph by static calibration: ranges come from train essays and are fixed, so no score depends on another.

NNCF's recipe for transformers: SmoothQuant moves outliers of activations into the weights, softmax and norms stay in
floating point, biases take back what rounding shifted. Whether the grades survive it is `export.precisions`' matter.
"""

import importlib
from pathlib import Path
from types import ModuleType

import onnx
import pandas as pd

from essays.errors import StageFailed
from essays.manifest import GRAPH_FILE, Graph
from export.parity import sample_essays
from export.to_onnx import describe_graph
from training.models import LoadedModel

INT8_FILE = "model-int8.onnx"


def quantize_graph(loaded: LoadedModel, folder: Path, train_essays: pd.DataFrame, num_essays: int) -> Graph:
    """Write the folder's fp32 graph in int8 and describe it; `train_essays` has columns essay_id, prompt_id, text.

    The essays are spread evenly over the lengths, shortest and longest among them. Raises StageFailed without NNCF.
    """
    nncf = _nncf()
    sample = sample_essays(train_essays, loaded.spec.prompt_ids, num_essays)
    arrays = [
        loaded.encoder.collate([loaded.encoder.encode(text, loaded.spec.prompt_index(prompt_id))])
        for prompt_id, text in zip(sample.prompt_id, sample.text, strict=True)
    ]
    quantized = nncf.quantize(
        onnx.load(str(folder / GRAPH_FILE)),
        nncf.Dataset(arrays),
        preset=nncf.QuantizationPreset.MIXED,
        model_type=nncf.ModelType.TRANSFORMER,
        subset_size=len(arrays),
    )
    onnx.save(quantized, str(folder / INT8_FILE))
    return describe_graph(folder / INT8_FILE, "int8")


def _nncf() -> ModuleType:
    try:
        return importlib.import_module("nncf")  # takes seconds, and only who quantizes needs it
    except ImportError as error:
        raise StageFailed("int8 needs NNCF; pip install --no-deps -r requirements/int8.txt") from error
