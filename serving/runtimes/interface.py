"""What every runtime offers, and the check that a file is the graph which its manifest describes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from essays.encoding import Arrays
from essays.errors import GraphInvalid
from essays.manifest import OUTPUT_NAME, Graph, Precision, TensorSpec
from essays.outputs import Outputs

Tensors = Mapping[str, tuple[str, int]]
"""Name to element type, as numpy names it, and rank."""


class Session(Protocol):
    """A graph that is loaded and can be run, by one thread at a time."""

    @property
    def runtime(self) -> str:
        """What runs it, with version, device and precision."""
        ...

    @property
    def precision(self) -> Precision:
        """Of its numbers."""
        ...

    def outputs(self, arrays: Arrays) -> Outputs:
        """Raw unit scores of a batch, those of traits among them where the graph has any."""
        ...


class Runtime(Protocol):
    """A library on a device."""

    def open(self, graph: Graph, folder: Path, num_lanes: int) -> list[Session]:
        """A session for each lane; weights are in memory once.

        Raises GraphInvalid when the file does not load or is not what the manifest says.
        """
        ...


def require_tensors(path: Path, inputs: Tensors, outputs: Tensors, graph: Graph) -> None:
    """Raise GraphInvalid unless the file's inputs and outputs are those of the manifest, scores among them."""
    for role, found, promised in (("input", inputs, graph.inputs), ("output", outputs, graph.outputs)):
        wanted = {tensor.name: _kind(tensor) for tensor in promised}
        if dict(found) != wanted:
            raise GraphInvalid(
                f"{path}: {role}s are {_describe(found)}, the manifest says {_describe(wanted)};"
                " publish the model again"
            )
    if OUTPUT_NAME not in outputs:
        raise GraphInvalid(f"{path}: no output {OUTPUT_NAME!r}, which holds the scores; export the model again")


def does_not_load(path: Path, error: Exception) -> GraphInvalid:
    """The error for a file that its runtime refuses; runtimes' own errors share no base class."""
    return GraphInvalid(f"{path}: does not load: {first_line(error)}; publish the model again")


def first_line(error: Exception) -> str:
    """What a runtime says, without its stack; its kind where it says nothing."""
    return str(error).splitlines()[0][:300] if str(error) else type(error).__name__


def _kind(tensor: TensorSpec) -> tuple[str, int]:
    return tensor.dtype, len(tensor.shape)


def _describe(tensors: Tensors) -> str:
    return ", ".join(f"{name} {dtype} of rank {rank}" for name, (dtype, rank) in sorted(tensors.items())) or "none"
