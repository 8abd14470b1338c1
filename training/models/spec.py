"""What `model.json` says of a model: enough to build its module and its encoder again, without the corpus or a hub."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from essays.encoding import Encoding
from essays.errors import StageFailed
from essays.params import Section, write_section

SPEC_FILE = "model.json"

Kind = Literal["lexical", "trees", "lstm", "encoder", "probe", "decoder"]


class LexicalShape(Section):
    """A linear model over hashed n-grams and surface features; the encoding gives its sizes."""

    kind: Literal["lexical"] = "lexical"


class LstmShape(Section):
    """A two-way LSTM over word vectors."""

    kind: Literal["lstm"] = "lstm"
    num_words: int = Field(gt=0)
    """Rows of the word table, those for padding and for unknown words among them."""
    word_size: int = Field(gt=0)
    """Numbers of a word vector."""
    hidden_size: int = Field(gt=0)
    """Numbers of the state, in each of the two directions."""
    prompt_size: int = Field(gt=0)
    """Numbers of a prompt's vector."""
    dropout: float = Field(ge=0, lt=1)
    """Share of word vectors' and of pooled numbers hidden while learning; none while scoring."""


class EncoderShape(Section):
    """A transformer encoder with CLS and mean pooling."""

    kind: Literal["encoder"] = "encoder"
    backbone: dict[str, Any]
    """The backbone's own configuration, as `transformers` writes it, `model_type` included."""


class ProbeShape(Section):
    """A linear probe of a transformer encoder's mean states."""

    kind: Literal["probe"] = "probe"
    backbone: dict[str, Any]
    """The backbone's own configuration, with as many layers as are read."""
    pooled_layers: tuple[int, ...] = Field(min_length=1)
    """Layers whose mean states are read, rising from 1."""


class TreesShape(Section):
    """Boosted trees over surface features and components of n-grams; the encoding gives the number of buckets."""

    kind: Literal["trees"] = "trees"
    num_components: int = Field(gt=0)
    """Principal components of the n-grams, for each prompt."""
    num_trees: int = Field(gt=0)
    """Trees of a prompt."""
    num_nodes: int = Field(gt=0)
    """Nodes that each tree has room for, leaves counted in."""
    depth: int = Field(gt=0)
    """Splits on the longest way from a root to a leaf."""


class DecoderShape(Section):
    """A language model whose last state is scored."""

    kind: Literal["decoder"] = "decoder"
    backbone: dict[str, Any]
    """The backbone's own configuration, as `transformers` writes it, `model_type` included."""


Shape = Annotated[
    LexicalShape | TreesShape | LstmShape | EncoderShape | ProbeShape | DecoderShape, Field(discriminator="kind")
]


class ModelSpec(Section):
    """One trained model, apart from its weights."""

    prompt_ids: tuple[str, ...] = Field(min_length=1)
    """In the order of `prompt_index`."""
    encoding: Encoding
    """How an essay becomes the module's inputs."""
    shape: Shape
    """What the module is built from."""

    @property
    def kind(self) -> Kind:
        """Which of the models this is."""
        return self.shape.kind

    def prompt_index(self, prompt_id: str) -> int:
        """The place of a prompt. Raises ValueError when the model never saw it."""
        return self.prompt_ids.index(prompt_id)


def read_spec(folder: Path) -> ModelSpec:
    """The spec of a model's folder. Raises StageFailed when it is missing or malformed."""
    path = folder / SPEC_FILE
    try:
        return ModelSpec.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise StageFailed(f"{path}: missing; train the model first (python -m pipelines.train)") from error
    except ValidationError as error:
        raise StageFailed(
            f"{path}: not a model's spec ({error.error_count()} faults); train the model again"
        ) from error


def write_spec(spec: ModelSpec, folder: Path) -> None:
    """The same bytes for the same spec."""
    write_section(spec, folder / SPEC_FILE)
