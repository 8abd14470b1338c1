"""Nothing that a fold learns or chooses comes from its test essays: other test essays, and all of it is the same."""

import hashlib
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from datasets import Dataset
from safetensors.numpy import load_file

from data.rows import Essay
from data.synthetic.children import KINDS, Child
from data.tables import ESSAYS_SCHEMA, essays_table, read_dataset, write_table
from essays.errors import BadCorpus
from essays.params import read_params
from tests.training.conftest import PROMPTS, RICH, Corpus
from tests.training.test_synthesis import settings, with_tail
from tests.training.test_synthesis import unlabelled as unlabelled
from training import fit as fitting
from training import synthesis, synthetic_children
from training.batches import split_fold
from training.calibrate import fit_calibration
from training.config import TrainConfig
from training.ensemble import fit_ensemble
from training.evaluation_config import CalibrateConfig, EnsembleConfig
from training.fit import fit_fold
from training.fold_scores import FoldScores, fold_parts, read_fold_scores
from training.models.folder import WEIGHTS_FILE
from training.synthesis import Sources, synthesize_fold

_ROUNDING = 1e-5
_DECIMALS = 4

STRANGE = ["zyzzyva", "quokka", "gnomon", "syzygy"]
"""Words that no essay of the corpus has; each occurs often enough to enter a vocabulary."""


@pytest.fixture(scope="module")
def other_test_essays(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """The corpus with other texts, lengths, scores and raters in its test part, and the same everywhere else."""
    parts, random_ = fold_parts(corpus.folds, 0), random.Random(3)
    essays = [
        changed(row, random_) if parts[row["essay_id"]] == "test" else as_essay(row) for row in corpus.essays.to_list()
    ]
    folder = tmp_path_factory.mktemp("other")
    write_table(essays_table(essays), folder / "essays.parquet")
    return read_dataset(folder / "essays.parquet", ESSAYS_SCHEMA, folder / "cache")


def as_essay(row: dict) -> Essay:
    return Essay(row["essay_id"], row["corpus"], row["prompt_id"], row["text"], row["score"], assignment="any")


def changed(row: dict, random_: random.Random) -> Essay:
    low, high, _ = PROMPTS[row["prompt_id"]]
    text = " ".join(random_.choices(STRANGE + RICH, k=60))
    score = low if row["score"] > (low + high) / 2 else high
    return Essay(
        row["essay_id"], row["corpus"], row["prompt_id"], text, score, rater_scores=(low, high), assignment="any"
    )


def configs_of_all_kinds(configs: dict[str, TrainConfig]) -> dict[str, TrainConfig]:
    return {**configs, "frozen": configs["encoder"].model_copy(update={"frozen_layers": 1})}


def fit_on(
    essays: Dataset, config: TrainConfig, folds: pa.Table, folder: Path, children: Sequence[Child] = ()
) -> FoldScores:
    places = (folder / "model", folder / "scores", folder / "checkpoints")
    fit_fold(config, essays, folds, 0, 7, *places, children=children)
    return read_fold_scores(folder / "scores" / "scores.parquet")


def written(folder: Path) -> dict[str, bytes]:
    """All that learning and its choices left: weights, spec, vocabulary, and the epochs that dev chose among."""
    files = [*(folder / "model").iterdir(), folder / "scores" / "history.json"]
    return {path.name: path.read_bytes() for path in files}


def differing(first: Path, second: Path) -> set[str]:
    ours, theirs = written(first), written(second)
    return {name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name)}


def assert_alike(kind: str, first: Path, second: Path) -> None:
    """The same bytes; of a probe the same numbers but for rounding: test essays' lengths change its batches."""
    if kind != "probe":
        assert not differing(first, second)  # names: pytest explains unequal weights byte by byte, for minutes
        return
    ours, theirs = (load_file(folder / "model" / WEIGHTS_FILE) for folder in (first, second))
    assert max(np.abs(ours[name] - theirs[name]).max() for name in ours) < _ROUNDING


@pytest.mark.parametrize("kind", ["lexical", "trees", "lstm", "encoder", "frozen", "probe"])
def test_models_calibrations_and_weights_do_not_depend_on_test_essays(
    kind: str, configs, corpus: Corpus, other_test_essays: Dataset, tmp_path: Path
) -> None:
    config = configs_of_all_kinds(configs)[kind]
    scores = fit_on(corpus.essays, config, corpus.folds, tmp_path / "as-it-is")
    others = fit_on(other_test_essays, config, corpus.folds, tmp_path / "changed")
    on_test = scores.parts == "test"
    assert not np.array_equal(scores.raw_unit_scores[on_test], others.raw_unit_scores[on_test])

    assert_alike(kind, tmp_path / "as-it-is", tmp_path / "changed")
    if kind == "probe":  # what is chosen from equal scores must be equal
        scores, others = (
            replace(found, raw_unit_scores=np.round(found.raw_unit_scores, _DECIMALS)) for found in (scores, others)
        )
    assert np.array_equal(scores.raw_unit_scores[~on_test], others.raw_unit_scores[~on_test])
    calibrate, ensemble = read_params("calibrate", CalibrateConfig), read_params("ensemble", EnsembleConfig)
    calibrations = [fit_calibration(found, calibrate) for found in (scores, others)]
    assert calibrations[0] == calibrations[1]
    weights = []
    for found, calibration in zip((scores, others), calibrations, strict=True):
        members = {"first": found, "second": another_member(found)}
        both = {"first": calibration, "second": fit_calibration(members["second"], calibrate)}
        weights.append(fit_ensemble(members, both, ensemble)[0])
    assert weights[0] == weights[1]


def another_member(scores: FoldScores) -> FoldScores:
    """A member of the same essays that errs otherwise."""
    raw = scores.raw_unit_scores + 0.1 * np.sin(np.arange(len(scores)))
    return FoldScores(scores.essay_ids, scores.prompt_ids, scores.parts, scores.human_scores, raw)


@pytest.mark.parametrize("kind", ["lexical", "trees", "lstm", "encoder", "probe"])
def test_a_leak_would_be_noticed(
    kind: str, configs, corpus: Corpus, other_test_essays: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check above, on training that sees the test part among its train essays."""

    def leaking(essays: Dataset, folds: pa.Table, fold: int) -> dict[str, Dataset]:
        sets = split_fold(essays, folds, fold)
        seen = set(sets["train"]["essay_id"]) | set(sets["test"]["essay_id"])
        chosen = [place for place, essay_id in enumerate(essays["essay_id"]) if essay_id in seen]
        return {**sets, "train": essays.select(chosen)}

    monkeypatch.setattr(fitting, "split_fold", leaking)
    for name, essays in (("as-it-is", corpus.essays), ("changed", other_test_essays)):
        fit_on(essays, configs[kind], corpus.folds, tmp_path / name)
    with pytest.raises(AssertionError):
        assert_alike(kind, tmp_path / "as-it-is", tmp_path / "changed")
    names = differing(tmp_path / "as-it-is", tmp_path / "changed")
    assert "model.safetensors" in names
    assert ("tokenizer.json" in names) == (kind == "lstm")


def synthetic(
    essays: Dataset, corpus: Corpus, unlabelled: list, configs: dict, language_model: Path, folder: Path
) -> list[Child]:
    """Children of all kinds of fold 0, on essays that all kinds can be made of."""
    rows = [with_tail(as_essay(row)) for row in essays.to_list()]
    sources = Sources(rows, essays, corpus.folds, unlabelled, configs, 7)
    return synthesize_fold(settings(language_model, KINDS), sources, 0, folder)


def named(children: Sequence[Child]) -> set[tuple]:
    return {
        (child.child_id, child.parent_id, child.unit_score, hashlib.sha256(child.text.encode()).hexdigest())
        for child in children
    }


def test_synthetic_essays_do_not_depend_on_test_essays(
    configs, corpus: Corpus, other_test_essays: Dataset, unlabelled: list, tiny_language_model: Path, tmp_path: Path
) -> None:
    """Parents, texts and a teacher's labels: the same whatever the test part holds."""
    ours, others = (
        synthetic(essays, corpus, unlabelled, configs, tiny_language_model, tmp_path / name)
        for name, essays in (("as-it-is", corpus.essays), ("changed", other_test_essays))
    )
    assert {child.kind for child in ours} == set(KINDS)
    assert not named(ours) ^ named(others)
    parts = fold_parts(corpus.folds, 0)
    assert {parts.get(child.parent_id) for child in ours} == {"train", None}


@pytest.fixture(scope="module")
def leaked(
    configs,
    corpus: Corpus,
    other_test_essays: Dataset,
    unlabelled: list,
    tiny_language_model: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, list[Child]]:
    """What a synthesis makes that takes the test part for train essays, with its own check off."""

    def leaking(folds: pa.Table, fold: int) -> dict[str, str]:
        return {essay_id: "train" if part == "test" else part for essay_id, part in fold_parts(folds, fold).items()}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(synthesis, "fold_parts", leaking)
        return {
            name: synthetic(essays, corpus, unlabelled, configs, tiny_language_model, tmp_path_factory.mktemp(name))
            for name, essays in (("as-it-is", corpus.essays), ("changed", other_test_essays))
        }


@pytest.mark.parametrize("kind", ["lexical", "lstm", "encoder", "probe"])
def test_children_of_test_essays_would_be_noticed(
    kind: str,
    configs,
    corpus: Corpus,
    other_test_essays: Dataset,
    leaked: dict[str, list[Child]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By the check of parents before training; and with that off, by the check above."""
    assert named(leaked["as-it-is"]) != named(leaked["changed"])
    with pytest.raises(BadCorpus, match="is in test, expected train"):
        fit_on(corpus.essays, configs[kind], corpus.folds, tmp_path / "refused", leaked["as-it-is"])

    monkeypatch.setattr(synthetic_children, "check_children", lambda children, parts: None)
    for name, essays in (("as-it-is", corpus.essays), ("changed", other_test_essays)):
        fit_on(essays, configs[kind], corpus.folds, tmp_path / name, leaked[name])
    with pytest.raises(AssertionError):
        assert_alike(kind, tmp_path / "as-it-is", tmp_path / "changed")
