"""A model before it learns: its spec, its module with pretrained weights, and its tokenizer."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import nn

from essays.encoding import Encoder, NgramEncoder, TokenEncoder, TokenEncoding
from essays.errors import BadParams
from training.adapters import add_adapters, add_changes, learned_changes, merge_adapters
from training.backbones import Backbone, load_backbone, load_in_4bit, take_weights
from training.config import (
    DecoderConfig,
    EncoderConfig,
    LexicalConfig,
    LstmConfig,
    ProbeConfig,
    TrainConfig,
    TreesConfig,
)
from training.models import (
    DecoderShape,
    EncoderShape,
    LexicalShape,
    LstmShape,
    ModelSpec,
    ProbeShape,
    TreesShape,
    build_module,
)
from training.models.decoder import DecoderScorer
from training.models.encoder import EncoderScorer, backbone_config
from training.models.lstm import LstmScorer
from training.models.probe import ProbeScorer
from training.optim import freeze
from training.packaged import require_folder
from training.vocabulary import known_words, read_vectors, word_table, word_tokenizer


@dataclass(frozen=True)
class StartedModel:
    """What learning begins with."""

    spec: ModelSpec
    scorer: nn.Module
    encoder: Encoder
    tokenizer: Tokenizer | None
    """None where the encoding is n-grams."""

    @property
    def encoder_key(self) -> str:
        """Names the encoder: equal keys encode alike."""
        return self.spec.encoding.model_dump_json() + (self.tokenizer.to_str() if self.tokenizer else "")


def start_model(config: TrainConfig, prompt_ids: Sequence[str], train_texts: Sequence[str], seed: int) -> StartedModel:
    """A model as its section describes it; fresh weights follow from the seed."""
    torch.manual_seed(seed)
    if isinstance(config, LexicalConfig):
        spec = ModelSpec(prompt_ids=tuple(prompt_ids), encoding=config.ngrams, shape=LexicalShape())
        return StartedModel(spec, build_module(spec), NgramEncoder(config.ngrams), None)
    if isinstance(config, TreesConfig):
        return _start_trees(config, tuple(prompt_ids))
    if isinstance(config, LstmConfig):
        return _start_lstm(config, tuple(prompt_ids), train_texts)
    if isinstance(config, ProbeConfig):
        return _start_probe(config, tuple(prompt_ids))
    if isinstance(config, DecoderConfig):
        return _start_decoder(config, tuple(prompt_ids))
    return _start_encoder(config, tuple(prompt_ids))


def _start_trees(config: TreesConfig, prompt_ids: tuple[str, ...]) -> StartedModel:
    shape = TreesShape(
        num_components=config.num_components,
        num_trees=config.num_rounds * config.num_repeats,
        num_nodes=2 * config.max_leaves - 1,
        depth=config.max_leaves - 1,
    )
    spec = ModelSpec(prompt_ids=prompt_ids, encoding=config.ngrams, shape=shape)
    return StartedModel(spec, build_module(spec), NgramEncoder(config.ngrams), None)


def _start_lstm(config: LstmConfig, prompt_ids: tuple[str, ...], train_texts: Sequence[str]) -> StartedModel:
    listed, vectors = read_vectors(require_folder(config.word_vectors))
    words = known_words(train_texts, listed[: config.num_frequent_words], config.rarest_word)
    table = word_table(words, listed, vectors)
    encoding = TokenEncoding(head_tokens=config.head_tokens, tail_tokens=config.tail_tokens)
    shape = LstmShape(
        num_words=len(table),
        word_size=table.shape[1],
        hidden_size=config.hidden_size,
        prompt_size=config.prompt_size,
        dropout=config.dropout,
    )
    spec = ModelSpec(prompt_ids=prompt_ids, encoding=encoding, shape=shape)
    scorer = build_module(spec)
    assert isinstance(scorer, LstmScorer)
    scorer.set_word_vectors(torch.from_numpy(table))
    tokenizer = word_tokenizer(words)
    return StartedModel(spec, scorer, TokenEncoder(encoding, tokenizer), tokenizer)


def _start_encoder(config: EncoderConfig, prompt_ids: tuple[str, ...]) -> StartedModel:
    backbone = load_backbone(config.backbone)
    encoding = _encoding(config, backbone)
    spec = ModelSpec(prompt_ids=prompt_ids, encoding=encoding, shape=EncoderShape(backbone=backbone.config))
    scorer = build_module(spec)
    assert isinstance(scorer, EncoderScorer)
    take_weights(scorer.backbone, backbone.state)
    freeze(scorer, config)
    return StartedModel(spec, scorer, TokenEncoder(encoding, backbone.tokenizer), backbone.tokenizer)


def _start_probe(config: ProbeConfig, prompt_ids: tuple[str, ...]) -> StartedModel:
    backbone = load_backbone(config.backbone)
    encoding, layers = _encoding(config, backbone), backbone.config.get("num_hidden_layers", 0)
    if config.pooled_layers[-1] > layers:
        raise BadParams(
            f"pooled_layers goes up to {config.pooled_layers[-1]}, but backbone {config.backbone} has {layers} layers"
        )
    shape = ProbeShape(backbone=backbone.config, pooled_layers=config.pooled_layers)
    spec = ModelSpec(prompt_ids=prompt_ids, encoding=encoding, shape=shape)
    scorer = build_module(spec)
    assert isinstance(scorer, ProbeScorer)
    take_weights(scorer.backbone, backbone.state)
    return StartedModel(spec, scorer, TokenEncoder(encoding, backbone.tokenizer), backbone.tokenizer)


def _start_decoder(config: DecoderConfig, prompt_ids: tuple[str, ...]) -> StartedModel:
    in_4bit = load_in_4bit(config.backbone) if config.base == "4bit" else None
    backbone = load_backbone(config.backbone, torch.float32 if config.base == "fp32" else torch.bfloat16, closes=True)
    encoding = _encoding(config, backbone)
    spec = ModelSpec(prompt_ids=prompt_ids, encoding=encoding, shape=DecoderShape(backbone=backbone.config))
    scorer = build_module(spec)
    assert isinstance(scorer, DecoderScorer)
    if in_4bit is None:
        scorer.backbone.to(next(iter(backbone.state.values())).dtype)
        take_weights(scorer.backbone, backbone.state)
    else:
        scorer.backbone = in_4bit.requires_grad_(False)
    add_adapters(scorer.backbone, config)
    if config.gradient_checkpointing:
        scorer.backbone.activation_checkpointing_enable()
    return StartedModel(spec, scorer, TokenEncoder(encoding, backbone.tokenizer), backbone.tokenizer)


def finished_model(model: StartedModel, config: TrainConfig) -> StartedModel:
    """The model as its spec describes it, `model` itself being used up.

    What a decoder's adapters learned is added to its weights, in fp32 whatever it learned on; other kinds are done.
    """
    if not isinstance(config, DecoderConfig):
        return model
    assert isinstance(model.scorer, DecoderScorer)
    if config.base == "fp32":
        merge_adapters(model.scorer.backbone)
        model.scorer.backbone.activation_checkpointing_disable()
        return model
    changes = learned_changes(model.scorer.backbone)
    whole = build_module(model.spec)
    assert isinstance(whole, DecoderScorer)
    take_weights(whole.backbone, load_backbone(config.backbone).state)
    add_changes(whole.backbone, changes)
    whole.heads, whole.target = model.scorer.heads, model.scorer.target
    return replace(model, scorer=whole)


def _encoding(config: EncoderConfig | ProbeConfig | DecoderConfig, backbone: Backbone) -> TokenEncoding:
    # Not as written: what is the architecture's default is left out there.
    positions = getattr(backbone_config(backbone.config), "max_position_embeddings", np.inf)
    encoding = TokenEncoding(head_tokens=config.head_tokens, tail_tokens=config.tail_tokens, pad_id=backbone.pad_id)
    if encoding.max_tokens > positions:
        raise BadParams(
            f"head_tokens + tail_tokens is {encoding.max_tokens}, but backbone {config.backbone} reads {positions}"
        )
    return encoding
