"""Finds pretrained weights in one place: a local folder, an installed package that ships them, or the hub."""

import contextlib
import importlib.util
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing
from torch import nn
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from essays.errors import BadParams, StageFailed
from training.packaged import find_folder, not_found


@dataclass(frozen=True)
class Backbone:
    """Pretrained weights, loaded."""

    state: dict[str, torch.Tensor]
    """Weights by name, float32 unless another type was asked for."""
    config: dict[str, Any]
    """The architecture's configuration, enough to build it without the source."""
    tokenizer: Tokenizer
    """The Rust tokenizer that belongs to it."""
    pad_id: int
    """The tokenizer's own padding id."""


def load_backbone(name: str, dtype: torch.dtype = torch.float32, *, closes: bool = False) -> Backbone:
    """A model of `transformers` and its tokenizer. Raises StageFailed, naming the places that were tried.

    With `closes` the tokenizer puts its end token after every text, as decoders need it.
    """
    source = find_folder(name) or name
    # Its bar, and its report of weights without a place (a pooler's), would break our lines.
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    packed = _packed_file(source)
    try:
        with contextlib.redirect_stderr(io.StringIO()) if packed else contextlib.nullcontext():
            model = AutoModel.from_pretrained(source, dtype=dtype, **packed)
            tokenizer = AutoTokenizer.from_pretrained(source, **packed)
            config = AutoConfig.from_pretrained(source, **packed)
    except (OSError, ValueError) as error:
        raise StageFailed(not_found(name, str(error))) from error
    if not hasattr(tokenizer, "backend_tokenizer"):
        raise StageFailed(
            f"backbone {name!r}: it has no tokenizer.json (Rust tokenizers); convert it and name the folder"
        )
    if closes:
        _close_texts(tokenizer, name)
    written = config.to_diff_dict()
    written["model_type"] = config.model_type
    return Backbone(model.state_dict(), written, tokenizer.backend_tokenizer, tokenizer.pad_token_id or 0)


def load_in_4bit(name: str) -> PreTrainedModel:
    """A decoder with its matrices in NF4 (QLoRA), on the GPU.

    Raises BadParams where there is none, or no bitsandbytes; StageFailed as `load_backbone` does.
    """
    if not torch.cuda.is_available():
        raise BadParams("base: 4bit needs an NVIDIA GPU, and this machine has none; choose fp32 or bf16")
    if importlib.util.find_spec("bitsandbytes") is None:
        raise BadParams("base: 4bit needs bitsandbytes; pip install -r requirements/gpu-train.txt")
    from transformers import BitsAndBytesConfig

    numbers = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    try:
        return AutoModel.from_pretrained(
            find_folder(name) or name, quantization_config=numbers, dtype=torch.bfloat16, device_map={"": 0}
        )
    except (OSError, ValueError) as error:
        raise StageFailed(not_found(name, str(error))) from error


def take_weights(module: nn.Module, state: Mapping[str, torch.Tensor]) -> None:
    """Give a module its pretrained weights; those that it has no place for (a pooler's, a layer's) are left."""
    module.load_state_dict({name: state[name] for name in module.state_dict()})


def _packed_file(source: Path | str) -> dict[str, str]:
    """The one GGUF file of a folder without other weights, as `from_pretrained` wants it named."""
    packed = sorted(Path(source).glob("*.gguf")) if isinstance(source, Path) else []
    return {"gguf_file": packed[0].name} if len(packed) == 1 and not (Path(source) / "config.json").exists() else {}


def _close_texts(tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    if tokenizer.eos_token is None:
        raise StageFailed(f"backbone {name!r}: its tokenizer has no end token, whose state a decoder's head scores")
    end = (tokenizer.eos_token, tokenizer.eos_token_id)
    opens = tokenizer.bos_token_id is not None and tokenizer("a").input_ids[0] == tokenizer.bos_token_id
    special = [(tokenizer.bos_token, tokenizer.bos_token_id), end] if opens else [end]
    pieces = [special[0][0], "$A", end[0]] if opens else ["$A", end[0]]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=pieces, special_tokens=list(dict.fromkeys(special))
    )
