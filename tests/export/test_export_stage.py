"""The stage export on an encoder: bf16 measured on held-out essays, published where it passes, served as measured."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from data.folds import FoldRow
from data.rows import Essay
from data.tables import ESSAYS_FILE, FOLDS_FILE, essays_table, folds_table, write_table
from essays.bundle import verify_and_extract
from essays.errors import StageFailed
from essays.manifest import describe_file
from export.artifact import package_model
from export.exported import PRECISIONS_FILE, export_folder, read_exported, read_part
from export.precisions import PrecisionScores
from pipelines import export
from serving.runtimes import Runtimes
from serving.runtimes.openvino_cpu import multiplies
from tests.export.test_artifact import facts
from training.fold_scores import (
    SCORES_FILE,
    FoldScores,
    model_folder,
    scores_folder,
    write_fold_scores,
)
from training.fold_scores import calibration_file as calibrated
from training.models import LoadedModel, load_model
from training.trait_files import ModelTraits, traits_folder, write_model_traits

NUM_DEV, NUM_SHIFT = 20, 6


@pytest.fixture
def project(
    root: Path,
    essays: pd.DataFrame,
    model_folders: dict[str, Path],
    calibration_file: Path,  # the small models' own; where the stage looks is `calibrated`
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """A folder with what the stage reads: a trained encoder, its scores and its calibration."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(model_folders["encoder"], model_folder("encoder", 0))
    loaded = load_model(model_folders["encoder"])
    write_fold_scores(
        FoldScores(
            np.array(essays.essay_id.tolist()),
            np.array(essays.prompt_id.tolist()),
            np.array(["dev"] * NUM_DEV + ["test"] * (len(essays) - NUM_DEV)),
            np.array([3.0 + place % 3 for place in range(len(essays))]),
            np.array([raw_score(loaded, row.text, row.prompt_id) for row in essays.itertuples()]),
        ),
        scores_folder("encoder", 0) / SCORES_FILE,
    )
    target = calibrated("encoder", 0)
    target.parent.mkdir(parents=True)
    shutil.copyfile(calibration_file, target)
    rows = [
        Essay(row.essay_id, row.prompt_id.split("-")[0], row.prompt_id, row.text, 3.0, assignment=row.prompt_id)
        for row in essays.itertuples()
    ]
    write_table(essays_table(rows), ESSAYS_FILE)
    write_model_traits(ModelTraits(traits=None), traits_folder("encoder"))
    set_params(root, min_same_grades=0.9, max_qwk_change=1.0)
    return tmp_path


def set_params(root: Path, **changes: float) -> None:
    params = yaml.safe_load((root / "params.yaml").read_text())
    params["export"] |= {"num_parity_essays": 20, "num_shift_essays": NUM_SHIFT // 2, **changes}
    Path("params.yaml").write_text(yaml.safe_dump(params))


def raw_score(loaded: LoadedModel, text: str, prompt_id: str) -> float:
    arrays = loaded.encoder.collate([loaded.encoder.encode(text, loaded.spec.prompt_index(prompt_id))])
    with torch.inference_mode():
        return loaded.module(**{name: torch.from_numpy(array) for name, array in arrays.items()}).item()


def run_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["export", "--model", "encoder"])
    export.main()


def test_what_is_measured_is_what_is_published_and_served(
    project: Path, essays: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not multiplies("bf16"):
        pytest.skip("this CPU has no instructions for bf16; the next test shows what it publishes")
    run_stage(monkeypatch)
    folder = export_folder("encoder")
    scored, exported = read_part(folder / PRECISIONS_FILE, PrecisionScores), read_exported(folder)
    (parity,) = exported.precisions
    assert scored.essay_ids == tuple(sorted(essays.essay_id[NUM_DEV:]))
    assert parity.num_essays == len(essays) - NUM_DEV
    assert scored.raw["bf16"] != scored.raw["fp32"]
    assert set(parity.shifts) == set(exported.prompt_ids)
    assert any(parity.shifts.values())

    bundle = package_model(facts("encoder"), folder, calibrated("encoder", 0), project / "bundle")
    manifest = verify_and_extract(bundle, describe_file(bundle), project / "extracted")
    assert manifest.precisions == (parity,)
    (session,) = Runtimes().open(manifest, project / "extracted", 1, "bf16")
    encoder, texts = load_model(model_folder("encoder", 0)).encoder, essays.set_index("essay_id").text
    served = [
        float(
            session.outputs(
                encoder.collate([encoder.encode(texts[essay_id], manifest.prompt_ids.index(prompt_id))])
            ).raw_unit_scores[0]
        )
        for essay_id, prompt_id in zip(scored.essay_ids, scored.prompt_ids, strict=True)
    ]
    np.testing.assert_allclose(served, scored.raw["bf16"], atol=1e-6)


def test_a_precision_that_cannot_be_measured_is_not_published(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(export, "multiplies", lambda precision: False)
    run_stage(monkeypatch)
    assert read_exported(export_folder("encoder")).precisions == ()
    assert "bf16 is not published: this CPU has no instructions for it" in capsys.readouterr().err


def test_int8_without_its_packages_names_them(root: Path, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nncf", None)  # another test of this process may have loaded it
    set_params(root, precisions=["int8"])
    write_folds()
    with pytest.raises(StageFailed, match=r"requirements/int8\.txt"):
        run_stage(monkeypatch)


def write_folds() -> None:
    write_table(folds_table([FoldRow(f"essay-{place}", 0, "train") for place in range(60)]), FOLDS_FILE)
