"""The models: pure modules from ids to a unit score. They know neither Lightning nor the corpus."""

from training.models.folder import LoadedModel, build_module, load_model, save_model
from training.models.spec import (
    DecoderShape,
    EncoderShape,
    LexicalShape,
    LstmShape,
    ModelSpec,
    ProbeShape,
    TreesShape,
)

__all__ = [
    "DecoderShape",
    "EncoderShape",
    "LexicalShape",
    "LoadedModel",
    "LstmShape",
    "ModelSpec",
    "ProbeShape",
    "TreesShape",
    "build_module",
    "load_model",
    "save_model",
]
