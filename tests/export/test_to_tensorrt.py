"""Engines: half precision where the work is, profiles without holes, a real build for a GPU that is not here."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from essays.digests import sha256_of
from essays.engines import ENGINE_FILE, EngineManifest, engine_version
from essays.errors import StageFailed
from essays.manifest import GRAPH_FILE, MANIFEST_FILE
from export.artifact import package_model
from export.exported import read_exported
from export.graphs import open_graph, run_graph
from export.mixed_precision import write_mixed
from export.to_tensorrt import NoBuilder, find_builder, length_buckets
from tests.export.test_artifact import facts
from tests.optional import ROOT, installed
from training.models import load_model


def test_only_matrix_products_are_at_half_precision(
    exports: dict[str, Path], model_folders: dict[str, Path], tmp_path: Path
) -> None:
    source, target = exports["encoder"] / GRAPH_FILE, tmp_path / "fp16.onnx"
    num_products = write_mixed(source, target, "fp16")
    before, after = (onnx.load(str(path)).graph for path in (source, target))
    products = [node for node in after.node if node.op_type == "MatMul"]
    assert num_products == len(products) == sum(node.op_type == "MatMul" for node in before.node) > 10
    assert len(after.node) == len(before.node) + 3 * num_products
    kinds = {
        node.output[0]: attribute.i
        for node in after.node
        if node.op_type == "Cast"
        for attribute in node.attribute
        if attribute.name == "to"
    }
    assert {kinds[name] for node in products for name in node.input} == {TensorProto.FLOAT16}
    assert [kinds[name] for name in (node.output[0].removesuffix("/half") for node in products)] == [
        TensorProto.FLOAT
    ] * num_products

    # ONNX Runtime runs the same casts: near the fp32 scores, and not the same.
    loaded = load_model(model_folders["encoder"])
    arrays = loaded.encoder.collate([loaded.encoder.encode("we think the dog laughs", 1)])
    full, half = (run_graph(open_graph(path), arrays).raw_unit_scores for path in (source, target))
    assert full != half
    np.testing.assert_allclose(half, full, atol=5e-3)


def test_a_graph_without_products_is_refused(exports: dict[str, Path], tmp_path: Path) -> None:
    model = onnx.load(str(exports["encoder"] / GRAPH_FILE))
    for node in model.graph.node:
        node.op_type = "Add" if node.op_type == "MatMul" else node.op_type
    onnx.save(model, str(tmp_path / "adds.onnx"))
    with pytest.raises(StageFailed, match="no matrix product"):
        write_mixed(tmp_path / "adds.onnx", tmp_path / "half.onnx", "bf16")


@pytest.mark.parametrize("longest", [3, 32, 510, 8192])
def test_buckets_cover_every_length_once_within_the_budget(longest: int) -> None:
    buckets = length_buckets(longest, token_budget=4096)
    covered = [length for bucket in buckets for length in range(bucket.shortest, bucket.longest + 1)]
    assert covered == list(range(1, longest + 1))
    for bucket in buckets:
        assert bucket.most_essays == 1 or bucket.most_essays * bucket.longest <= 4096


def test_without_a_gpu_the_command_says_so_and_ends_well() -> None:
    ended = pipeline([sys.executable], "--model", "minilm")
    assert ended.returncode == 0
    assert "no engine for minilm: no NVIDIA GPU answers here" in ended.stderr


def test_a_builder_that_is_not_installed_is_named_with_its_list() -> None:
    with pytest.raises(NoBuilder, match=r"requirements/tensorrt-rtx\.txt"):
        find_builder("sm89")


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_an_engine_is_built_for_a_named_architecture_and_bundled(
    precision: str, builder_path: Path, exports: dict[str, Path], encoder_bundle: Path, tmp_path: Path
) -> None:
    arguments = ["--model", "encoder", "--bundle", str(encoder_bundle), "--precision", precision]
    ended = pipeline([sys.executable], *arguments, "--architecture", "sm89", folder=tmp_path, path=builder_path)
    assert ended.returncode == 0, ended.stderr
    (bundle,) = (tmp_path / "out" / "engines" / "encoder").rglob("*.zip")
    with zipfile.ZipFile(bundle) as archive:
        manifest = EngineManifest.model_validate_json(archive.read(MANIFEST_FILE))
        archive.extract(ENGINE_FILE, tmp_path)
    assert manifest.precision == precision
    assert manifest.version == engine_version(manifest)
    assert bundle.parent.name == manifest.key == f"sm89-tensorrt-rtx-{manifest.builder_version}"
    assert manifest.files[ENGINE_FILE].sha256 == sha256_of(tmp_path / ENGINE_FILE)
    assert manifest.files[ENGINE_FILE].size_bytes > 10_000
    assert manifest.inputs == read_exported(exports["encoder"]).graphs[0].inputs

    refused = pipeline([sys.executable], *arguments, "--architecture", "sm12", folder=tmp_path, path=builder_path)
    assert refused.returncode == 0
    assert "builds for" in refused.stderr


@pytest.fixture(scope="module")
def encoder_bundle(exports: dict[str, Path], calibration_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small encoder, packaged."""
    return package_model(facts("encoder"), exports["encoder"], calibration_file, tmp_path_factory.mktemp("bundle"))


@pytest.fixture(scope="module")
def builder_path() -> Path:
    """A folder with TensorRT for RTX."""
    return installed("tensorrt-rtx")


def pipeline(
    python: list[str], *arguments: str, folder: Path = ROOT, path: Path | None = None
) -> subprocess.CompletedProcess[str]:
    variables = {"PYTHONPATH": ":".join(map(str, [ROOT, *([path] if path else [])])), "CUDA_VISIBLE_DEVICES": ""}
    command = [*python, "-m", "pipelines.tensorrt", *arguments]
    return subprocess.run(command, cwd=folder, env={**os.environ, **variables}, capture_output=True, text=True)
