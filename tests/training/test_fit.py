"""One fold, trained for real: what is written, that seeds decide, and that a killed run ends as an unbroken one."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from data.tables import FOLDS_SCHEMA
from essays.digests import sha256_of
from essays.errors import StageFailed
from essays.metrics import quadratic_weighted_kappa
from essays.prompts import get_prompt
from training.batches import as_tensors
from training.config import EncoderConfig, TrainConfig
from training.fit import STATES_FOLDER, fit_fold
from training.fold_scores import read_fold_scores
from training.history import EpochRow
from training.models import load_model

KINDS = ("lexical", "trees", "lstm", "encoder", "probe", "decoder")
FILES = ("model.safetensors", "model.json", "history.json", "scores.parquet")

# The child of `test_killed_run…`: trains, and kills itself without warning when the second epoch has been measured, but
# before its checkpoint is written. What is left on disk is a point inside that epoch.
CHILD = """
import os, signal, sys
from pathlib import Path
from data.tables import ESSAYS_SCHEMA, FOLDS_SCHEMA, read_dataset, read_table
from training.batches import as_tensors
from training.config import EncoderConfig
from training.fit import fit_fold

folder, config, out, checkpoints = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4])
fit_fold(
    EncoderConfig.model_validate_json(config),
    read_dataset(folder / "essays.parquet", ESSAYS_SCHEMA, folder / "cache"),
    read_table(folder / "folds.parquet", FOLDS_SCHEMA),
    0, 7, out, out, checkpoints,
    lambda row: os.kill(os.getpid(), signal.SIGKILL) if row.epoch == 2 else None,
)
"""


def fit(config: TrainConfig, corpus, out: Path, seed: int = 7) -> list[EpochRow]:
    return fit_fold(config, corpus.essays, corpus.folds, 0, seed, out, out, out.parent / "checkpoints")


def digests_of(folder: Path) -> dict[str, str]:
    return {name: sha256_of(folder / name) for name in FILES}


@pytest.fixture(scope="session", params=KINDS)
def fitted(request: pytest.FixtureRequest, configs, corpus, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp(request.param) / "fold-0"
    fit(configs[request.param], corpus, out)
    return out


def test_folder_holds_what_the_contract_says(fitted: Path, corpus) -> None:
    model = load_model(fitted)
    assert model.spec.prompt_ids == ("ellipse-overall", "asap-3")
    assert (fitted / "tokenizer.json").exists() == (model.spec.kind not in ("lexical", "trees"))
    history = json.loads((fitted / "history.json").read_text())
    assert [row["epoch"] for row in history] == list(range(1, len(history) + 1))
    scores = read_fold_scores(fitted / "scores.parquet")
    parts = {row["essay_id"]: row["part"] for row in corpus.folds.to_pylist()}
    assert {(id_, part) for id_, part in zip(scores.essay_ids.tolist(), scores.parts.tolist(), strict=True)} == {
        (essay_id, part) for essay_id, part in parts.items() if part != "train"
    }
    assert {path.name for path in (fitted.parent / "checkpoints").glob("*")} <= {STATES_FOLDER}


def test_written_scores_are_those_of_the_written_model(fitted: Path, corpus) -> None:
    model, scores = load_model(fitted), read_fold_scores(fitted / "scores.parquet")
    texts = dict(zip(corpus.essays["essay_id"], corpus.essays["text"], strict=True))
    for essay_id, prompt_id, raw in zip(
        scores.essay_ids[:9].tolist(), scores.prompt_ids.tolist(), scores.raw_unit_scores.tolist(), strict=False
    ):
        essay = model.encoder.encode(texts[essay_id], model.spec.prompt_index(prompt_id))
        assert model.module(**as_tensors(model.encoder.collate([essay]))).item() == pytest.approx(raw, abs=1e-5)


def test_model_learns_what_the_corpus_teaches(fitted: Path) -> None:
    scores = read_fold_scores(fitted / "scores.parquet")
    for prompt_id in ("ellipse-overall", "asap-3"):
        test = scores.select("test", prompt_id)
        assert np.corrcoef(test.raw_unit_scores, test.human_scores)[0, 1] > 0.6


def test_same_seed_writes_the_same_bytes(fitted: Path, configs, corpus, tmp_path: Path) -> None:
    fit(configs[load_model(fitted).spec.kind], corpus, tmp_path / "again")
    assert digests_of(tmp_path / "again") == digests_of(fitted)


def test_another_seed_learns_otherwise(configs, corpus, tmp_path: Path) -> None:
    fit(configs["lstm"], corpus, tmp_path / "first", seed=1)
    fit(configs["lstm"], corpus, tmp_path / "second", seed=2)
    assert digests_of(tmp_path / "first")["scores.parquet"] != digests_of(tmp_path / "second")["scores.parquet"]


@pytest.mark.slow
def test_killed_run_ends_as_the_unbroken_one(configs, corpus, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    config = configs["encoder"]
    checkpoints = tmp_path / "checkpoints"
    broken = tmp_path / "broken"
    child = subprocess.run(
        [sys.executable, "-c", CHILD, corpus.folder, config.model_dump_json(), broken, checkpoints],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": ".", "OMP_NUM_THREADS": "1"},
    )
    assert child.returncode == -signal.SIGKILL, child.stderr
    assert not broken.exists()

    resumed = fit_fold(config, corpus.essays, corpus.folds, 0, 7, broken, broken, checkpoints)
    said = capsys.readouterr().err
    assert "goes on from" in said
    assert "epoch 1/3" not in said
    assert [row.epoch for row in resumed] == [1, 2, 3]
    fit(config, corpus, tmp_path / "unbroken")
    assert digests_of(broken) == digests_of(tmp_path / "unbroken")


def test_learning_stops_when_nothing_gets_better(configs, corpus, tmp_path: Path) -> None:
    # A rate of nearly nothing: no epoch can beat the first by rounding's luck, and patience ends it.
    config = configs["encoder"].model_copy(
        update={"learning_rate": 1e-12, "head_learning_rate": 1e-12, "max_epochs": 8, "patience": 1, "ema_decay": 0.0}
    )
    assert len(fit(config, corpus, tmp_path / "out")) < 8


def test_best_epoch_is_kept(configs, corpus, tmp_path: Path) -> None:
    history = fit(configs["lstm"].model_copy(update={"head_penalties": ()}), corpus, tmp_path / "out")
    dev = read_fold_scores(tmp_path / "out" / "scores.parquet")
    kappas = []
    for prompt_id in ("ellipse-overall", "asap-3"):
        part, score_range = dev.select("dev", prompt_id), get_prompt(prompt_id).score_range
        raw, human = score_range.from_unit(part.raw_unit_scores), part.human_scores
        matched = human.mean() + human.std() / raw.std() * (raw - raw.mean())
        kappas.append(quadratic_weighted_kappa(score_range.round(matched), human, score_range))
    assert np.mean(kappas) == pytest.approx(max(row.dev_qwk for row in history), abs=1e-6)


def test_each_epoch_is_one_full_line(configs, corpus, tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    fit(configs["encoder"], corpus, tmp_path / "out")
    captured = capfd.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert len(lines) == 3
    for number, line in enumerate(lines, start=1):
        assert line.startswith(f"epoch {number}/3  loss ")
        assert all(word in line for word in ("qwk", "(best", "essays/s", "eta"))


def test_frozen_layers_stay_as_they_came(configs, corpus, tmp_path: Path, tiny_backbone: Path) -> None:
    config: EncoderConfig = configs["encoder"].model_copy(update={"frozen_layers": 1})
    fit(config, corpus, tmp_path / "out")
    before, after = load_file(tiny_backbone / "model.safetensors"), load_file(tmp_path / "out" / "model.safetensors")
    changed = {name for name, value in before.items() if not after[f"backbone.{name}"].equal(value)}
    assert changed
    assert all(name.startswith("encoder.layer.1.") for name in changed)


def test_fold_that_is_not_there_is_named(configs, corpus, tmp_path: Path) -> None:
    with pytest.raises(StageFailed, match=r"no fold 4; it has 0"):
        fit_fold(
            configs["lexical"],
            corpus.essays,
            corpus.folds,
            4,
            7,
            tmp_path / "out",
            tmp_path / "out",
            tmp_path / "checkpoints",
        )


@pytest.mark.parametrize("kind", KINDS)
def test_a_fold_with_nothing_to_test_trains_a_model_to_serve(kind: str, configs, corpus, tmp_path: Path) -> None:
    parts = ["train" if part == "test" else part for part in corpus.folds["part"].to_pylist()]
    folds = corpus.folds.set_column(corpus.folds.schema.get_field_index("part"), FOLDS_SCHEMA.field("part"), [parts])
    fit_fold(configs[kind], corpus.essays, folds, 0, 7, tmp_path, tmp_path, tmp_path / "checkpoints")
    scores = read_fold_scores(tmp_path / "scores.parquet")
    assert set(scores.parts.tolist()) == {"dev"}
    assert len(scores) == parts.count("dev")
