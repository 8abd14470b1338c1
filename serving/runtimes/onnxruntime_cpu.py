"""ONNX Runtime on the CPU."""

from pathlib import Path

import onnxruntime

from essays.encoding import Arrays
from essays.manifest import Graph, Precision
from essays.outputs import Outputs, outputs_from
from serving.runtimes.interface import Session, Tensors, does_not_load, require_tensors

_DTYPES = {"tensor(int64)": "int64", "tensor(float)": "float32"}


class OnnxRuntimeCpu:
    """One ONNX Runtime session that all lanes share: it may be run from several threads at once."""

    def open(self, graph: Graph, folder: Path, num_lanes: int) -> list[Session]:
        """As `Runtime.open`."""
        session = load(folder / graph.file, graph, _cpu_options(), ["CPUExecutionProvider"])
        runtime = f"onnxruntime {onnxruntime.__version__} cpu {graph.precision}"
        return [OnnxSession(session, runtime, graph.precision)] * num_lanes


class OnnxSession:
    """Runs on the caller's thread."""

    def __init__(self, session: onnxruntime.InferenceSession, runtime: str, precision: Precision) -> None:
        self.runtime = runtime
        self.precision = precision
        self._session = session
        self._input_names = [tensor.name for tensor in session.get_inputs()]
        self._output_names = [tensor.name for tensor in session.get_outputs()]

    def outputs(self, arrays: Arrays) -> Outputs:
        """As `Session.outputs`."""
        results = self._session.run(self._output_names, {name: arrays[name] for name in self._input_names})
        return outputs_from(dict(zip(self._output_names, results, strict=True)))


def load(
    path: Path, graph: Graph, options: onnxruntime.SessionOptions, providers: list[str | tuple[str, dict[str, str]]]
) -> onnxruntime.InferenceSession:
    """A session on these providers. Raises GraphInvalid when the file does not load or is another graph."""
    # Nothing: every error is raised as well, and of a node that failed it would print values of its inputs.
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:
        raise does_not_load(path, error) from error
    require_tensors(path, _tensors(session.get_inputs()), _tensors(session.get_outputs()), graph)
    return session


def _cpu_options() -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    # Lanes are the parallelism: a pool of threads inside each would only fight over the same cores, and spin.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def _tensors(nodes: list[onnxruntime.NodeArg]) -> Tensors:
    return {node.name: (_DTYPES.get(node.type, node.type), len(node.shape)) for node in nodes}
