"""params.yaml is strict: a typo stops every stage that reads it, before any work, with exit code 2 and its name."""

import importlib
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from essays import console
from pipelines.dependencies import load_pipeline

ROOT = Path(__file__).resolve().parents[2]
PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text("utf-8"))


def _filled(text: str, values: dict[str, str]) -> str:
    for name, value in values.items():
        text = text.replace(name, value)
    return text


def readings() -> list[tuple[str, str]]:
    """Each stage's command with each parameter that dvc.yaml says it reads."""
    found = []
    for stage in load_pipeline(ROOT / "dvc.yaml")["stages"].values():
        for model in PARAMS["models"] if "matrix" in stage else [""]:
            fill = {
                "${item.model}": model,
                "${item.fold}": "0",
                "${synthesize.teacher.model}": PARAMS["synthesize"]["teacher"]["model"],
            }
            found += [(_filled(stage["cmd"], fill), _filled(key, fill)) for key in stage.get("params", [])]
    return found


@pytest.mark.parametrize(("command", "key"), readings())
def test_a_wrong_value_stops_the_stage(
    command: str, key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(with_typo(PARAMS, key)), "utf-8")
    monkeypatch.chdir(tmp_path)
    _, _, module, *options = shlex.split(command)
    monkeypatch.setattr("sys.argv", [module, *options])
    with pytest.raises(SystemExit) as ended:
        console.run(importlib.import_module(module).main)
    said = capfd.readouterr().err
    assert ended.value.code == console.EXIT_MISUSED, said
    assert key in said
    assert not (tmp_path / "out").exists()


def with_typo(params: dict[str, Any], key: str) -> dict[str, Any]:
    """The parameters with an unknown entry in this section, or with a text where a number or list belongs."""
    first, *rest = key.split(".")
    if rest:
        return {**params, first: with_typo(params[first], ".".join(rest))}
    value = params[first]
    return {**params, first: {**value, "learning_rat": 1} if isinstance(value, dict) else {"typo": value}}
