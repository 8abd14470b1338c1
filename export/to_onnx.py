"""A checkpoint's module as one ONNX file, with free batch and length and the inputs that its encoder makes."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import nn
from transformers import PreTrainedModel

from essays.encoding import Arrays
from essays.errors import StageFailed
from essays.manifest import OUTPUT_NAME, TRAITS_OUTPUT_NAME, Graph, Precision, TensorSpec
from training.models import LoadedModel
from training.trait_heads import ScorerWithTraits

# Two essays of different lengths: a graph traced on one row, or without padding, may freeze what must stay free.
_EXAMPLE_TEXTS = (
    "Our school should start later in the morning, because pupils who sleep well learn more and are kinder.",
    "I agree.",
)
_LARGEST_BYTES = 2_000_000_000
"""Of weights in one file: protobuf's limit is 2 GiB, the graph itself included."""
_AXIS_NAMES = ("batch", "length")
# What the exporter says of graphs that are right: tests run them at other batches and lengths than they were traced at.
_EXPECTED = (
    (DeprecationWarning, "You are using the legacy TorchScript-based ONNX export"),
    (DeprecationWarning, "The feature will be removed"),
    (Warning, "Converting a tensor to a Python boolean"),
    (UserWarning, "Exporting a model to ONNX with a batch_size other than 1"),
    (UserWarning, "Exporting aten::index operator of advanced indexing"),
)


def export_graph(loaded: LoadedModel, path: Path, opset: int) -> Graph:
    """Write the module's graph to `path` and describe it.

    Raises StageFailed when the graph is not valid ONNX, or when the module is too large for one file.

    A module with traits (`training.trait_heads`) gives its graph a second output.
    The TorchScript exporter is used on purpose: ONNX Runtime fuses attention in its graphs and not in those of the
    newer one, which also fixes the LSTM's batch at export.
    """
    _require_one_file(loaded.module, path)
    example = example_arrays(loaded)
    path.parent.mkdir(parents=True, exist_ok=True)
    _trace(loaded.module.eval(), example, path, opset)
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except onnx.checker.ValidationError as error:
        raise StageFailed(f"{path}: the exporter wrote a graph that is not valid ONNX: {error}") from error
    return describe_graph(path)


def example_arrays(loaded: LoadedModel) -> Arrays:
    """A batch of two essays of ours, to trace with."""
    return loaded.encoder.collate([loaded.encoder.encode(text, prompt_index=0) for text in _EXAMPLE_TEXTS])


def describe_graph(path: Path, precision: Precision = "fp32") -> Graph:
    """Inputs and outputs of a graph, as a manifest lists them."""
    graph = onnx.load(str(path)).graph
    return Graph(
        file=path.name,
        precision=precision,
        inputs=tuple(map(_describe_tensor, graph.input)),
        outputs=tuple(map(_describe_tensor, graph.output)),
    )


def _require_one_file(module: nn.Module, path: Path) -> None:
    size = sum(weight.numel() * weight.element_size() for weight in module.state_dict().values())
    if size > _LARGEST_BYTES:
        raise StageFailed(
            f"{path}: {size / 1e9:.1f} GB of weights, and an ONNX file holds at most 2 GB; the rest would be external"
            " data, which the service never reads (docs/decoders.md)"
        )


def _trace(module: nn.Module, example: Mapping[str, np.ndarray], path: Path, opset: int) -> None:
    tensors = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in example.items()}
    output_names = [OUTPUT_NAME, TRAITS_OUTPUT_NAME] if isinstance(module, ScorerWithTraits) else [OUTPUT_NAME]
    with warnings.catch_warnings(), _eager_attention(module):
        for category, message in _EXPECTED:
            warnings.filterwarnings("ignore", message, category)
        torch.onnx.export(
            module,
            (),
            str(path),
            kwargs=tensors,
            input_names=list(tensors),
            output_names=output_names,
            dynamic_axes={name: _free_axes(name, tensor) for name, tensor in tensors.items()}
            | {name: {0: "batch"} for name in output_names},
            opset_version=opset,
            dynamo=False,
        )


@contextmanager
def _eager_attention(module: nn.Module) -> Iterator[None]:
    """Attention spelt out while the block lasts: a fifth fewer nodes, in the form that ONNX Runtime can fuse."""
    backbones = [part for part in module.modules() if isinstance(part, PreTrainedModel)]
    before = [backbone.config._attn_implementation for backbone in backbones]
    for backbone in backbones:
        backbone.set_attn_implementation("eager")
    try:
        yield
    finally:
        for backbone, implementation in zip(backbones, before, strict=True):
            backbone.set_attn_implementation(implementation)


def _free_axes(name: str, tensor: torch.Tensor) -> dict[int, str]:
    # Surface features have a fixed width; every other second axis is a length.
    free = tensor.ndim if name != "features" else 1
    return dict(enumerate(_AXIS_NAMES[:free]))


def _describe_tensor(value: onnx.ValueInfoProto) -> TensorSpec:
    tensor = value.type.tensor_type
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name
    shape = tuple(dim.dim_param or dim.dim_value for dim in tensor.shape.dim)
    return TensorSpec.model_validate({"name": value.name, "dtype": dtype, "shape": shape})
