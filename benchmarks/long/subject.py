"""The graphs that are measured: exported ones, or those of untrained models, which take the same time and memory."""

from dataclasses import dataclass
from pathlib import Path

from essays.console import say
from essays.encoding import Encoding
from essays.manifest import GRAPH_FILE, Graph, RunMemory
from essays.params import read_params

PROMPT_ID = "ellipse-overall"


@dataclass(frozen=True)
class Subject:
    """A graph on this disk."""

    name: str
    folder: Path
    graph: Graph
    memory: RunMemory | None
    trained: bool


def find_subject(name: str, folder: Path) -> Subject:
    """The model's graph: from out/export, where the pipeline ran, else made of its pretrained weights in `folder`."""
    from export.exported import EXPORTED_FILE, Exported, export_folder, read_exported, write_exported

    if (export_folder(name) / EXPORTED_FILE).exists():
        own, trained = export_folder(name), True
    else:
        own, trained = folder / name, False
        if not (own / EXPORTED_FILE).exists():
            graph, memory, encoding = _untrained(name, own)
            kind = "decoder" if memory else "encoder"
            parts = {"kind": kind, "prompt_ids": (PROMPT_ID,), "encoding": encoding, "graphs": (graph,)}
            write_exported(Exported.model_validate({**parts, "memory": memory}), own)
    exported = read_exported(own)
    return Subject(name, own, exported.graphs[0], exported.memory, trained)


def _untrained(name: str, folder: Path) -> tuple[Graph, RunMemory | None, Encoding]:
    from export.config import ExportConfig
    from export.run_memory import run_memory
    from export.to_onnx import export_graph
    from training.config import TrainConfig
    from training.models import LoadedModel
    from training.start import finished_model, start_model

    say(f"{name}: no export in out/export, so its pretrained weights are exported without training")
    config: TrainConfig = read_params(f"train.{name}", TrainConfig)  # type: ignore[arg-type]  # a union is no class
    model = finished_model(start_model(config, [PROMPT_ID], [], seed=7), config)
    path = folder / GRAPH_FILE
    loaded = LoadedModel(model.scorer.eval(), model.spec, model.encoder)
    graph = export_graph(loaded, path, read_params("export", ExportConfig).opset)
    return graph, run_memory(model.spec, path), model.spec.encoding
