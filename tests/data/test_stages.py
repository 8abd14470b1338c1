"""The three commands as DVC starts them, on the real ELLIPSE, in a folder of their own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from data.tables import AUDIT_SCHEMA, ESSAYS_SCHEMA, FOLDS_SCHEMA, read_table

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
PARAMS = "corpora: [ellipse]\nfolds: [0]\nsplit:\n  num_folds: 5\n  seed: 7\n"


def _run(stage: str, folder: Path, *options: str, mirror: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("ESSAYS_", "KAGGLE_"))}
    environment |= {"PYTHONPATH": str(ROOT)} | ({"ESSAYS_MIRROR": str(mirror)} if mirror else {})
    command = [sys.executable, "-m", f"pipelines.{stage}", *options]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_essays_and_folds_come_from_nothing(tmp_path: Path, mirror: Path):
    (tmp_path / "params.yaml").write_text(PARAMS)
    for stage, written in (("fetch", "data/raw/ellipse"), ("prepare", "reports/data.json"), ("split", "folds.parquet")):
        done = _run(stage, tmp_path, mirror=mirror)
        assert done.returncode == 0, done.stderr
        assert f"{written}  " in done.stderr.splitlines()[-1]
        assert done.stdout == ""
    assert read_table(tmp_path / "data/processed/essays.parquet", ESSAYS_SCHEMA).num_rows == 2571
    assert read_table(tmp_path / "data/processed/audit.parquet", AUDIT_SCHEMA).num_rows == 2571
    assert read_table(tmp_path / "data/processed/folds.parquet", FOLDS_SCHEMA).num_rows == 5 * 2571
    assert json.loads((tmp_path / "reports/data.json").read_text())["ellipse"]["essays"] == 2571


@pytest.mark.parametrize("stage", ["fetch", "prepare", "split"])
def test_help_says_what_is_written_where(stage: str, tmp_path: Path):
    done = _run(stage, tmp_path, "--help")
    assert done.returncode == 0
    assert f"python -m pipelines.{stage}" in done.stdout
    assert "data/" in done.stdout


def test_an_unknown_corpus_is_a_misuse(tmp_path: Path):
    (tmp_path / "params.yaml").write_text("corpora: [ellipse, asap]\n")
    done = _run("fetch", tmp_path)
    assert done.returncode == 2
    assert "corpora.1: Value error, no such corpus; known: ellipse, asap-aes" in done.stderr
    assert "pipelines.add_prompt` adds one of your own (found 'asap')" in done.stderr


def test_asap_without_a_mirror_or_token_fails_with_the_ways_out(tmp_path: Path):
    (tmp_path / "params.yaml").write_text("corpora: [asap-aes]\n")
    done = _run("fetch", tmp_path)
    assert done.returncode == 1
    assert "accept the rules at https://www.kaggle.com/c/asap-aes and download training_set_rel3.tsv" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("stage", "missing"), [("prepare", "ELLIPSE_Final_github_test.zip"), ("split", "essays.parquet")]
)
def test_a_stage_without_its_input_names_it(stage: str, missing: str, tmp_path: Path):
    (tmp_path / "params.yaml").write_text(PARAMS)
    done = _run(stage, tmp_path)
    assert done.returncode == 1
    assert f"{missing}: no such file; run" in done.stderr
