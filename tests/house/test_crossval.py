"""`make crossval` runs the stages apart: real git, real DVC, and dvc.yaml with commands that echo their inputs."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.dependencies import load_pipeline, root_packages, write_pipeline
from training.out_of_fold import HEADER

pytestmark = pytest.mark.slow

ECHO = f"""
import os, pathlib, sys, yaml
if os.environ.get("FAILING") in sys.argv:
    sys.exit("no memory")
params = yaml.safe_load(open("params.yaml"))
for out in map(pathlib.Path, sys.argv[1:]):
    if out.as_posix() == "out/oof":
        out.mkdir(parents=True)
        row = f"asap-1,0,{{params['seed']}},0.5,7"
        (out / "lexical.csv").write_text("{",".join(HEADER)}\\n" + row + "\\n")
    else:
        target = out if out.suffix else out / "content.json"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(repr((params["corpora"], params["folds"])))
"""


MODELS, FOLDS = ["lexical", "minilm"], [0, 1]
"""Enough to mix and to measure on, in a pipeline of few stages: DVC takes most of a second for each."""
ASAP = "(['asap-aes'], [0, 1])"
"""What a stage says of its parameters under the profile."""
DEFAULT_RUN = "of the default run"


@pytest.fixture(scope="module")
def committed(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A committed checkout whose stages take no time, with a report of the default run."""
    folder = tmp_path_factory.mktemp("committed") / "fairmark"
    tracked = [
        name
        for name in git(root, "ls-files", "--cached", "--others", "--exclude-standard").splitlines()
        if name.split("/")[0] in {*root_packages(), "profiles", "params.yaml", "pyproject.toml", ".gitignore"}
        and (root / name).exists()
    ]
    for name in tracked:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes((root / name).read_bytes())
    (folder / "pipelines" / "echo.py").write_text(ECHO, "utf-8")
    params = yaml.safe_load((folder / "params.yaml").read_text("utf-8"))
    (folder / "params.yaml").write_text(yaml.safe_dump(params | {"models": MODELS}), "utf-8")
    profile = folder / "profiles" / "asap-5-folds.yaml"
    changed = yaml.safe_load(profile.read_text("utf-8")) | {"models": MODELS, "folds": FOLDS}
    profile.write_text(yaml.safe_dump(changed), "utf-8")
    (folder / "reports").mkdir()
    (folder / "reports" / "robustness.json").write_text(DEFAULT_RUN, "utf-8")
    pipeline = load_pipeline(root / "dvc.yaml")
    for stage in pipeline["stages"].values():
        stage["cmd"] = f"python -m pipelines.echo {' '.join(outs(stage))}"
    write_pipeline(pipeline, folder / "dvc.yaml")
    git(folder, "init", "--quiet")
    call(folder, "dvc", "init", "--quiet")
    shutil.copy(root / ".dvc" / "config", folder / ".dvc")
    commit(folder)
    return folder


@pytest.fixture
def repository(committed: Path, tmp_path: Path) -> Path:
    """A copy, to be changed."""
    return shutil.copytree(committed, tmp_path / "fairmark", symlinks=True)


def outs(stage: dict[str, Any]) -> list[str]:
    named = [out for kind in ("outs", "metrics") for out in stage.get(kind, [])]
    return [next(iter(out)) if isinstance(out, dict) else out for out in named]


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True).stdout


def commit(folder: Path) -> None:
    git(folder, "add", "--all")
    git(folder, "-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "--quiet", "--message", "a")


def call(folder: Path, *command: str) -> str:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    environment.pop("ESSAYS_MIRROR", None)
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def crossval(folder: Path, *arguments: str) -> str:
    return call(folder, "python", "-m", "pipelines.crossval", *arguments)


def ran(said: str) -> set[str]:
    return set(re.findall(r"^Running stage '([^']+)'", said, re.M))


def test_results_come_back_and_nothing_else_changes(repository: Path) -> None:
    stages = ran(crossval(repository))
    assert {"train@minilm-1", "evaluate", "gate", "robustness"} <= stages
    assert stages.isdisjoint({"publish", "export@minilm", "traits@minilm"})
    assert git(repository, "status", "--porcelain") == "?? reports/asap/\n"
    reports = repository / "reports" / "asap"
    assert (reports / "oof" / "lexical.csv").read_text().splitlines() == [",".join(HEADER), "asap-1,0,7,0.500000,7"]
    for name in ("metrics.json", "gate.json", "gate.md", "robustness.json", "robustness.html"):
        assert (reports / name).read_text() == ASAP, name
    assert (repository / "reports" / "robustness.json").read_text() == DEFAULT_RUN

    # Again: nothing to do, and what is not committed is not part of it.
    commit(repository)
    params = yaml.safe_load((repository / "params.yaml").read_text("utf-8"))
    params["evaluate"]["num_resamples"] += 1
    (repository / "params.yaml").write_text(yaml.safe_dump(params), "utf-8")
    said = crossval(repository)
    assert "not part of it: 1 changed files" in said
    assert ran(said) == set()
    commit(repository)
    assert ran(crossval(repository)) == {"evaluate"}

    # Weights and cache lost, as in a new clone: what the models scored is in the commit, so none is trained again; what
    # needs their weights stays as it is.
    commit(repository)
    shutil.rmtree(repository / "out")
    shutil.rmtree(repository / ".dvc" / "cache")
    (reports / "metrics.json").unlink()
    robustness = (reports / "robustness.json").read_text()
    said = crossval(repository)
    assert not {stage for stage in ran(said) if stage.startswith(("train", "robustness"))}
    assert "robustness is not measured: no weights of lexical, minilm are in" in said
    assert (reports / "metrics.json").exists()
    assert (reports / "robustness.json").read_text() == robustness


SERVED = """
import pathlib, sys
REPORT_FILE = pathlib.Path("reports/served.json")
if __name__ == "__main__":
    REPORT_FILE.write_text(" ".join(sys.argv[1:]) + str(pathlib.Path("out/bundles/ensemble").exists()))
"""


def test_served_models_are_trained_apart_on_both_corpora_checked_and_published(repository: Path) -> None:
    for name in ("served_grades", "publish"):
        stub = SERVED if name == "served_grades" else SERVED.replace("served.json", "published.json")
        (repository / "pipelines" / f"{name}.py").write_text(stub, "utf-8")
    commit(repository)
    stages = ran(call(repository, "python", "-m", "pipelines.served", "--override", "new prompts"))
    assert {"split", "train@minilm-5", "package@lexical", "package-ensemble"} <= stages
    assert {"train@minilm-0", "publish"}.isdisjoint(stages)
    assert git(repository, "status", "--porcelain") == "?? reports/served/\n"
    assert (repository / "reports/served/served.json").read_text() == "True"
    assert (repository / "reports/served/gate.json").read_text() == "(['ellipse', 'asap-aes'], [5])"
    checkout = repository / "out/served"
    assert (checkout / "reports/published.json").read_text() == "--override new prompts" + "True"
    assert "(['ellipse', 'asap-aes'], [5])" in (checkout / "reports/metrics.json").read_text()

    # As in a commit that holds the default run's report: the stage's own comes back, and no package is new.
    (checkout / "reports/metrics.json").write_text("{}")
    assert ran(call(repository, "python", "-m", "pipelines.served", "--no-publish")) <= {"evaluate"}
    assert (checkout / "reports/metrics.json").read_text() == "(['ellipse', 'asap-aes'], [5])"


def test_a_failing_stage_is_named_and_what_is_done_stays(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With another seed, whose scores join those that are there."""
    oof = repository / "reports" / "asap" / "oof" / "lexical.csv"
    oof.parent.mkdir(parents=True)
    oof.write_text(",".join(HEADER) + "\nasap-1,0,7,0.250000,6\n")
    monkeypatch.setenv("FAILING", "out/models/minilm/fold-1")
    command = [sys.executable, "-m", "pipelines.crossval", "--seed", "8"]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "error: dvc repro --allow-missing ensemble ended with code" in done.stderr
    assert "give the same command again" in done.stderr
    first = ran(done.stdout)
    monkeypatch.delenv("FAILING")
    second = ran(crossval(repository, "--seed", "8"))
    assert {"fetch", "train@minilm-1"} <= first
    assert {"train@minilm-1", "evaluate"} <= second
    # What is measured once is measured on the default seed's models.
    assert second.isdisjoint({"fetch", "gate", "robustness"})
    assert oof.read_text().splitlines()[1:] == ["asap-1,0,7,0.250000,6", "asap-1,0,8,0.500000,7"]
