"""docs/adding-a-prompt.md, walked: fifty marked essays become a prompt that the service scores."""

import csv
import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from essays.errors import InvalidManifest
from export.bundles import find_bundle
from pipelines.dependencies import root_packages
from pipelines.extracted import extracted
from serving.catalogue import read_model
from tests.made_essays import made_essay

ROOT = Path(__file__).resolve().parents[2]
ROAD = Path(__file__).with_name("own_prompt_road.py")
SCALE = ["--low", "0", "--high", "6"]
LICENCE = "ours; may be passed on"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the code, since the command writes into it, with a lexical model that trains in a second."""
    folder = tmp_path_factory.mktemp("own")
    ignore = shutil.ignore_patterns("raw", "processed", "__pycache__")
    for package in root_packages():
        shutil.copytree(ROOT / package, folder / package, ignore=ignore)
    for name in ("pyproject.toml", "params.yaml", "dvc.yaml", "dvc.lock"):
        shutil.copy(ROOT / name, folder)
    params = yaml.safe_load((folder / "params.yaml").read_text("utf-8"))
    params["train"]["lexical"] |= {"feature_shares": [0.3], "penalties": [1.0], "num_averaged": 1}
    params["gate"]["num_essays"] = 20
    params["robustness"] |= {"num_essays": 2, "num_essays_of_encoders": 2}
    params["evaluate"]["num_resamples"] = 100
    (folder / "params.yaml").write_text(yaml.safe_dump(params), "utf-8")
    return folder


def marked(path: Path, num_essays: int = 50, step: float = 1.0) -> Path:
    """Longer is better, with a rater's noise, from 0 to 6."""
    random_ = random.Random(5)
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["essay_id", "essay", "score"])
        for number in range(num_essays):
            num_sentences = random_.randint(4, 24)
            score = round(min(6.0, max(0.0, num_sentences / 4 + random_.gauss(0, 0.5))) / step) * step
            table.writerow([number, made_essay(9000 + number, num_sentences), score])
    return path


def run(project: Path, *command: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("ESSAYS_")}
    environment |= {
        "PYTHONPATH": str(project),
        "FAIRMARK_STORE__URL": f"file://{project}/store",
        "MLFLOW_TRACKING_URI": "http://127.0.0.1:1",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    }
    return subprocess.run(
        [sys.executable, *command], cwd=project, env=environment, capture_output=True, text=True, check=False
    )


def add(project: Path, *options: str | Path) -> subprocess.CompletedProcess[str]:
    return run(project, "-m", "pipelines.add_prompt", "--prompt-id", "town-1", *options)


def tracked(project: Path) -> dict[str, bytes]:
    """What the command may write, beside raw essays."""
    names = ("params.yaml", "dvc.yaml", "data/corpora.toml", "essays/prompts.toml")
    return {name: (project / name).read_bytes() for name in names}


def test_a_fault_in_the_table_stops_it_before_anything_is_written(project: Path, tmp_path: Path) -> None:
    before = tracked(project)
    halves = add(
        project, "--csv", marked(tmp_path / "halves.csv", step=0.5), "--title", "T", "--low", "0", "--high", "6"
    )
    assert halves.returncode == 1
    assert "is not one of 0 to 6 in steps of 1" in halves.stderr
    few = add(project, "--csv", marked(tmp_path / "few.csv", 20), "--title", "T", *SCALE)
    assert (few.returncode, "at least 25 are needed" in few.stderr) == (1, True)
    untitled = add(project, "--csv", tmp_path / "few.csv", *SCALE)
    assert (untitled.returncode, "a new prompt needs --title" in untitled.stderr) == (2, True)
    nothing = add(project, "--csv", tmp_path / "few.csv", "--replace")
    assert (nothing.returncode, "there is nothing to replace" in nothing.stderr) == (2, True)
    renamed = add(project, "--csv", tmp_path / "few.csv", "--replace", "--title", "T", "--high", "9")
    assert (renamed.returncode, "leave out --title, --high" in renamed.stderr) == (2, True)
    assert tracked(project) == before
    assert not (project / "data/raw").exists()


@pytest.fixture(scope="module")
def added(project: Path) -> Path:
    """The project, to which the prompt was added."""
    table = marked(project / "town.csv")
    options = ["--title", "A letter about our town", *SCALE, "--licence", LICENCE]
    done = add(project, "--csv", table, *options, "--train", "lexical")
    assert done.returncode == 0, done.stderr
    assert "town-1  50 essays, about 10 of them to test on; scores " in done.stderr
    return project


def test_a_new_prompt_sets_parameters_and_stages(added: Path) -> None:
    params = yaml.safe_load((added / "params.yaml").read_text("utf-8"))
    assert (params["corpora"], params["models"]) == (["town-1"], ["lexical"])
    agrees = run(added, "-m", "pipelines.dependencies")
    assert agrees.returncode == 0, agrees.stdout
    again = add(added, "--csv", added / "town.csv", "--title", "T", *SCALE)
    assert (again.returncode, "there is a prompt or corpus of this name" in again.stderr) == (2, True)


@pytest.mark.slow
def test_fifty_marked_essays_become_a_prompt_that_is_served(added: Path, tmp_path: Path) -> None:
    walked = run(added, ROAD, "town-1", made_essay(9100, 16))
    assert walked.returncode == 0, walked.stderr[-3000:]
    answers = json.loads(walked.stdout.splitlines()[-1])
    assert answers["score"]["score_range"] == {"low": 0.0, "high": 6.0, "step": 1.0}
    # Sixteen sentences are a four in what it learned from.
    assert 3 <= answers["score"]["score"] <= 5
    assert [(p["prompt_id"], p["title"]) for p in answers["prompts"]["prompts"]] == [
        ("town-1", "A letter about our town")
    ]
    card = next((added / "served").rglob("card.md")).read_text("utf-8")
    assert f"town-1: {LICENCE}" in card
    # Another checkout does not know the prompt, and says so.
    (elsewhere,) = extracted([find_bundle("lexical", added / "out/bundles")], tmp_path)
    with pytest.raises(InvalidManifest, match=r"essays/prompts\.toml has no town-1; serve from the checkout"):
        read_model(elsewhere)


def test_more_essays_replace_the_first_and_a_changed_file_is_refused(added: Path) -> None:
    raw = added / "data/raw/town-1/essays.csv"
    raw.write_bytes(raw.read_bytes() + b"x,One more.,3\n")
    refused = run(added, "-m", "pipelines.fetch")
    assert refused.returncode == 1
    assert "pipelines.add_prompt --replace --csv FILE --prompt-id town-1" in refused.stderr
    prompts = (added / "essays/prompts.toml").read_bytes()
    replaced = add(added, "--csv", marked(added / "more.csv", 60), "--replace")
    assert replaced.returncode == 0, replaced.stderr
    assert run(added, "-m", "pipelines.fetch").returncode == 0
    assert (added / "essays/prompts.toml").read_bytes() == prompts
    assert LICENCE in (added / "data/corpora.toml").read_text("utf-8")
