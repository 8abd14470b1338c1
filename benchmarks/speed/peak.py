"""How much arithmetic one core of this CPU does at most: the best of repeated large matrix products in OpenVINO.

`python -m benchmarks.speed.peak` prints GFLOP per CPU second by precision, as JSON. CPU time, not wall time: what else
runs on the machine takes little from it.
"""

import json
import time
from typing import Any

import numpy as np
import openvino
from openvino import opset13 as ops

# Like a layer's feed-forward product, made larger; its operands fit the second-level cache as tiles.
ROWS, INNER, COLUMNS = 512, 1536, 1536
_REPEATS = 30
_HINTS = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}
_RANGE = 4.0


def peak_gflops() -> dict[str, float]:
    """By precision; one that this CPU lacks is left out."""
    core = openvino.Core()
    able = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    precisions = ["fp32", *(["bf16"] if "BF16" in able else []), *(["int8"] if "INT8" in able else [])]
    return {precision: round(_best(core, precision), 1) for precision in precisions}


def _best(core: openvino.Core, precision: str) -> float:
    options = {"INFERENCE_PRECISION_HINT": _HINTS[precision], "INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1}
    request = core.compile_model(_product(quantized=precision == "int8"), "CPU", options).create_infer_request()
    operand = np.random.default_rng(1).normal(size=(ROWS, INNER)).astype(np.float32)
    times = []
    for _ in range(_REPEATS):
        since = time.process_time()
        request.infer([operand], share_inputs=True)
        times.append(time.process_time() - since)
    return 2 * ROWS * INNER * COLUMNS * _DEPTH / min(times) / 1e9


# Several products after each other: what turns the input into the precision and back is then a small part.
_DEPTH = 6


def _product(*, quantized: bool) -> openvino.Model:
    rng = np.random.default_rng(0)
    operand: Any = ops.parameter([ROWS, INNER], np.float32)
    flowing = operand
    for _ in range(_DEPTH):
        weights: Any = ops.constant(rng.normal(size=(INNER, COLUMNS), scale=INNER**-0.5).astype(np.float32))
        if quantized:
            flowing, weights = _in_int8(flowing, 256), _in_int8(weights, 255)
        flowing = ops.matmul(flowing, weights, False, False)
    return openvino.Model([flowing], [operand])


def _in_int8(node: Any, levels: int) -> Any:
    low, high = (np.float32(end) for end in (-_RANGE, _RANGE))
    return ops.fake_quantize(node, low, high, low, high, levels)


if __name__ == "__main__":
    print(json.dumps(peak_gflops()))  # noqa: T201 - stdout is the answer
