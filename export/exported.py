"""The folder between export and packaging: graph, tokenizer, and what a manifest needs to know of them."""

from pathlib import Path
from typing import Literal, TypeVar

from pydantic import Field, ValidationError

from essays.encoding import Encoding
from essays.errors import StageFailed
from essays.manifest import Graph, PrecisionParity, RunMemory
from essays.params import Section, write_section
from essays.traits import Traits

EXPORT_FOLDER = Path("out/export")
EXPORTED_FILE = "exported.json"
PARITY_FILE = "parity.json"
COMPARED_FILE = "compared.json"
PRECISIONS_FILE = "precisions.json"


Part = TypeVar("Part", bound=Section)


class Exported(Section):
    """A model as it left the training side."""

    kind: Literal["lexical", "lstm", "encoder", "probe", "trees", "decoder"]
    prompt_ids: tuple[str, ...] = Field(min_length=1)
    encoding: Encoding
    graphs: tuple[Graph, ...] = Field(min_length=1)
    precisions: tuple[PrecisionParity, ...] = ()
    """Below fp32, those that passed."""
    memory: RunMemory | None = None
    """What a decoder takes."""
    traits: Traits | None = None
    """What the graphs' second output holds; none where there is none."""


def export_folder(model: str) -> Path:
    """Where a model's export lies."""
    return EXPORT_FOLDER / model


def read_exported(folder: Path) -> Exported:
    """What `pipelines.export` left. Raises StageFailed when it is missing or malformed."""
    return read_part(folder / EXPORTED_FILE, Exported)


def read_part(path: Path, kind: type[Part]) -> Part:
    """One of the export's JSON files. Raises StageFailed when it is missing or malformed."""
    try:
        return kind.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise StageFailed(f"{path}: missing; export the model first (python -m pipelines.export)") from error
    except ValidationError as error:
        raise StageFailed(f"{path}: {error.error_count()} faults; export the model again") from error


def write_exported(exported: Exported, folder: Path) -> None:
    """The export's description."""
    write_section(exported, folder / EXPORTED_FILE)
