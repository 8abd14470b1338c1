"""dvc.yaml tells the truth: dependencies, parameters, outputs."""

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from dvc.repo import Repo

from pipelines import dependencies

ROAD = [
    "fetch",
    "prepare",
    "split",
    "synthesize",
    "train",
    "gate",
    "calibrate",
    "ensemble",
    "evaluate",
    "robustness",
    "traits",
    "traits-report",
    "export",
]
ROAD += ["package", "package-ensemble", "publish"]


@pytest.fixture
def pipeline(root: Path) -> dict[str, Any]:
    return dependencies.load_pipeline(root / "dvc.yaml")


def test_stages_are_those_of_the_design_in_its_order(pipeline: dict[str, Any]) -> None:
    assert list(pipeline["stages"]) == ROAD


# DVC's own use of pygtrie, which we cannot mend.
@pytest.mark.filterwarnings("ignore:_NoneStep.value:DeprecationWarning")
def test_dvc_accepts_the_pipeline_with_a_stage_for_each_model_and_fold(root: Path) -> None:
    with Repo(str(root)) as repo:
        stages = {stage.addressing for stage in repo.index.stages}
        repo.check_graph(repo.index.stages)
    assert {"train@lexical-0", "calibrate@lstm", "export@minilm", "package-ensemble"} <= stages


def test_deps_are_what_the_stages_import_and_read(pipeline: dict[str, Any]) -> None:
    assert list(dependencies.differing(pipeline)) == []


def test_a_missing_dependency_is_found(pipeline: dict[str, Any]) -> None:
    pipeline["stages"]["train"]["deps"].remove("essays/metrics.py")
    assert "train: + essays/metrics.py" in dependencies.differing(pipeline)


def test_a_needless_dependency_is_found(pipeline: dict[str, Any]) -> None:
    pipeline["stages"]["fetch"]["deps"].append("training/models/lstm.py")
    assert "fetch: - training/models/lstm.py" in dependencies.differing(pipeline)


def test_a_file_that_a_module_reads_is_a_dependency(pipeline: dict[str, Any]) -> None:
    assert "essays/prompts.toml" in pipeline["stages"]["prepare"]["deps"]


def test_write_mends_the_file_and_keeps_its_comments(root: Path, tmp_path: Path) -> None:
    for name in ("pyproject.toml", "params.yaml", "dvc.yaml"):
        shutil.copy(root / name, tmp_path)
    for package in dependencies.root_packages():
        shutil.copytree(
            root / package, tmp_path / package, ignore=shutil.ignore_patterns("raw", "processed", "__pycache__")
        )
    original = (tmp_path / "dvc.yaml").read_text("utf-8")
    (tmp_path / "dvc.yaml").write_text(original.replace("      - essays/errors.py\n", ""), "utf-8")
    command = [sys.executable, "-m", "pipelines.dependencies"]
    compared = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert compared.returncode == 1
    assert "train: + essays/errors.py" in compared.stdout.splitlines()
    subprocess.run([*command, "--write"], cwd=tmp_path, check=True, capture_output=True)
    assert (tmp_path / "dvc.yaml").read_text("utf-8") == original


def test_no_stage_depends_on_a_folder_that_other_stages_write_into(pipeline: dict[str, Any]) -> None:
    entries = {entry for stage in pipeline["stages"].values() for entry in stage["deps"]}
    assert entries.isdisjoint({"data", "out", "out/models", "out/bundles", "reports"})


def test_a_stage_names_every_parameter_that_it_reads(pipeline: dict[str, Any]) -> None:
    for name, stage in pipeline["stages"].items():
        listed = {re.sub(r"\.\$\{.*", "", key) for key in stage.get("params", [])}
        # Where runs are recorded changes no result, so a change there runs nothing again.
        assert parameters_read(dependencies.stage_module(stage["cmd"])) - {"tracking"} <= listed, name


def parameters_read(module: str) -> set[str]:
    """First words of the keys given to `read_params` in a stage's own module."""
    tree = ast.parse(Path(*module.split(".")).with_suffix(".py").read_bytes())
    keys = [call.args[0] for call in ast.walk(tree) if isinstance(call, ast.Call) and _is_read_params(call.func)]
    literals = {key.value for key in keys if isinstance(key, ast.Constant)}
    # f"train.{model}" reads below `train`.
    templates = {key.values[0].value for key in keys if isinstance(key, ast.JoinedStr)}  # type: ignore[attr-defined]
    return {str(key).rstrip(".") for key in literals | templates}


def _is_read_params(function: ast.expr) -> bool:
    return getattr(function, "id", getattr(function, "attr", "")) == "read_params"
