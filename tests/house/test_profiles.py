"""Every profile fits params.yaml and the strict types of the stages; a typo in one is named."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from data.folds import SplitConfig
from data.refit import is_refit
from data.synthetic.config import SynthesizeConfig
from essays.errors import BadParams
from essays.params import parse_params
from export.config import ExportConfig, PublishConfig
from pipelines.profile import apply, load_yaml
from training.config import TrainConfig
from training.evaluation_config import CalibrateConfig, EnsembleConfig, EvaluateConfig
from training.gate_fit import GateConfig
from training.robustness import RobustnessConfig
from training.tracking_config import TrackingConfig
from training.traits import TraitsConfig

ROOT = Path(__file__).resolve().parents[2]
SECTIONS: dict[str, Any] = {
    "corpora": tuple[str, ...],
    "models": tuple[str, ...],
    "folds": tuple[int, ...],
    "seed": int,
    "split": SplitConfig,
    "synthesize": SynthesizeConfig,
    "calibrate": CalibrateConfig,
    "ensemble": EnsembleConfig,
    "evaluate": EvaluateConfig,
    "gate": GateConfig,
    "robustness": RobustnessConfig,
    "tracking": TrackingConfig,
    "export": ExportConfig,
    "publish": PublishConfig,
    "traits": TraitsConfig,
    "train": dict[str, TrainConfig],
}


@pytest.fixture
def params() -> dict[str, Any]:
    return load_yaml(ROOT / "params.yaml")


def test_these_are_all_sections(params: dict[str, Any]) -> None:
    assert set(params) == set(SECTIONS)


@pytest.mark.parametrize("profile", sorted((ROOT / "profiles").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_profile_gives_valid_parameters(profile: Path, params: dict[str, Any]) -> None:
    before = yaml.safe_load((ROOT / "params.yaml").read_text("utf-8"))
    apply(load_yaml(profile), params, str(profile))
    assert params != before
    for name, kind in SECTIONS.items():
        parse_params(params[name], name, kind)
    assert set(params["models"]) <= set(params["train"])


def test_what_is_served_has_the_settings_that_are_measured() -> None:
    served, measured = (load_yaml(ROOT / "profiles" / f"{name}.yaml") for name in ("served", "asap-5-folds"))
    assert served["train"] == {name: measured["train"][name] for name in served["train"]}
    assert set(measured["train"]) - set(served["train"]) == {"mpnet"}  # it needs a GPU
    split = SplitConfig.model_validate(yaml.safe_load((ROOT / "params.yaml").read_text("utf-8"))["split"])
    assert [is_refit(fold, split) for fold in served["folds"]] == [True]


def test_a_typo_in_a_profile_is_named(params: dict[str, Any]) -> None:
    with pytest.raises(BadParams, match=r"typo\.yaml: train\.minilm\.max_epoch is not in params\.yaml"):
        apply({"train": {"minilm": {"max_epoch": 3}}}, params, "typo.yaml")


def test_a_profile_may_bring_a_model_of_its_own_but_no_other_section(params: dict[str, Any]) -> None:
    apply({"train": {"mine": {"kind": "lexical"}}}, params, "mine.yaml")
    assert params["train"]["mine"] == {"kind": "lexical"}
    with pytest.raises(BadParams, match="trian"):
        apply({"trian": {}}, params, "mine.yaml")
