"""A tiny Llama of 3.1's configuration class down the whole road: trained, killed, resumed, merged, exported, served."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from starlette.testclient import TestClient

from essays.bundle import read_bundle_manifest, verify_and_extract
from essays.calibration import Band, Calibration, PromptCalibration, read_calibration, write_calibration
from essays.encoding import TOKENIZER_FILE
from essays.manifest import GRAPH_FILE, describe_file
from essays.params import write_section
from essays.text import normalize_text
from export.artifact import package_model
from export.exported import COMPARED_FILE, PARITY_FILE, PRECISIONS_FILE, Exported, write_exported
from export.parity import compare, require_parity
from export.precisions import PrecisionScores
from export.run_memory import run_memory
from export.to_onnx import export_graph
from serving.catalogue import LocalArtifact
from serving.config import ServiceSettings
from serving.desk import Desk
from serving.routes import create_app
from tests.export.conftest import export_config as export_config
from tests.export.test_artifact import facts
from tests.made_essays import made_essay
from tests.tiny_llama import write_tiny_llama
from tests.training.conftest import PROMPTS, Corpus
from tests.training.conftest import corpus as corpus
from tests.training.conftest import one_thread as one_thread
from training.adapters import adapted_layers
from training.batches import as_tensors
from training.config import DecoderConfig
from training.fit import STATES_FOLDER, fit_fold
from training.history import EpochRow
from training.models import LoadedModel, load_model
from training.start import finished_model, start_model


class Killed(BaseException):
    """In the middle of a run."""


@pytest.fixture(scope="module")
def config(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> DecoderConfig:
    """An untied head, GQA and stretched RoPE; adapters on the two upper layers of three."""
    folder = write_tiny_llama(tmp_path_factory.mktemp("llama"), list(corpus.essays["text"]))
    return DecoderConfig(
        kind="decoder",
        rater_share=0.5,
        backbone=str(folder),
        head_tokens=768,
        tail_tokens=256,
        head_learning_rate=3e-2,
        frozen_layers=1,
        lora_rank=4,
        lora_alpha=8,
        lora_dropout=0.1,
        lora_targets=("q_proj", "v_proj", "down_proj"),
        gradient_checkpointing=True,
        base="fp32",
        max_epochs=2,
        patience=2,
        batch_size=8,
        learning_rate=1e-2,
        warmup_share=0.1,
        weight_decay=0.01,
        clip_norm=1.0,
        ema_decay=0.0,
        precision="fp32",
        checkpoint_every_steps=3,
        head_penalties=(1.0,),
    )


def train(config: DecoderConfig, corpus: Corpus, out: Path, on_epoch=lambda row: None) -> list[EpochRow]:
    return fit_fold(config, corpus.essays, corpus.folds, 0, 7, out, out, out.parent / "checkpoints", on_epoch)


def kill(row: EpochRow) -> None:
    raise Killed


@pytest.fixture(scope="module")
def trained(config: DecoderConfig, corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nothing broke."""
    out = tmp_path_factory.mktemp("unbroken") / "fold-0"
    train(config, corpus, out)
    return out


@pytest.fixture(scope="module")
def loaded(trained: Path) -> LoadedModel:
    return load_model(trained)


def test_a_killed_run_ends_as_the_unbroken_one_and_keeps_no_pretrained_weight_in_its_checkpoints(
    config: DecoderConfig, corpus: Corpus, trained: Path, tmp_path: Path
) -> None:
    out = tmp_path / "fold-0"
    with pytest.raises(Killed):
        train(config, corpus, out, kill)
    (saved,) = tmp_path.glob("checkpoints/*/last.ckpt")
    names = set(torch.load(saved, weights_only=True)["state_dict"])
    backbone = {name for name in names if name.startswith("scorer.backbone.")}
    assert backbone
    assert all(".lora_" in name for name in backbone)
    assert {"scorer.heads.weight", "scorer.target.mean"} <= names
    train(config, corpus, out)
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == {STATES_FOLDER}
    for name in ("model.safetensors", "scores.parquet", "history.json"):
        assert describe_file(out / name) == describe_file(trained / name), name


def test_what_was_merged_differs_from_what_came_only_where_adapters_were(
    config: DecoderConfig, loaded: LoadedModel
) -> None:
    started = start_model(config, list(PROMPTS), [], seed=7)
    adapted = {f"backbone.{name}.weight" for name in adapted_layers(started.scorer.backbone)}
    assert len(adapted) == 2 * 3
    fresh, learned = finished_model(started, config).scorer.state_dict(), loaded.module.state_dict()
    moved = {name for name in fresh if not torch.equal(fresh[name], learned[name])}
    assert {name for name in moved if name.startswith("backbone.")} == adapted


@pytest.fixture(scope="module")
def artifact(
    trained: Path, loaded: LoadedModel, export_config, tmp_path_factory: pytest.TempPathFactory
) -> LocalArtifact:
    """Exported, packed into a bundle, verified and extracted."""
    folder = tmp_path_factory.mktemp("export")
    graph = export_graph(loaded, folder / GRAPH_FILE, export_config.opset)
    (folder / TOKENIZER_FILE).write_bytes((trained / TOKENIZER_FILE).read_bytes())
    essays = pd.DataFrame(
        [(f"essay-{n}", tuple(PROMPTS)[n % 2], made_essay(n, 1 + 2 * n)) for n in range(12)],
        columns=["essay_id", "prompt_id", "text"],
    )
    write_calibration(calibration(), folder / "calibration.json")
    compared = compare(loaded, folder / GRAPH_FILE, essays, batch_size=5)
    write_section(compared, folder / COMPARED_FILE)
    write_section(require_parity("tiny", compared, calibration(), export_config), folder / PARITY_FILE)
    scored = PrecisionScores(
        essay_ids=compared.essay_ids,
        prompt_ids=compared.prompt_ids,
        human_scores=(3.0,) * len(essays),
        raw={"fp32": compared.module},
    )
    write_section(scored, folder / PRECISIONS_FILE)
    spec = loaded.spec
    exported = Exported(
        kind=spec.kind,
        prompt_ids=spec.prompt_ids,
        encoding=spec.encoding,
        graphs=(graph,),
        memory=run_memory(spec, folder / GRAPH_FILE),
    )
    write_exported(exported, folder)
    bundle = package_model(facts("llama"), folder, folder / "calibration.json", folder / "bundle")
    target, entry = folder / "served", describe_file(bundle)
    verify_and_extract(bundle, entry, target)
    return LocalArtifact("llama", read_bundle_manifest(bundle).version, entry.sha256, target)


def calibration() -> Calibration:
    parts = [
        PromptCalibration(prompt_id=name, centre=0.5, offset=0.0, stretch=1.1, bands=(Band(up_to=1.0, half_width=0.2),))
        for name in PROMPTS
    ]
    return Calibration(coverage=0.9, prompts=tuple(parts))


@pytest.fixture(scope="module")
def desk(artifact: LocalArtifact) -> Iterator[Desk]:
    opened = Desk(ServiceSettings(lanes=1, cache={"store": "off"}))
    opened.open([artifact], lambda _: None)
    yield opened
    opened.close()


@pytest.mark.parametrize("num_sentences", [6, 60])
def test_the_service_answers_with_torch_s_score(
    num_sentences: int, loaded: LoadedModel, artifact: LocalArtifact, desk: Desk, tmp_path: Path
) -> None:
    essay, prompt_id = made_essay(5, num_sentences), "ellipse-overall"
    encoded = loaded.encoder.encode(normalize_text(essay), loaded.spec.prompt_index(prompt_id))
    with torch.inference_mode():
        raw = loaded.module(**as_tensors(loaded.encoder.collate([encoded]))).item()
    expected = float(read_calibration(artifact.folder / "calibration.json").unit_scores(prompt_id, raw))
    with TestClient(create_app(lambda: desk, tmp_path)) as client:
        answer = client.post("/score", json={"essay": essay, "prompt_id": prompt_id, "model": "llama"})
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body["unit_score"] == pytest.approx(expected, abs=1e-3)
    assert body["tokens_used"] == encoded.tokens_used
    # The context is 1,024 tokens: six sentences fit, sixty do not, and the answer says so.
    assert body["truncated"] is (num_sentences == 60)
    assert (body["tokens_used"] == 1024) is (num_sentences == 60)


def test_it_runs_on_a_lane_of_its_own_whose_thread_stands_back(desk: Desk) -> None:
    scorer = desk.scorer()
    assert scorer.pool.has_own_lane("llama")
    assert not scorer.pool.lanes[0].sessions
    answer = asyncio.run(scorer.score(made_essay(1), "asap-3", "llama"))
    assert np.isfinite(answer.unit_score)
