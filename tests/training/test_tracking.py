import os
import shutil
import socket
import subprocess
import sys
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pytest

from essays.calibration import Calibration
from essays.manifest import FileEntry, Manifest, Member, PromptMetrics
from essays.params import read_params
from tests.training.simulation import ELLIPSE, simulated_scores
from training.baselines import LENGTH_ONLY
from training.calibrate import fit_calibration
from training.evaluate import Evaluator
from training.evaluation_config import CalibrateConfig, EvaluateConfig
from training.learning_curves import LearningCurve
from training.pipeline_state import PipelineState, flattened, read_state
from training.registry import register_bundle, registered_name, set_alias
from training.summary import summarise
from training.tracked_results import track_results
from training.tracking import SUPERSEDED_TAG, best_effort, open_tracker
from training.tracking_config import TrackingConfig

CONFIG = TrackingConfig(experiment="fairmark")
STATE = PipelineState(
    parameters={"seed": "7", "models": '["lstm", "minilm"]', "train.lstm.hidden_size": "64", "train.minilm.batch": "8"},
    digests={"params": "a" * 64, "essays.parquet": "b" * 64, "folds.parquet": "c" * 64},
    git_commit="d" * 40,
    git_dirty=True,
)


def curve_of(model="minilm", fold=0, height=0.5):
    return LearningCurve(
        model,
        fold,
        tuple(
            {"epoch": epoch, "loss": 1 / epoch, "dev_qwk": height + epoch / 10, "learning_rate": 0.1, "duration_s": 2.5}
            for epoch in (1, 2, 3)
        ),
    )


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory):
    """A database with MLflow's tables, which take seconds to make."""
    folder = tmp_path_factory.mktemp("mlflow")
    with pytest.MonkeyPatch.context() as patch, best_effort():
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}")
        open_tracker(TrackingConfig(experiment="other"), STATE)
    return folder / "mlflow.db"


@pytest.fixture
def database(empty_database, tmp_path, monkeypatch):
    """A database of this test's own, named as a user names one."""
    path = tmp_path / "tracking" / "mlflow.db"
    path.parent.mkdir()
    shutil.copy(empty_database, path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{path}")
    return path


@pytest.fixture
def tracker(database):
    return open_tracker(CONFIG, STATE)


@pytest.fixture
def client(tracker):
    """A second look at the store, as MLflow's own UI has it."""
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracking_uri=os.environ["MLFLOW_TRACKING_URI"])


def runs_of(client, tracker):
    return client.search_runs([tracker.experiment_id], order_by=["attributes.start_time"])


def test_a_model_run_holds_parameters_curve_numbers_and_where_it_came_from(tracker, client):
    with tracker.model_run(curve_of()) as run:
        run.log_metrics({"qwk/asap-1": 0.8, "human_qwk/asap-1": float("nan")})
    found = client.get_run(run.run_id)
    assert found.info.status == "FINISHED"
    assert found.data.params == {
        "seed": "7",
        "models": '["lstm", "minilm"]',
        "train.minilm.batch": "8",
        "model": "minilm",
        "fold": "0",
    }
    assert found.data.metrics["qwk/asap-1"] == 0.8
    assert "human_qwk/asap-1" not in found.data.metrics
    points = client.get_metric_history(run.run_id, "epoch/dev_qwk")
    assert [(point.step, point.value) for point in points] == [(1, 0.6), (2, 0.7), (3, 0.8)]
    assert client.get_metric_history(run.run_id, "epoch/duration_s")[0].value == 2.5
    tags = found.data.tags
    assert tags["mlflow.runName"] == "minilm fold 0"
    assert tags["mlflow.source.git.commit"] == "d" * 40
    assert tags["fairmark.git_dirty"] == "true"
    assert tags["fairmark.sha256.essays.parquet"] == "b" * 64
    assert tags["fairmark.sha256.params"] == "a" * 64


@pytest.mark.row(53)
def test_no_secret_of_the_environment_is_in_a_run(database, monkeypatch):
    for name in ("AWS_SECRET_ACCESS_KEY", "FAIRMARK_STORE__SECRET_ACCESS_KEY", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.setenv(name, "zebracanarysecret-0123456789")
    with open_tracker(CONFIG, STATE).model_run(curve_of()) as run:
        run.log_metrics({"qwk/asap-1": 0.8})
    written = {path: path.read_bytes() for path in database.parent.rglob("*") if path.is_file()}
    assert [path.name for path, content in written.items() if b"train.minilm.batch" in content], "nothing was written"
    assert [path.name for path, content in written.items() if b"zebracanarysecret" in content] == []


def test_model_runs_stand_below_one_parent_that_holds_all_parameters(tracker, client):
    for curve in (curve_of("lstm"), curve_of(fold=0), curve_of(fold=1)):
        with tracker.model_run(curve):
            pass
    parent, *children = runs_of(client, tracker)
    assert parent.data.params == STATE.parameters
    assert parent.data.tags["mlflow.runName"] == f"pipeline {STATE.digest[:8]}"
    assert {child.data.tags["mlflow.parentRunId"] for child in children} == {parent.info.run_id}
    assert [child.info.run_name for child in children] == ["lstm fold 0", "minilm fold 0", "minilm fold 1"]


def test_recording_twice_doubles_nothing(tracker, client):
    for _ in range(2):
        again = open_tracker(CONFIG, STATE)
        with again.model_run(curve_of()) as run:
            run.log_metrics({"qwk/asap-1": 0.8})
    assert len(runs_of(client, tracker)) == 2
    for key, count in (("epoch/loss", 3), ("qwk/asap-1", 1)):
        assert len(client.get_metric_history(run.run_id, key)) == count


def test_a_number_that_changed_is_recorded_anew(tracker, client):
    for value in (0.8, 0.81):
        with tracker.model_run(curve_of()) as run:
            run.log_metrics({"qwk/asap-1": value})
            time.sleep(0.002)  # MLflow orders values of one step by the millisecond
    assert client.get_run(run.run_id).data.metrics["qwk/asap-1"] == 0.81


def test_evaluation_finds_the_run_of_training_and_adds_to_it(tracker, client):
    full = curve_of()
    without_times = LearningCurve(
        "minilm", 0, tuple({name: row[name] for name in row if name != "duration_s"} for row in full.rows)
    )
    with tracker.model_run(full) as trained:
        pass
    with tracker.model_run(without_times) as evaluated:
        evaluated.log_metrics({"qwk/asap-1": 0.8})
    assert trained.run_id == evaluated.run_id
    assert client.get_run(trained.run_id).data.metrics["epoch/duration_s"] == 2.5


def test_another_training_of_the_same_parameters_gets_a_run_of_its_own(tracker, client):
    with tracker.model_run(curve_of(height=0.5)) as old:
        pass
    with tracker.model_run(curve_of(height=0.4)) as new:
        pass
    with tracker.model_run(curve_of(height=0.4)) as same:
        pass
    assert old.run_id != new.run_id == same.run_id
    assert client.get_run(old.run_id).data.tags[SUPERSEDED_TAG] == "true"
    assert len(client.get_metric_history(new.run_id, "epoch/loss")) == 3


def test_other_parameters_or_data_are_another_pipeline(tracker, client):
    changed = replace(STATE, digests={**STATE.digests, "params": "e" * 64}, parameters={"seed": "8"})
    for state in (STATE, changed):
        with open_tracker(CONFIG, state).model_run(curve_of()):
            pass
    runs = runs_of(client, tracker)
    assert len([run for run in runs if "mlflow.parentRunId" not in run.data.tags]) == 2
    assert len(runs) == 4


def test_more_parameters_and_points_than_a_request_takes_are_all_recorded(database):
    state = replace(STATE, parameters={f"section.key{index}": str(index) for index in range(250)})
    rows = tuple({"epoch": step, "loss": 1.0, "dev_qwk": step / 600, "learning_rate": 0.1} for step in range(1, 501))
    with open_tracker(CONFIG, state).model_run(LearningCurve("minilm", 0, rows)) as run:
        pass
    assert len(run.client.get_run(run.run_id).data.params) == 252
    assert len(run.curve("dev_qwk")) == 500


def test_a_run_whose_stage_fails_is_marked_so(tracker, client):
    with pytest.raises(RuntimeError), tracker.model_run(curve_of()) as run:
        raise RuntimeError("a bug")
    assert client.get_run(run.run_id).info.status == "FAILED"


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def test_a_server_that_is_down_costs_a_line_and_not_the_stage(monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port()}")
    started = time.monotonic()
    with best_effort():
        open_tracker(CONFIG, STATE)
    assert time.monotonic() - started < 30
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert said[0].startswith("tracking: not recorded, the stage goes on: MlflowException: ")


def test_a_place_that_cannot_be_written_costs_a_line_and_not_the_stage(monkeypatch, tmp_path, capsys):
    (tmp_path / "file").write_text("", encoding="utf-8")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/file/mlflow.db")
    with best_effort():
        open_tracker(CONFIG, STATE)
    assert "tracking: not recorded, the stage goes on: " in capsys.readouterr().err


def test_a_bug_of_ours_is_not_hidden_by_best_effort():
    with pytest.raises(KeyError), best_effort():
        raise KeyError("no such column")


def test_nothing_leaves_for_anybody_but_the_tracking_server(monkeypatch):
    monkeypatch.delenv("MLFLOW_DISABLE_TELEMETRY", raising=False)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "99")
    with best_effort():
        pass
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "99"  # a user's own setting stands


def test_without_an_address_runs_are_kept_below_the_checkout(empty_database, tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mlruns").mkdir()
    shutil.copy(empty_database, tmp_path / "mlruns/mlflow.db")
    (tmp_path / "plot.txt").write_text("a plot", encoding="utf-8")
    with open_tracker(CONFIG, STATE).model_run(curve_of()) as run:
        run.client.log_artifact(run.run_id, str(tmp_path / "plot.txt"))
    assert (tmp_path / f"mlruns/artifacts/{run.run_id}/artifacts/plot.txt").read_text(encoding="utf-8") == "a plot"


def evaluated(model, fold=0, noise=0.1):
    scores = simulated_scores("asap-3", noise=noise)
    rng = np.random.default_rng(0)
    raters = {name: tuple(rng.integers(0, 4, 2).astype(float)) for name in scores.essay_ids.tolist()}
    evaluator = Evaluator(EvaluateConfig(num_resamples=100, interval_coverage=0.95), 7, raters)
    return evaluator.fold_results(model, fold, scores, calibration_of(scores))


def calibration_of(scores) -> Calibration:
    return fit_calibration(scores, read_params("calibrate", CalibrateConfig))


def test_results_are_recorded_with_intervals_raters_plots_and_reports(tracker, client, tmp_path):
    results = [*evaluated("minilm"), *evaluated("ensemble", noise=0.05), *evaluated(LENGTH_ONLY, noise=0.9)]
    reports = tmp_path / "reports"
    reports.mkdir()
    (reports / "evaluation.md").write_text("# Evaluation\n", encoding="utf-8")
    curves = [curve_of(), LearningCurve("ensemble", 0, ())]
    for _ in range(2):
        track_results(tracker, results, summarise(results), curves, 0.95, reports)
    parent, minilm, ensemble = runs_of(client, tracker)
    metrics = minilm.data.metrics
    assert metrics["qwk/asap-3"] == pytest.approx(results[0].qwk)
    assert (metrics["qwk_low/asap-3"], metrics["qwk_high/asap-3"]) == pytest.approx(results[0].qwk_interval)
    assert metrics["human_qwk/asap-3"] == pytest.approx(results[0].human_qwk)
    assert metrics["length_only_qwk/asap-3"] == pytest.approx(results[2].qwk)
    assert ensemble.data.metrics["qwk/asap-3"] == pytest.approx(results[1].qwk)
    assert parent.data.metrics["mean_qwk/asap-aes/ensemble"] == pytest.approx(results[1].qwk)
    plots = [artifact.path for artifact in client.list_artifacts(minilm.info.run_id, "plots")]
    assert plots == ["plots/confusion.png", "plots/learning_curve.png", "plots/predicted_vs_human.png"]
    assert [artifact.path for artifact in client.list_artifacts(parent.info.run_id, "reports")] == [
        "reports/evaluation.md"
    ]


def bundle_of(folder, content="graph", version="0123456789ab"):
    """A zip and a manifest that names it; what is inside is no concern of the registry."""
    path = folder / f"ensemble-{version}.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in (("card.md", "# A card\n"), ("weights.json", content)):
            archive.writestr(zipfile.ZipInfo(name), text)  # of a fixed date: the same bytes for the same content
    entry = FileEntry(sha256="0" * 64, size_bytes=1)
    manifest = Manifest(
        name="ensemble",
        version=version,
        kind="ensemble",
        prompt_ids=(ELLIPSE,),
        members=(Member(name="minilm", version="ba9876543210", weights={ELLIPSE: 1.0}),),
        metrics=(PromptMetrics(prompt_id=ELLIPSE, num_essays=1, qwk=0.5, qwk_interval=(0.4, 0.6)),),
        corpora=(),
        git_commit="d" * 40,
        pipeline_digest="e" * 64,
        files={"calibration.json": entry, "golden.json": entry},
    )
    return path, manifest


def registered(tracker, folder, **changes):
    path, manifest = bundle_of(folder, **changes)
    with tracker.model_run(LearningCurve("ensemble", 0, ())) as run:
        return register_bundle(tracker, run, manifest, path)


def test_a_bundle_becomes_a_version_of_its_run_with_card_digest_and_bytes(tracker, client, tmp_path):
    number = registered(tracker, tmp_path)
    version = client.get_model_version("fairmark-ensemble", number)
    assert version.description == "# A card\n"
    assert version.tags["fairmark.bundle_version"] == "0123456789ab"
    run = client.get_run(version.run_id)
    assert run.info.run_name == "ensemble fold 0"
    assert run.data.tags["fairmark.bundle_sha256"] == version.tags["fairmark.bundle_sha256"]
    copied = client.download_artifacts(version.run_id, "bundle/0123456789ab/ensemble-0123456789ab.zip", str(tmp_path))
    assert zipfile.ZipFile(copied).read("weights.json") == b"graph"


def test_registering_the_same_bundle_again_finds_it_and_another_is_a_new_version(tracker, client, tmp_path):
    numbers = [registered(tracker, tmp_path) for _ in range(2)]
    other = registered(tracker, tmp_path, content="another", version="123456789abc")
    assert numbers == ["1", "1"]
    assert other == "2"
    assert len(client.search_model_versions("name = 'fairmark-ensemble'")) == 2


def test_an_alias_names_a_bundle_and_moves_to_another(tracker, client, tmp_path):
    registered(tracker, tmp_path)
    registered(tracker, tmp_path, content="another", version="123456789abc")
    for bundle_version, number in (("0123456789ab", 1), ("123456789abc", 2), ("123456789abc", 2)):
        set_alias(tracker, "ensemble", "champion", bundle_version)
        assert int(client.get_model_version_by_alias("fairmark-ensemble", "champion").version) == number
    set_alias(tracker, "ensemble", "challenger", "0123456789ab")
    assert client.get_registered_model("fairmark-ensemble").aliases == {"champion": 2, "challenger": 1}


def test_an_alias_for_a_bundle_that_nobody_registered_costs_a_line(tracker, tmp_path, capsys):
    registered(tracker, tmp_path)
    with best_effort():
        set_alias(tracker, "ensemble", "champion", "fedcba987654")
    assert "no registered version of ensemble is the bundle fedcba987654; register it first" in capsys.readouterr().err


def test_flattened_parameters_have_dotted_keys_and_whole_lists():
    assert dict(flattened({"a": {"b": {"c": 1}, "d": [1, 2]}, "e": "text", "f": True, "g": None})) == {
        "a.b.c": "1",
        "a.d": "[1, 2]",
        "e": "text",
        "f": "true",
        "g": "null",
    }


@pytest.fixture
def git_checkout(tmp_path, monkeypatch):
    """A commit with parameters, data and a report."""
    monkeypatch.chdir(tmp_path)
    for name, text in (("params.yaml", "seed: 7\n"), ("essays.parquet", "rows"), ("reports/metrics.json", "{}")):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "all"]):
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *command], check=True)
    return tmp_path


def state_here():
    return read_state(Path("params.yaml"), (Path("essays.parquet"),))


def test_state_follows_values_and_data_but_not_comments(git_checkout):
    first = state_here()
    (git_checkout / "params.yaml").write_text("# a comment\nseed:   7\n", encoding="utf-8")
    assert state_here().digest == first.digest
    (git_checkout / "params.yaml").write_text("seed: 8\n", encoding="utf-8")
    assert state_here().digest != first.digest
    (git_checkout / "params.yaml").write_text("seed: 7\n", encoding="utf-8")
    (git_checkout / "essays.parquet").write_text("other rows", encoding="utf-8")
    assert state_here().digest != first.digest


def test_state_names_the_commit_and_is_dirty_by_code_but_not_by_reports(git_checkout):
    clean = state_here()
    assert len(clean.git_commit) == 40
    assert not clean.git_dirty
    (git_checkout / "reports/metrics.json").write_text("{ }", encoding="utf-8")
    assert not state_here().git_dirty
    (git_checkout / "params.yaml").write_text("seed: 8\n", encoding="utf-8")
    assert state_here().git_dirty


def test_outside_git_the_commit_is_unknown(git_checkout, monkeypatch):
    shutil.rmtree(git_checkout / ".git")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(git_checkout.parent))
    assert state_here().git_commit == "unknown"
    assert not state_here().git_dirty


@pytest.fixture
def server(database, tmp_path):
    """`mlflow server` as `make mlflow` starts it, on a free port."""
    port = free_port()
    command = [Path(sys.executable).with_name("mlflow"), "server", "--workers", "1", "--port", str(port)]
    store = ["--backend-store-uri", f"sqlite:///{database}", "--artifacts-destination", str(tmp_path / "served")]
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"} | quiet
    process = subprocess.Popen(
        [*command, *store], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            try:
                if httpx.get(f"{address}/health", timeout=2).status_code == 200:
                    break
            except httpx.TransportError:
                time.sleep(0.3)
        yield address
    finally:
        process.terminate()
        process.wait(timeout=30)


@pytest.mark.slow
def test_a_server_shows_what_was_recorded_before_it_started_and_takes_more(tracker, server, tmp_path, monkeypatch):
    (tmp_path / "plots").mkdir()
    (tmp_path / "plots" / "confusion.png").write_bytes(b"\x89PNG")
    with tracker.model_run(curve_of()) as run:
        run.log_artifacts(tmp_path / "plots", "plots")
    assert "MLflow" in httpx.get(f"{server}/", timeout=30).text
    experiment = httpx.get(
        f"{server}/api/2.0/mlflow/experiments/get-by-name", params={"experiment_name": "fairmark"}, timeout=30
    ).json()["experiment"]
    assert experiment["experiment_id"] == tracker.experiment_id
    plot = httpx.get(f"{server}/get-artifact", params={"path": "plots/confusion.png", "run_uuid": run.run_id})
    assert plot.content == b"\x89PNG"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    remote = open_tracker(TrackingConfig(experiment="through-a-server"), STATE)
    assert registered(remote, tmp_path) == "1"
    set_alias(remote, "ensemble", "champion", "0123456789ab")
    name = registered_name(remote, "ensemble")
    assert remote.client.get_model_version_by_alias(name, "champion").tags["fairmark.bundle_version"] == "0123456789ab"
