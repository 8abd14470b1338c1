"""Settings of the service, from the environment and the file."""

import os
from pathlib import Path

import pytest

from essays.errors import BadParams
from essays.settings import load_settings
from serving.config import ServingSettings
from serving.runtimes import Runtimes


@pytest.fixture(autouse=True)
def own_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A settings file of the test's own, empty at first."""
    path = tmp_path / "fairmark.toml"
    path.write_text("")
    monkeypatch.setenv("FAIRMARK_CONFIG", str(path))
    return path


def test_the_environment_wins_over_the_file(own_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own_file.write_text('[service]\nlanes = 3\nmodels = ["lexical"]\ntimeout_s = 5\n')
    monkeypatch.setenv("FAIRMARK_SERVICE__LANES", "7")
    service = load_settings(ServingSettings).service
    assert (service.num_lanes(Runtimes()), service.models, service.timeout_s) == (7, ("lexical",), 5.0)


def test_models_can_be_listed_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAIRMARK_SERVICE__MODELS", '["lexical", "lstm"]')
    assert load_settings(ServingSettings).service.models == ("lexical", "lstm")


def test_by_default_there_is_a_lane_for_each_core() -> None:
    assert load_settings(ServingSettings).service.num_lanes(Runtimes()) == len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    "line", ["lanes = 0", "timeout_s = -1", "lane = 2", 'models = "lexical"', "max_body_bytes = 10", "timeout_s = 1000"]
)
def test_a_wrong_setting_is_named(own_file: Path, line: str) -> None:
    own_file.write_text(f"[service]\n{line}\n")
    with pytest.raises(BadParams, match=f"service.{line.split()[0]}"):
        load_settings(ServingSettings)
