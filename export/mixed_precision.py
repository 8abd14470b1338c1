"""An fp32 graph whose matrix products alone are at half precision; all between them stays in fp32.

Norms, softmax, sums over the residual stream, pooling and heads are a small part of the work and most of the error. For
runtimes that take types from the graph and choose none themselves (TensorRT's strongly typed networks).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import onnx
from onnx import NodeProto, TensorProto, helper

from essays.errors import StageFailed

HalfPrecision = Literal["fp16", "bf16"]
_TYPES: dict[HalfPrecision, int] = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}


def write_mixed(source: Path, target: Path, precision: HalfPrecision) -> int:
    """Write `source` with casts around each matrix product; how many there were. Raises StageFailed for none."""
    model = onnx.load(str(source))
    nodes = [new for node in model.graph.node for new in _with_casts(node, _TYPES[precision])]
    num_products = (len(nodes) - len(model.graph.node)) // 3
    if not num_products:
        raise StageFailed(f"{source}: no matrix product, so nothing that {precision} would make faster")
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(target))
    return num_products


def _with_casts(node: NodeProto, kind: int) -> Iterator[NodeProto]:
    if node.op_type != "MatMul":
        yield node
        return
    (output,) = node.output
    halves = [f"{output}/half_{place}" for place in range(2)]
    for name, half in zip(node.input, halves, strict=True):
        yield helper.make_node("Cast", [name], [half], to=kind)
    yield helper.make_node("MatMul", halves, [f"{output}/half"], name=node.name)
    yield helper.make_node("Cast", [f"{output}/half"], [output], to=TensorProto.FLOAT)
