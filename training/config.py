"""What `params.yaml` says under `train`: one section for each model.

Every number is stated there; none has a default here. Any section of kind `encoder` may stand beside `minilm`,
and any of kind `decoder` beside `smollm`.
"""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from essays.encoding import NgramEncoding
from essays.params import Section


class ModelConfig(Section):
    """What every model's section says."""

    rater_share: float = Field(ge=0, le=1)
    """How far targets move from the resolved score toward the raters' mean, where two raters are published."""


class LexicalConfig(ModelConfig):
    """Ridge regression over hashed n-grams and surface features, solved in closed form for each prompt."""

    kind: Literal["lexical"]
    ngrams: NgramEncoding
    """Lengths of n-grams, and hash buckets."""
    rarest: int = Field(ge=1)
    """Train essays that a bucket must occur in to count; rarer ones only fit noise."""
    feature_shares: tuple[float, ...] = Field(min_length=1)
    """Candidate shares of the surface features in the kernel; the rest is the n-grams'. Chosen on dev."""
    penalties: tuple[float, ...] = Field(min_length=1)
    """Candidate ridge penalties, in units of an essay's mean kernel with itself. Chosen on dev."""
    num_averaged: int = Field(ge=1)
    """How many of the best pairs of share and penalty are averaged."""

    @model_validator(mode="after")
    def _usable(self) -> "LexicalConfig":
        if not all(0 <= share <= 1 for share in self.feature_shares):
            raise ValueError("feature_shares must lie between 0 and 1")
        if not all(penalty > 0 for penalty in self.penalties):
            raise ValueError("penalties must be above 0")
        return self


class LoopConfig(ModelConfig):
    """How a model that learns by gradients learns; the same loop for all of them."""

    max_epochs: int = Field(ge=1)
    """Passes over the train essays, if dev agreement does not end it earlier; the schedule is made for this many."""
    patience: int = Field(ge=1)
    """Epochs without a better dev QWK after which learning stops."""
    batch_size: int = Field(ge=1)
    """Essays per step, of like length."""
    learning_rate: float = Field(gt=0)
    """Peak rate; an encoder's layers decay below it (`training.optim`)."""
    warmup_share: float = Field(ge=0, lt=1)
    """Share of all steps in which the rate rises from 0; then it falls to 0 in a line."""
    weight_decay: float = Field(ge=0)
    """AdamW's, on matrices only."""
    clip_norm: float = Field(gt=0)
    """Largest length of a step's gradient."""
    ema_decay: float = Field(ge=0, lt=1)
    """Weight of the past in the averaged weights that are scored and kept; 0 keeps the last weights themselves."""
    precision: Literal["auto", "fp32", "bf16"]
    """Of matrix products while learning; `auto` is bf16 where the machine has it in hardware, else fp32."""
    checkpoint_every_steps: int = Field(ge=1)
    """Steps between two points that a killed run can go on from."""
    head_penalties: tuple[float, ...]
    """Candidate penalties of the ridge that solves the heads once more at the end (`training.refit`); empty: none."""


class LstmConfig(LoopConfig):
    """An LSTM in each direction on static word vectors."""

    kind: Literal["lstm"]
    word_vectors: str
    """Installed package with GloVe vectors, or a folder with the same two files."""
    num_frequent_words: int = Field(ge=0)
    """Words of the vectors' own list, most frequent first, that are known whether a train essay has them or not."""
    rarest_word: int = Field(ge=1)
    """Times that any other word must occur in the train essays to be known."""
    head_tokens: int = Field(gt=0)
    """Words kept from the start of a longer essay."""
    tail_tokens: int = Field(ge=0)
    """Words kept from its end."""
    hidden_size: int = Field(gt=0)
    """Numbers of the state, in each direction."""
    prompt_size: int = Field(gt=0)
    """Numbers of a prompt's vector."""
    dropout: float = Field(ge=0, lt=1)
    """Share of word vectors' and of pooled numbers hidden while learning."""


class EncoderConfig(LoopConfig):
    """A transformer encoder, fine-tuned."""

    kind: Literal["encoder"]
    backbone: str
    """A local folder, an installed package that ships weights, or a hub id, tried in this order."""
    head_tokens: int = Field(gt=0)
    """Tokens kept from the start of a longer essay, special tokens counted in."""
    tail_tokens: int = Field(ge=0)
    """Tokens kept from its end."""
    head_learning_rate: float = Field(gt=0)
    """Peak rate of the linear heads and of the prompts' vectors."""
    layer_decay: float = Field(gt=0, le=1)
    """Factor of the rate from each layer to the one below it."""
    frozen_layers: int = Field(ge=0)
    """Lowest layers, with the embeddings, that do not learn; 0 lets everything learn."""


class DecoderConfig(LoopConfig):
    """A language model that learns by adapters (LoRA); what came pretrained does not change."""

    kind: Literal["decoder"]
    backbone: str
    """A local folder, an installed package that ships weights, or a hub id, tried in this order."""
    head_tokens: int = Field(gt=0)
    """Tokens kept from the start of an essay that is longer than both together: up to the model's context, none is."""
    tail_tokens: int = Field(ge=1)
    """Tokens kept from its end, the closing token among them, whose state is scored."""
    head_learning_rate: float = Field(gt=0)
    """Peak rate of the linear heads."""
    frozen_layers: int = Field(ge=0)
    """Lowest layers without adapters; what they make of an essay is computed once and kept."""
    lora_rank: int = Field(ge=1)
    """Rank of what is added to a matrix."""
    lora_alpha: int = Field(gt=0)
    """What is added is scaled by this over the rank."""
    lora_dropout: float = Field(ge=0, lt=1)
    """Share of an adapter's inputs hidden while learning."""
    lora_targets: tuple[str, ...] = Field(min_length=1)
    """Last part of the names of the matrices that get adapters, as the architecture calls them."""
    gradient_checkpointing: bool
    """Whether layers run once more for their gradients rather than keep what they computed: a third slower, and long
    essays fit."""
    base: Literal["fp32", "bf16", "4bit"]
    """Numbers of the pretrained weights while learning; adapters and heads are fp32. 4bit needs an NVIDIA GPU."""


class ProbeConfig(ModelConfig):
    """A linear probe: ridge regression on the states of a pretrained encoder that does not learn."""

    kind: Literal["probe"]
    backbone: str
    """A local folder, an installed package that ships weights, or a hub id, tried in this order."""
    head_tokens: int = Field(gt=0)
    """Tokens kept from the start of a longer essay, special tokens counted in."""
    tail_tokens: int = Field(ge=0)
    """Tokens kept from its end."""
    pooled_layers: tuple[int, ...] = Field(min_length=1)
    """Layers whose mean states are read, the lowest being 1; layers above the highest of these are left out."""
    length_share: float = Field(ge=0, lt=1)
    """Share of the essay's length in the kernel, beside the states."""
    penalties: tuple[float, ...] = Field(min_length=1)
    """Candidate ridge penalties, in units of an essay's mean kernel with itself. Chosen on dev."""
    num_averaged: int = Field(ge=1)
    """How many of the best penalties are averaged."""

    @model_validator(mode="after")
    def _usable(self) -> "ProbeConfig":
        if list(self.pooled_layers) != sorted({layer for layer in self.pooled_layers if layer > 0}):
            raise ValueError("pooled_layers must rise from 1 or above, each once")
        if not all(penalty > 0 for penalty in self.penalties):
            raise ValueError("penalties must be above 0")
        return self


class TreesConfig(ModelConfig):
    """Gradient-boosted regression trees on surface features and principal components of hashed n-grams."""

    kind: Literal["trees"]
    ngrams: NgramEncoding
    """Lengths of n-grams, and hash buckets."""
    rarest: int = Field(ge=1)
    """Train essays of the prompt that a bucket must occur in to count."""
    num_components: int = Field(ge=1)
    """Principal components of a prompt's n-grams."""
    num_rounds: int = Field(ge=1)
    """Trees of a forest, each grown on what those before it left."""
    num_repeats: int = Field(ge=1)
    """Forests that are averaged; they differ in nothing but the seed."""
    learning_rate: float = Field(gt=0, le=1)
    """Share of a tree's answer that counts."""
    max_leaves: int = Field(ge=2)
    """Leaves of a tree."""
    min_leaf_essays: int = Field(ge=1)
    """Train essays that a leaf must hold."""
    essay_share: float = Field(gt=0, le=1)
    """Share of the train essays that a tree is grown on."""
    input_share: float = Field(gt=0, le=1)
    """Share of features and components that a split may choose among."""


TrainConfig = Annotated[
    LexicalConfig | TreesConfig | LstmConfig | EncoderConfig | ProbeConfig | DecoderConfig, Field(discriminator="kind")
]
