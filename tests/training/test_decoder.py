"""Decoders: padding on either side, adapters, bases, halves; Llama's way and GPT-2's."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, GPT2Config, GPT2Model

from essays.errors import BadParams
from tests.tiny_llama import BEGIN, END
from training.adapters import adapted_layers, learned_changes
from training.backbones import load_backbone
from training.batches import as_tensors
from training.config import DecoderConfig
from training.fit import cut_in_two, fit_fold
from training.fold_scores import read_fold_scores
from training.models import load_model
from training.optim import parameter_groups
from training.start import StartedModel, finished_model, start_model
from training.upper_decoder_layers import UpperDecoderScorer

PROMPTS = ("ellipse-overall", "asap-3")
TEXTS = ("Good dog.", "However, we like school because it suggests remarkable improvement.", "He is good. " * 9)


@pytest.fixture(scope="session")
def tiny_gpt2(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """GPT-2's architecture on the same tokenizer."""
    folder = tmp_path_factory.mktemp("gpt2")
    tokenizer = AutoTokenizer.from_pretrained(tiny_llama)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(3)
    sizes = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256}
    GPT2Model(GPT2Config(vocab_size=len(tokenizer), **sizes)).save_pretrained(folder)
    return folder


@pytest.fixture
def config(configs) -> DecoderConfig:
    return configs["decoder"]


def started(config: DecoderConfig) -> StartedModel:
    """With adapters and heads that count."""
    model = start_model(config, PROMPTS, [], seed=1)
    torch.manual_seed(2)
    for name, weight in model.scorer.named_parameters():
        if "lora_B" in name or name.startswith("heads"):
            torch.nn.init.normal_(weight, std=0.2)
    model.scorer.eval()
    return model


def inputs_of(model: StartedModel) -> dict[str, torch.Tensor]:
    return as_tensors(model.encoder.collate([model.encoder.encode(text, n % 2) for n, text in enumerate(TEXTS)]))


def scores(model: StartedModel, inputs: dict[str, torch.Tensor] | None = None) -> np.ndarray:
    with torch.inference_mode():
        return model.scorer.eval()(**(inputs or inputs_of(model))).numpy()


def test_a_text_is_opened_as_its_tokenizer_does_and_closed_once(config: DecoderConfig) -> None:
    tokens = start_model(config, PROMPTS, [], seed=1).tokenizer.encode("the dog").tokens
    assert tokens[0] == BEGIN
    assert tokens[-1] == END
    assert tokens.count(END) == 1


def test_padding_at_the_start_changes_nothing_either(config: DecoderConfig) -> None:
    model = started(config)
    right = inputs_of(model)
    left = dict(right)
    for name in ("input_ids", "attention_mask"):
        rows = [
            torch.cat([row[number:], row[:number]])
            for row, number in zip(right[name], right["attention_mask"].sum(1).tolist(), strict=True)
        ]
        left[name] = torch.stack(rows)
    assert not torch.equal(left["input_ids"], right["input_ids"])
    assert scores(model, left) == pytest.approx(scores(model, right), abs=1e-5)


def test_merging_changes_no_score(config: DecoderConfig) -> None:
    model = started(config)
    before = scores(model)
    whole = finished_model(model, config)
    assert not adapted_layers(whole.scorer)
    assert scores(whole) == pytest.approx(before, abs=1e-5)
    model = started(config)
    for name, weight in model.scorer.named_parameters():
        if "lora_B" in name:
            torch.nn.init.zeros_(weight)
    assert np.abs(before - scores(model)).max() > 1e-3


def test_a_base_in_bf16_is_merged_in_fp32(config: DecoderConfig) -> None:
    in_bf16 = config.model_copy(update={"base": "bf16"})
    model = started(in_bf16)
    kinds = {"lora" in name: weight.dtype for name, weight in model.scorer.backbone.named_parameters()}
    assert kinds == {False: torch.bfloat16, True: torch.float32}
    changes = learned_changes(model.scorer.backbone)
    assert len(changes) == 6
    whole = finished_model(model, in_bf16).scorer.backbone.state_dict()
    assert {value.dtype for value in whole.values()} == {torch.float32}
    for name, came in load_backbone(config.backbone).state.items():
        assert torch.equal(whole[name], came + changes.get(name.removesuffix(".weight"), 0)), name


@pytest.mark.skipif(torch.cuda.is_available(), reason="it has a GPU")
def test_a_4bit_base_without_a_gpu_is_refused(config: DecoderConfig) -> None:
    with pytest.raises(BadParams, match="4bit needs an NVIDIA GPU, and this machine has none; choose fp32 or bf16"):
        start_model(config.model_copy(update={"base": "4bit"}), PROMPTS, [], seed=1)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"lora_targets": ("q_proj", "c_attn")}, r"names c_attn, .* it has down_proj, gate_proj, k_proj"),
        ({"frozen_layers": 3}, "has 3 layers, and one at least must learn"),
        ({"head_tokens": 1000}, r"is 1064, but backbone .* reads 1024"),
    ],
)
def test_what_the_architecture_does_not_have_is_named(config: DecoderConfig, change: dict, says: str) -> None:
    with pytest.raises(BadParams, match=says):
        start_model(config.model_copy(update=change), PROMPTS, [], seed=1)


def test_only_adapters_above_the_frozen_layers_and_heads_learn_heads_at_their_own_rate(config: DecoderConfig) -> None:
    scorer = start_model(config, PROMPTS, [], seed=1).scorer
    learning = {name for name, weight in scorer.named_parameters() if weight.requires_grad}
    assert {name.split(".")[2] for name in learning if name.startswith("backbone.")} == {"1", "2"}
    assert all(".lora_" in name or name.startswith("heads.") for name in learning)
    rates = {group["lr"]: len(group["params"]) for group in parameter_groups(scorer, config)}
    assert set(rates) == {config.learning_rate, config.head_learning_rate}


@pytest.mark.parametrize("num_frozen", [0, 1, 2])
def test_halves_in_a_row_are_the_whole(config: DecoderConfig, num_frozen: int) -> None:
    model = started(config.model_copy(update={"frozen_layers": num_frozen}))
    inputs = inputs_of(model)
    halves = cut_in_two(model.scorer, num_frozen, inputs)
    assert halves is not None
    lower, upper = halves
    assert isinstance(upper, UpperDecoderScorer)
    rest = {name: value for name, value in inputs.items() if name != "input_ids"}
    with torch.inference_mode():
        states = lower(inputs["input_ids"], inputs["attention_mask"])
        assert upper(states, **rest).numpy() == pytest.approx(scores(model), abs=1e-5)


def test_gradient_checkpointing_gives_the_same_gradients(config: DecoderConfig) -> None:
    found = []
    for checkpointing in (False, True):
        changed = config.model_copy(update={"gradient_checkpointing": checkpointing, "lora_dropout": 0.0})
        model = started(changed)
        model.scorer.train()
        model.scorer(**inputs_of(model)).sum().backward()
        assert model.scorer.backbone.is_activation_checkpointing is checkpointing
        found.append([weight.grad for weight in model.scorer.parameters() if weight.requires_grad])
    assert all(torch.allclose(one, other, atol=1e-6) for one, other in zip(*found, strict=True))


def test_gpt2_takes_the_same_road(config: DecoderConfig, tiny_gpt2: Path, corpus, tmp_path: Path) -> None:
    changes = {"backbone": str(tiny_gpt2), "lora_targets": ("c_attn", "c_fc", "c_proj"), "max_epochs": 1}
    gpt2 = config.model_copy(update={**changes, "head_tokens": 192, "tail_tokens": 64})
    model = started(gpt2)
    # Its positions are added below the layers: upper ones alone would add them again.
    assert cut_in_two(model.scorer, 1, inputs_of(model)) is None
    out = tmp_path / "fold-0"
    fit_fold(gpt2, corpus.essays, corpus.folds, 0, 7, out, out, tmp_path / "checkpoints")
    loaded, written = load_model(out), read_fold_scores(out / "scores.parquet")
    texts = dict(zip(corpus.essays["essay_id"], corpus.essays["text"], strict=True))
    essay = loaded.encoder.encode(texts[written.essay_ids[0]], loaded.spec.prompt_index(written.prompt_ids[0]))
    with torch.inference_mode():
        raw = loaded.module(**as_tensors(loaded.encoder.collate([essay]))).item()
    assert raw == pytest.approx(written.raw_unit_scores[0], abs=1e-5)
