"""A trained model on disk: `model.safetensors`, `model.json` and, where it reads tokens, `tokenizer.json`."""

from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import nn

from essays.encoding import TOKENIZER_FILE, Encoder, NgramEncoding, load_encoder
from essays.errors import StageFailed
from training.models.decoder import DecoderScorer
from training.models.encoder import EncoderScorer
from training.models.lexical import LexicalScorer
from training.models.lstm import LstmScorer
from training.models.probe import ProbeScorer
from training.models.spec import (
    DecoderShape,
    EncoderShape,
    LstmShape,
    ModelSpec,
    ProbeShape,
    TreesShape,
    read_spec,
    write_spec,
)
from training.models.trees import TreesScorer

WEIGHTS_FILE = "model.safetensors"


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to score."""

    module: nn.Module
    """In eval mode; takes the encoder's arrays by name and returns `raw_unit_score` (B,) float32."""
    spec: ModelSpec
    """What it was built from."""
    encoder: Encoder
    """Makes its inputs."""


def build_module(spec: ModelSpec) -> nn.Module:
    """A module of this form with fresh weights."""
    num_prompts = len(spec.prompt_ids)
    if isinstance(spec.shape, EncoderShape):
        return EncoderScorer(num_prompts, spec.shape)
    if isinstance(spec.shape, DecoderShape):
        return DecoderScorer(num_prompts, spec.shape)
    if isinstance(spec.shape, ProbeShape):
        return ProbeScorer(num_prompts, spec.shape)
    if isinstance(spec.shape, LstmShape):
        return LstmScorer(num_prompts, spec.shape)
    assert isinstance(spec.encoding, NgramEncoding)
    if isinstance(spec.shape, TreesShape):
        return TreesScorer(num_prompts, spec.encoding.num_buckets, spec.shape)
    return LexicalScorer(num_prompts, spec.encoding.num_buckets)


def save_model(module: nn.Module, spec: ModelSpec, folder: Path, tokenizer: Tokenizer | None = None) -> None:
    """Write a model's folder; `tokenizer` belongs to every model that reads tokens."""
    assert (tokenizer is not None) == (spec.encoding.kind == "tokens")
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: value.detach().cpu().contiguous() for name, value in module.state_dict().items()}
    save_file(state, str(folder / WEIGHTS_FILE))
    write_spec(spec, folder)
    if tokenizer is not None:
        tokenizer.save(str(folder / TOKENIZER_FILE))


def load_model(folder: Path) -> LoadedModel:
    """The model of a folder, in eval mode. Raises StageFailed when a file is missing or does not fit the others."""
    spec = read_spec(folder)
    module = build_module(spec)
    weights = folder / WEIGHTS_FILE
    try:
        module.load_state_dict(load_file(str(weights)))
    except FileNotFoundError as error:
        raise StageFailed(f"{weights}: missing; train the model first (python -m pipelines.train)") from error
    except (RuntimeError, SafetensorError) as error:
        raise StageFailed(f"{weights}: not the weights that model.json describes; train again: {error}") from error
    return LoadedModel(module.eval(), spec, load_encoder(spec.encoding, folder))
