"""Models trained for serving: what they say of themselves, and that the service grades as the pipeline did."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from essays.bundle import read_bundle_manifest, verify_and_extract
from essays.calibration import read_calibration, write_calibration
from essays.errors import StageFailed
from essays.manifest import CARD_FILE, Manifest, describe_file
from essays.prompts import all_prompts
from export.bundles import find_bundle
from training.fold_scores import calibration_file, read_fold_scores

FOLD = 5
MODELS = ("lexical", "lstm", "ensemble")
Stage = Callable[..., None]


def manifest_and_card(checkout: Path, model: str, folder: Path) -> tuple[Manifest, str]:
    bundle = find_bundle(model, checkout / "out/bundles")
    verify_and_extract(bundle, describe_file(bundle), folder)
    return read_bundle_manifest(bundle), (folder / CARD_FILE).read_text("utf-8")


def test_nothing_is_scored_but_dev_and_nothing_is_measured(checkout: Path) -> None:
    for model in MODELS:
        scores = read_fold_scores(checkout / f"out/scores/{model}/fold-{FOLD}/scores.parquet")
        assert set(scores.parts.tolist()) == {"dev"}
        assert scores.prompts() == sorted(all_prompts())
    assert json.loads((checkout / "reports/metrics.json").read_text()) == {}
    assert "Nothing was measured" in (checkout / "reports/evaluation.md").read_text("utf-8")


def test_what_is_said_of_the_gate_was_measured_on_its_twin_which_had_not_seen_the_test_essays(checkout: Path) -> None:
    report = json.loads((checkout / "reports/gate.json").read_text())
    assert report["fold"] == 0
    assert {row["prompt_id"] for row in report["rows"]} == set(all_prompts())
    assert "(fold 0)" in (checkout / "reports/gate.md").read_text("utf-8")


def test_a_served_model_covers_every_prompt_and_names_the_runs_that_its_numbers_come_from(
    checkout: Path, tmp_path: Path
) -> None:
    for model in MODELS:
        manifest, card = manifest_and_card(checkout, model, tmp_path / model)
        assert set(manifest.prompt_ids) == set(all_prompts())
        own = [figure for figure in manifest.metrics if figure.measured_on is None]
        assert own == []
        assert "This model was not measured itself" in card
        measured = {figure.prompt_id for figure in manifest.metrics}
        for prompt_id in manifest.prompt_ids:
            (row,) = [line for line in card.splitlines() if line.startswith(f"| {prompt_id}:")]
            assert ("not measured" in row) == (prompt_id not in measured)
        for figure in manifest.metrics:
            assert f": {figure.measured_on}" in card


def test_the_service_gives_the_pipelines_grades_essay_by_essay(checkout: Path, in_checkout: Stage) -> None:
    in_checkout("served_grades", "--per-prompt", "4")
    report = json.loads((checkout / "reports/served.json").read_text())
    assert report["essays_by_prompt"] == dict.fromkeys(sorted(all_prompts()), 4)
    assert report["essays"] == report["same_grades"] == 36
    assert report["max_unit_gap"] < 1e-4
    assert {name: check["same_grades"] for name, check in report["models"].items()} == dict.fromkeys(MODELS, 36)
    with (checkout / "out/served_grades.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 36 * len(MODELS)
    # An answer that is always the same would agree with itself.
    assert len({row["served_grade"] for row in rows}) > 5
    scores = read_fold_scores(checkout / f"out/scores/lstm/fold-{FOLD}/scores.parquet")
    raw = dict(zip(scores.essay_ids.tolist(), scores.raw_unit_scores.tolist(), strict=True))
    calibration = read_calibration(checkout / calibration_file("lstm", FOLD))
    for row in (row for row in rows if row["model"] == "lstm"):
        grade = calibration.grade(all_prompts()[row["prompt_id"]], raw[row["essay_id"]])
        assert float(row["served_grade"]) == grade.score
        assert float(row["served_unit"]) == pytest.approx(grade.unit_score, abs=1e-4)


def test_a_service_that_grades_otherwise_is_named(checkout: Path, in_checkout: Stage) -> None:
    path = checkout / calibration_file("lexical", FOLD)
    kept = path.read_bytes()
    calibration = read_calibration(path)
    parts = tuple(part.model_copy(update={"offset": part.offset + 0.2}) for part in calibration.prompts)
    write_calibration(calibration.model_copy(update={"prompts": parts}), path)
    try:
        with pytest.raises(StageFailed, match=r"lexical@[0-9a-f]{12}: the service gives .* of 9 essays the pipeline's"):
            in_checkout("served_grades", "--per-prompt", "1")
    finally:
        path.write_bytes(kept)


def test_essays_too_short_to_be_changed_leave_an_empty_report(checkout: Path, in_checkout: Stage) -> None:
    """Here each essay is one sentence."""
    params, measured = checkout / "params.yaml", checkout / "out/models/lexical/fold-0"
    kept = params.read_text("utf-8")
    params.write_text(yaml.safe_dump(yaml.safe_load(kept) | {"folds": [0]}), "utf-8")
    measured.symlink_to(f"fold-{FOLD}")
    try:
        in_checkout("robustness")
        assert json.loads((checkout / "reports/robustness.json").read_text()) == []
    finally:
        params.write_text(kept, "utf-8")
        measured.unlink()
