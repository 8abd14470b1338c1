"""A small corpus that we wrote, a two-layer backbone, and word vectors: everything real, nothing large."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from datasets import Dataset
from tokenizers import ByteLevelBPETokenizer, Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from data.folds import FoldRow
from data.rows import Essay
from data.tables import (
    ESSAYS_SCHEMA,
    FOLDS_SCHEMA,
    essays_table,
    folds_table,
    read_dataset,
    read_table,
    write_table,
)
from tests.tiny_llama import write_tiny_llama
from training.config import (
    DecoderConfig,
    EncoderConfig,
    LexicalConfig,
    LstmConfig,
    ProbeConfig,
    TrainConfig,
    TreesConfig,
)

PLAIN = [
    "the",
    "dog",
    "runs",
    "and",
    "i",
    "like",
    "it",
    "because",
    "we",
    "go",
    "to",
    "school",
    "every",
    "day",
    "and",
    "he",
    "is",
    "good",
]
RICH = [
    "however",
    "remarkable",
    "evidence",
    "suggests,",
    "nevertheless,",
    "considerable",
    "improvement",
    "throughout",
    "communities",
]
PROMPTS = {"ellipse-overall": (1.0, 5.0, 0.5), "asap-3": (0.0, 3.0, 1.0)}


@dataclass(frozen=True)
class Corpus:
    """Tables on disk, as the data stages leave them."""

    folder: Path

    @property
    def essays(self) -> Dataset:
        return read_dataset(self.folder / "essays.parquet", ESSAYS_SCHEMA, self.folder / "cache")

    @property
    def folds(self) -> pa.Table:
        return read_table(self.folder / "folds.parquet", FOLDS_SCHEMA)


def make_essay(random_: random.Random, number: int) -> Essay:
    """The higher its score, the longer the essay and the rarer its words."""
    prompt_id = list(PROMPTS)[number % len(PROMPTS)]
    low, high, step = PROMPTS[prompt_id]
    share = random_.random()
    length = 12 + int(30 * share) + random_.randrange(8)
    words = [random_.choice(RICH if random_.random() < share else PLAIN) for _ in range(length)]
    score = low + step * round(share * (high - low) / step)
    text = " ".join(words).capitalize() + "."
    return Essay(f"made-{number}", "made", prompt_id, text, score, assignment="any")


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Models this small lose more by sharing out their work than they gain."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder = tmp_path_factory.mktemp("corpus")
    random_ = random.Random(5)
    essays = [make_essay(random_, number) for number in range(90)]
    parts = ["train"] * 6 + ["dev"] * 2 + ["test"] * 2
    rows = [FoldRow(essay.essay_id, 0, parts[number // 2 % 10]) for number, essay in enumerate(essays)]
    write_table(essays_table(essays), folder / "essays.parquet")
    write_table(folds_table(rows), folder / "folds.parquet")
    return Corpus(folder)


@pytest.fixture(scope="session")
def tiny_backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as a hub would give it: two layers of 16, and a tokenizer over our words' letters and words."""
    folder = tmp_path_factory.mktemp("backbone")
    pieces = sorted({word.strip(",") for word in PLAIN + RICH} | set("abcdefghijklmnopqrstuvwxyz.,"))
    vocabulary = {piece: index for index, piece in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *pieces])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]"
    ).save_pretrained(folder)
    torch.manual_seed(3)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
    )
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as a hub would give it: three layers of 32."""
    return write_tiny_llama(tmp_path_factory.mktemp("llama"), [" ".join(PLAIN + RICH)])


@pytest.fixture(scope="session")
def tiny_vectors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with word vectors in the form of the package that ships GloVe, whose names say 50 numbers a word."""
    folder = tmp_path_factory.mktemp("vectors")
    words = sorted({word.strip(",") for word in PLAIN + RICH})
    pq.write_table(pa.table({"index": words}), folder / "glove_6B_index.parquet")
    vectors = np.random.default_rng(4).normal(size=(len(words), 50)).astype(np.float32)
    np.save(folder / "glove_6B_50d_emb.npy", vectors)
    return folder


@pytest.fixture(scope="session")
def configs(tiny_backbone: Path, tiny_llama: Path, tiny_vectors: Path) -> dict[str, TrainConfig]:
    """A tiny config of each kind."""
    loop = {
        "rater_share": 0.5,
        "max_epochs": 3,
        "patience": 3,
        "batch_size": 8,
        "warmup_share": 0.1,
        "weight_decay": 0.01,
        "clip_norm": 1.0,
        "precision": "fp32",
        "checkpoint_every_steps": 3,
        "head_penalties": (0.1, 10.0),
    }
    return {
        "lexical": LexicalConfig(
            kind="lexical",
            rater_share=0.5,
            ngrams={"shortest": 1, "longest": 4, "num_buckets": 4096},
            rarest=2,
            feature_shares=(0.0, 0.3),
            penalties=(0.1, 1.0),
            num_averaged=2,
        ),
        "lstm": LstmConfig(
            kind="lstm",
            word_vectors=str(tiny_vectors),
            num_frequent_words=4,
            rarest_word=2,
            head_tokens=24,
            tail_tokens=8,
            hidden_size=12,
            prompt_size=3,
            dropout=0.2,
            learning_rate=1e-2,
            ema_decay=0.0,
            **loop,
        ),
        "encoder": EncoderConfig(
            kind="encoder",
            backbone=str(tiny_backbone),
            head_tokens=24,
            tail_tokens=8,
            learning_rate=2e-3,
            head_learning_rate=1e-2,
            layer_decay=0.8,
            frozen_layers=0,
            ema_decay=0.5,
            **loop,
        ),
        "trees": TreesConfig(
            kind="trees",
            rater_share=0.5,
            ngrams={"shortest": 1, "longest": 3, "num_buckets": 512},
            rarest=2,
            num_components=3,
            num_rounds=12,
            num_repeats=2,
            learning_rate=0.2,
            max_leaves=4,
            min_leaf_essays=3,
            essay_share=0.7,
            input_share=0.5,
        ),
        "decoder": DecoderConfig(
            kind="decoder",
            backbone=str(tiny_llama),
            head_tokens=192,
            tail_tokens=64,
            learning_rate=1e-2,
            head_learning_rate=3e-2,
            frozen_layers=1,
            lora_rank=4,
            lora_alpha=8,
            lora_dropout=0.1,
            lora_targets=("q_proj", "v_proj", "down_proj"),
            gradient_checkpointing=False,
            base="fp32",
            ema_decay=0.0,
            **loop,
        ),
        "probe": ProbeConfig(
            kind="probe",
            rater_share=0.5,
            backbone=str(tiny_backbone),
            head_tokens=24,
            tail_tokens=8,
            pooled_layers=(1, 2),
            length_share=0.1,
            penalties=(0.1, 1.0, 10.0),
            num_averaged=2,
        ),
    }


@pytest.fixture(scope="session")
def tiny_language_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a Llama of two layers that never learned, and a byte-level tokenizer over our words."""
    folder = tmp_path_factory.mktemp("language-model")
    tokenizer = ByteLevelBPETokenizer()
    text = " ".join(PLAIN + RICH)
    tokenizer.train_from_iterator([text] * 4, vocab_size=400, show_progress=False, special_tokens=["<|endoftext|>"])
    PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(tokenizer.to_str()), eos_token="<|endoftext|>"
    ).save_pretrained(folder)
    torch.manual_seed(6)
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        initializer_range=0.5,  # so that it has opinions
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=0,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder
