"""The ablation: gains are paired, honest about chance, and a run that was killed trains nothing twice."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from data.tables import FOLDS_FILE
from essays.errors import BadParams
from pipelines import synthetic_ablation
from tests.training.conftest import Corpus
from tests.training.test_synthesis import settings
from training.fold_scores import FoldScores
from training.objective import matched_qwk
from training.synthetic_ablation import NONE, Arm, compare, dev_part, table

NUM_ESSAYS = 120


def scores(noise: float, seed: int) -> FoldScores:
    human = np.round(np.random.default_rng(0).uniform(0, 3, NUM_ESSAYS))
    raw = human / 3 + noise * np.random.default_rng(seed).normal(size=NUM_ESSAYS)
    names = np.array([f"made-{n:03}" for n in range(NUM_ESSAYS)])
    return FoldScores(names, np.full(NUM_ESSAYS, "asap-3"), np.full(NUM_ESSAYS, "dev"), human, raw)


def test_a_gain_is_the_mean_over_common_seeds_and_its_interval_holds_it() -> None:
    before = {1: scores(0.4, 1), 2: scores(0.4, 2)}
    after = {2: scores(0.1, 3), 1: scores(0.1, 4), 9: scores(0.1, 5)}
    baseline, better = compare([Arm("lstm", NONE, 0, before), Arm("lstm", "vary", 30, after)], 200, 0)
    assert (baseline.gain, baseline.interval) == (0.0, (0.0, 0.0))
    names = ["asap-3"] * NUM_ESSAYS
    qwk = {seed: matched_qwk(own.raw_unit_scores, own.human_scores, names) for seed, own in after.items()}
    assert better.dev_qwk == pytest.approx(np.mean(list(qwk.values())))
    assert better.deviation == pytest.approx(np.std(list(qwk.values()), ddof=1))
    assert better.gain == pytest.approx(np.mean([qwk[1], qwk[2]]) - baseline.dev_qwk)
    assert 0 < better.interval[0] < better.gain < better.interval[1]


def test_a_difference_by_chance_has_zero_inside_its_interval() -> None:
    arms = [Arm("lstm", NONE, 0, {1: scores(0.3, 1)}), Arm("lstm", "vary", 30, {1: scores(0.3, 2)})]
    _, other = compare(arms, 200, 0)
    assert other.interval[0] < 0 < other.interval[1]
    assert "| `lstm` | vary | 30 | 1 |" in table([other])
    assert "nan" not in table([other])


def test_the_command_trains_each_arm_once_and_reports_without_a_text(
    configs, corpus: Corpus, tiny_language_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd
) -> None:
    synthesize = json.loads(settings(tiny_language_model).model_dump_json(by_alias=True))
    models = {name: json.loads(configs[name].model_dump_json()) for name in ("lexical", "lstm")}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump({"seed": 7, "synthesize": synthesize, "train": models}))
    for name in ("essays", "folds"):
        target = tmp_path / FOLDS_FILE.with_name(f"{name}.parquet")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((corpus.folder / f"{name}.parquet").read_bytes())
    monkeypatch.chdir(tmp_path)
    synthetic_ablation.ablate(["lstm"], ["vary"], [7], 0)
    assert "lstm-none-seed-7" in (first := capfd.readouterr().err)
    assert "lstm-vary-seed-7" in first
    synthetic_ablation.ablate(["lexical", "lstm"], ["vary"], [7, 8], 0)
    said = capfd.readouterr().err
    assert "lstm-vary-seed-7" not in said
    assert "lstm-vary-seed-8" in said
    report = json.loads((tmp_path / "reports/synthetic/ablation.json").read_text())
    assert {(row["model"], row["kind"], tuple(row["seeds"])) for row in report["rows"]} == {
        (model, kind, (7, 8)) for model in ("lexical", "lstm") for kind in ("none", "vary")
    }
    assert "made-" not in json.dumps(report)
    with pytest.raises(BadParams, match="no model nobody; `train` has lexical, lstm"):
        synthetic_ablation.ablate(["nobody"], ["vary"], [7], 0)


def test_arms_compare_the_same_essays_in_the_same_order() -> None:
    whole = scores(0.1, 1)
    mixed = whole.rows(np.random.default_rng(3).permutation(NUM_ESSAYS))
    assert dev_part(mixed).essay_ids.tolist() == whole.essay_ids.tolist()
