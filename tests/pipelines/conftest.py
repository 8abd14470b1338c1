"""A checkout in which the stages really ran under a small profile for serving: nine prompts, essays that we made up."""

import importlib
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from data.folds import SplitConfig, check_folds, make_folds
from data.refit import refit_rows
from data.rows import Essay
from data.tables import AUDIT_FILE, ESSAYS_FILE, FOLDS_FILE, audit_table, essays_table, folds_table, write_table
from essays.gate_profile import GATE_FILE, GATE_FOLDER, read_gate_profile, write_gate_profile
from essays.prompts import Prompt, all_prompts
from tests.training.conftest import one_thread as one_thread

PLAIN = "the a dog school day friend we i go like it because and then was very good thing said home"
RICH = "however evidence consequently remarkable perspective despite although neighbourhood argument considerable"
ESSAYS_PER_PROMPT = 40
FOLD = 5
MODELS = ("lexical", "lstm")


@pytest.fixture(scope="session")
def checkout(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Split for serving, trained, calibrated, mixed, evaluated, exported and packaged."""
    folder = tmp_path_factory.mktemp("served")
    params = yaml.safe_load((root / "params.yaml").read_text("utf-8"))
    (folder / "params.yaml").write_text(yaml.safe_dump(small(params, vectors(folder / "vectors"))), "utf-8")
    with inside(folder):
        write_corpus(SplitConfig.model_validate(params["split"]))
        stage("synthesize")
        for model in MODELS:
            stage("train", "--model", model, "--fold", str(FOLD))
            stage("calibrate", "--model", model)
        stage("ensemble")
        stage("evaluate")
        stage("gate")
        forget_prompts()
        stage("robustness")
        for model in MODELS:
            stage("traits", "--model", model)
            stage("export", "--model", model)
        for model in (*MODELS, "ensemble"):
            stage("package", "--model", model)
    return folder


def forget_prompts() -> None:
    """Leave no prompt in the gate's profile: what made-up essays teach would refuse every real one."""
    path = GATE_FOLDER / GATE_FILE
    write_gate_profile(read_gate_profile(path).model_copy(update={"prompts": ()}), path)


@pytest.fixture
def in_checkout(checkout: Path) -> Iterator[Callable[..., None]]:
    """Runs a stage in the checkout, which is the working folder meanwhile."""
    with inside(checkout):
        yield stage


@contextmanager
def inside(folder: Path) -> Iterator[None]:
    """The folder as the working one; no MLflow answers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
        patch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        yield


def stage(name: str, *options: str) -> None:
    """Run a stage's command in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [name, *options])
        importlib.import_module(f"pipelines.{name}").main()


def small(params: dict, word_vectors: Path) -> dict:
    """params.yaml of the profile, with models that train in a second."""
    lexical = params["train"]["lexical"] | {
        "ngrams": {"shortest": 1, "longest": 3, "num_buckets": 2048},
        "feature_shares": [0.3],
        "penalties": [1.0],
        "num_averaged": 1,
    }
    lstm = params["train"]["lstm"] | {
        "word_vectors": str(word_vectors),
        "head_tokens": 40,
        "tail_tokens": 10,
        "hidden_size": 6,
        "max_epochs": 1,
    }
    return params | {
        "corpora": ["ellipse", "asap-aes"],
        "models": list(MODELS),
        "folds": [FOLD],
        "train": {"lexical": lexical, "lstm": lstm},
        "gate": params["gate"] | {"num_essays": 2},
        "export": params["export"] | {"num_parity_essays": 30},
    }


def write_corpus(config: SplitConfig) -> None:
    """Essays of every prompt, and the folds that the stage `split` makes where a model is to be served."""
    random_ = random.Random(3)
    essays = [
        essay
        for prompt in all_prompts().values()
        for essay in (made_up(random_, prompt, n) for n in range(ESSAYS_PER_PROMPT))
    ]
    measured = make_folds(essays, range(len(essays)), config)
    check_folds(measured)
    write_table(essays_table(essays), ESSAYS_FILE)
    write_table(audit_table([]), AUDIT_FILE)
    write_table(folds_table([*measured, *refit_rows(measured, config)]), FOLDS_FILE)


def made_up(random_: random.Random, prompt: Prompt, number: int) -> Essay:
    """The better, the longer and the rarer its words; one in ten too short for the service."""
    bounds = prompt.score_range
    share = random_.random()
    length = 8 if number % 10 == 0 else 25 + int(60 * share)
    words = (random_.choice((RICH if random_.random() < share else PLAIN).split()) for _ in range(length))
    text = " ".join(words).capitalize() + "."
    score = float(bounds.round(bounds.from_unit(share)))
    return Essay(
        f"{prompt.prompt_id}-{number}", prompt.corpus, prompt.prompt_id, text, score, assignment=prompt.prompt_id
    )


def vectors(folder: Path) -> Path:
    """Word vectors in the form of the package that ships GloVe."""
    folder.mkdir()
    words = sorted({*PLAIN.split(), *RICH.split()})
    pq.write_table(pa.table({"index": words}), folder / "glove_6B_index.parquet")
    np.save(folder / "glove_6B_50d_emb.npy", np.random.default_rng(4).normal(size=(len(words), 50)).astype(np.float32))
    return folder
