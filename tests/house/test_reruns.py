"""What DVC runs again: nothing without a change, and after one only what depends on it.

The real dvc.yaml under the real DVC, with each stage's command replaced by one that writes the digests of its
dependencies and parameters into its outputs: what matters here is who reads what, not what is computed.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.dependencies import load_pipeline, root_packages, write_pipeline

pytestmark = pytest.mark.slow

MODELS = ["lexical", "minilm"]
"""One to change and one to leave: each more costs five stages a run."""
ECHO = """
import hashlib, pathlib, sys, yaml
deps, outs, key = [part.split() for part in " ".join(sys.argv[1:]).split(" -- ")]
digest = hashlib.sha256()
for dep in map(pathlib.Path, deps):
    for file in sorted(dep.rglob("*")) if dep.is_dir() else [dep]:
        if file.is_file():
            digest.update(file.read_bytes())
params = yaml.safe_load(open("params.yaml"))
for path in key:
    value = params
    for word in path.split("."):
        value = value[word]
    digest.update(repr(value).encode())
for out in map(pathlib.Path, outs):
    target = out if out.suffix else out / "content.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(digest.hexdigest())
"""


@pytest.fixture(scope="module")
def repository(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pipeline, run once."""
    folder = tmp_path_factory.mktemp("reruns")
    for package in root_packages():
        shutil.copytree(
            root / package, folder / package, ignore=shutil.ignore_patterns("raw", "processed", "__pycache__")
        )
    params = yaml.safe_load((root / "params.yaml").read_text("utf-8"))
    dropped = set(params["models"]) - set(MODELS)
    (folder / "params.yaml").write_text(yaml.safe_dump(params | {"models": MODELS}), "utf-8")
    (folder / "echo.py").write_text(ECHO, "utf-8")
    pipeline = load_pipeline(root / "dvc.yaml")
    for stage in pipeline["stages"].values():
        stage["deps"] = [dep for dep in stage["deps"] if Path(dep).name not in dropped]
        stage["cmd"] = echo(stage)
    write_pipeline(pipeline, folder / "dvc.yaml")
    dvc(folder, "init", "--no-scm", "--quiet")
    config = (root / ".dvc" / "config").read_text("utf-8")
    (folder / ".dvc" / "config").write_text(config.replace("[core]", "[core]\n    no_scm = true", 1), "utf-8")
    assert {"fetch", "train@minilm-0", "publish"} <= repro(folder)
    return folder


def echo(stage: dict[str, Any]) -> str:
    outs = [
        next(iter(out)) if isinstance(out, dict) else out for kind in ("outs", "metrics") for out in stage.get(kind, [])
    ]
    return " ".join([sys.executable, "echo.py", *stage["deps"], "--", *outs, "--", *stage.get("params", [])])


def dvc(folder: Path, *arguments: str) -> str:
    command = [Path(sys.executable).with_name("dvc"), *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def repro(folder: Path) -> set[str]:
    """The stages that `dvc repro` ran."""
    return set(re.findall(r"^Running stage '([^']+)'", dvc(folder, "repro"), re.M))


def test_nothing_runs_without_a_change(repository: Path) -> None:
    assert repro(repository) == set()


def test_a_models_parameter_runs_that_model_and_what_mixes_or_measures_it(repository: Path) -> None:
    change(repository, "train", "minilm", "learning_rate", value=3.0e-5)
    ran = repro(repository)
    assert {
        "train@minilm-0",
        "calibrate@minilm",
        "ensemble",
        "evaluate",
        "traits@minilm",
        "export@minilm",
        "publish",
    } <= ran
    untouched = {"fetch", "prepare", "split", "train@lexical-0"}
    assert ran.isdisjoint(untouched | {f"{stage}@lexical" for stage in ("calibrate", "traits", "export")})


def test_a_change_of_code_runs_the_stages_that_import_it(repository: Path) -> None:
    with (repository / "export" / "parity.py").open("a") as source:
        source.write("# changed\n")
    ran = repro(repository)
    assert {"export@lexical", "export@minilm"} <= ran
    assert not [stage for stage in ran if stage.startswith(("train", "calibrate", "evaluate", "prepare"))]


def test_where_runs_are_recorded_runs_nothing(repository: Path) -> None:
    change(repository, "tracking", "experiment", value="another")
    assert repro(repository) == set()


def change(folder: Path, *keys: str, value: Any) -> None:
    params = yaml.safe_load((folder / "params.yaml").read_text("utf-8"))
    section = params
    for key in keys[:-1]:
        section = section[key]
    section[keys[-1]] = value
    (folder / "params.yaml").write_text(yaml.safe_dump(params), "utf-8")
