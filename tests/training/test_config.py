"""`params.yaml` and what `train` accepts: strict, closed, every fault at once."""

from pathlib import Path

import pytest
import yaml

from essays.errors import BadParams
from essays.params import parse_params, read_params
from training.config import EncoderConfig, LexicalConfig, LstmConfig, ProbeConfig, TrainConfig, TreesConfig


def sections() -> dict:
    return yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))["train"]


@pytest.mark.parametrize(
    ("model", "kind"),
    [
        ("lexical", LexicalConfig),
        ("trees", TreesConfig),
        ("lstm", LstmConfig),
        ("probe", ProbeConfig),
        ("minilm", EncoderConfig),
    ],
)
def test_every_section_of_params_is_read(model: str, kind: type) -> None:
    assert isinstance(read_params(f"train.{model}", TrainConfig), kind)


def test_every_fault_is_named_with_its_path() -> None:
    section = {**sections()["minilm"], "learning_rate": "2e-5", "layer_decay": 1.5, "epochs": 3}
    del section["patience"]
    with pytest.raises(BadParams) as caught:
        parse_params(section, "train.minilm", TrainConfig)
    message = str(caught.value)
    assert "4 faults" in message
    for path in ("learning_rate", "layer_decay", "epochs", "patience"):
        assert f".{path}: " in message


def test_unknown_kind_is_refused() -> None:
    with pytest.raises(BadParams, match="any of the expected tags: 'lexical', 'trees', 'lstm', 'encoder'"):
        parse_params({**sections()["lexical"], "kind": "lexicl"}, "train.lexical", TrainConfig)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"feature_shares": [0.1, 1.2]}, "feature_shares must lie between 0 and 1"),
        ({"penalties": [0.0]}, "penalties must be above 0"),
        ({"penalties": []}, "at least 1 item"),
        ({"ngrams": {"shortest": 4, "longest": 2, "num_buckets": 64}}, r"longest \(2\) is below shortest \(4\)"),
    ],
)
def test_settings_that_cannot_work_are_refused(change: dict, fault: str) -> None:
    with pytest.raises(BadParams, match=fault):
        parse_params({**sections()["lexical"], **change}, "train.lexical", TrainConfig)
