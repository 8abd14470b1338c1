"""The folder between export and packaging: graph, tokenizer, and what a manifest needs to know of them."""

from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from essays.encoding import Encoding
from essays.errors import StageFailed
from essays.manifest import Graph
from essays.params import Section

EXPORT_FOLDER = Path("out/export")
EXPORTED_FILE = "exported.json"
PARITY_FILE = "parity.json"


class Exported(Section):
    """A model as it left the training side."""

    kind: Literal["lexical", "lstm", "encoder", "decoder"]
    prompt_ids: tuple[str, ...] = Field(min_length=1)
    encoding: Encoding
    graphs: tuple[Graph, ...] = Field(min_length=1)


def export_folder(model: str) -> Path:
    """Where a model's export lies."""
    return EXPORT_FOLDER / model


def read_exported(folder: Path) -> Exported:
    """What `write_exported` left. Raises StageFailed when it is missing or malformed."""
    path = folder / EXPORTED_FILE
    try:
        return Exported.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise StageFailed(f"{path}: missing; export the model first (python -m pipelines.export)") from error
    except ValidationError as error:
        raise StageFailed(f"{path}: {error.error_count()} faults; export the model again") from error


def write_exported(exported: Exported, folder: Path) -> None:
    """The same bytes for the same export."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / EXPORTED_FILE).write_text(exported.model_dump_json(indent=1) + "\n", encoding="utf-8")
