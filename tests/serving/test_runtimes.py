"""Every runtime that this machine has gives the same scores, alone, in turn and from several threads."""

import locale
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from essays.errors import BadParams, GraphInvalid
from essays.manifest import GRAPH_FILE
from serving.catalogue import LocalArtifact, read_model
from serving.config import ServiceSettings
from serving.loading import load_and_warm
from serving.runtimes import Runtime, Runtimes, onnxruntime_gpu
from serving.runtimes.onnxruntime_cpu import OnnxRuntimeCpu
from serving.runtimes.onnxruntime_gpu import best_provider
from serving.runtimes.openvino_cpu import OpenVinoCpu
from tests.serving.conftest import graph as graph_of
from tests.serving.conftest import int_input, ngram_arrays, ngram_graph, specs, token_arrays, token_graph

CPU_RUNTIMES = {"onnxruntime": OnnxRuntimeCpu, "openvino": OpenVinoCpu}
TOKENS = 40


tokens = partial(token_arrays, TOKENS)


@pytest.fixture(params=["ngrams", "tokens"])
def graph(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[onnx.ModelProto, Callable]:
    model, inputs = (ngram_graph(), ngram_arrays) if request.param == "ngrams" else (token_graph(TOKENS), tokens)
    onnx.save(model, str(tmp_path / GRAPH_FILE))
    return model, inputs


@pytest.mark.parametrize("runtime", CPU_RUNTIMES.values(), ids=CPU_RUNTIMES)
def test_all_lanes_give_the_scores_of_the_reference_at_any_length_and_at_the_same_time(
    runtime: Callable[[], Runtime], graph: tuple[onnx.ModelProto, Callable], tmp_path: Path
) -> None:
    model, inputs = graph
    reference = ReferenceEvaluator(model)
    essays = [inputs(length, seed) for seed, length in enumerate((1, 3, 17, 200, 2, 64))]
    expected = [reference.run(None, essay)[0] for essay in essays]
    sessions = runtime().open(specs(model), tmp_path, 3)
    assert len(sessions) == 3
    with ThreadPoolExecutor(3) as threads:
        found = list(
            threads.map(lambda session: [session.outputs(essay).raw_unit_scores for essay in essays * 20], sessions)
        )
    for scores in found:
        assert scores[0].dtype == np.float32
        assert np.concatenate(scores) == pytest.approx(np.concatenate(expected * 20), abs=1e-6)


def counting_graph() -> onnx.ModelProto:
    """Gives 1,000 for each token under the mask, and 1 for each column."""
    nodes = [
        helper.make_node("Equal", ["input_ids", "input_ids"], ["all"]),
        *(
            helper.make_node("Cast", [name], [f"{name}_float"], to=TensorProto.FLOAT)
            for name in ("all", "attention_mask", "prompt_index")
        ),
        helper.make_node("ReduceSum", ["all_float", "axis"], ["columns"], keepdims=0),
        helper.make_node("ReduceSum", ["attention_mask_float", "axis"], ["tokens"], keepdims=0),
        helper.make_node("Mul", ["tokens", "thousand"], ["thousands"]),
        helper.make_node("Add", ["columns", "thousands"], ["counted"]),
        helper.make_node("Add", ["counted", "prompt_index_float"], ["raw_unit_score"]),
    ]
    inputs = [int_input("input_ids", 2), int_input("attention_mask", 2), int_input("prompt_index", 1)]
    return graph_of("counting", nodes, inputs, {"axis": np.array([1]), "thousand": np.float32(1000)})


def test_openvino_meets_few_lengths(tmp_path: Path) -> None:
    """It keeps kernels for each: with all of them a service of two encoders grew by 280 MB."""
    model = counting_graph()
    onnx.save(model, str(tmp_path / GRAPH_FILE))
    (session,) = OpenVinoCpu().open(specs(model), tmp_path, 1)
    lengths = (1, 15, 16, 17, 500, 512)
    found = [float(session.outputs(tokens(length, 0)).raw_unit_scores[0]) for length in lengths]
    assert found == [1016, 15016, 16016, 17032, 500512, 512512]
    assert session.outputs(tokens(20, 0, num_rows=3)).raw_unit_scores.tolist() == [20032] * 3


@pytest.mark.parametrize("runtime", CPU_RUNTIMES.values(), ids=CPU_RUNTIMES)
def test_a_file_that_is_no_graph_or_another_one_is_refused(runtime: Callable[[], Runtime], tmp_path: Path) -> None:
    model = token_graph(TOKENS)
    described = specs(model)
    (tmp_path / GRAPH_FILE).write_bytes(b"no graph")
    with pytest.raises(GraphInvalid, match="does not load"):
        runtime().open(described, tmp_path, 1)
    onnx.save(ngram_graph(), str(tmp_path / GRAPH_FILE))
    with pytest.raises(GraphInvalid, match=r"inputs are features float32 .* the manifest says attention_mask"):
        runtime().open(described, tmp_path, 1)


def test_the_best_runtime_is_chosen_model_by_model_and_can_be_forced(
    artifacts: list[LocalArtifact], tmp_path: Path
) -> None:
    def runtimes_of(service: ServiceSettings) -> dict[str, str]:
        warm = load_and_warm(artifacts, 2, lambda _: None, service.make_runtimes())
        return {name: session.runtime for name, session in warm.lanes[1].sessions.items()}

    chosen = runtimes_of(ServiceSettings(artifact_folder=tmp_path))
    assert chosen["lexical"].startswith("onnxruntime ")
    assert chosen["tiny"].startswith("openvino ")
    for name in CPU_RUNTIMES:
        forced = runtimes_of(ServiceSettings(artifact_folder=tmp_path, runtime=name))
        assert all(runtime.startswith(name) and runtime.endswith(" cpu fp32") for runtime in forced.values())


def test_compiled_graphs_are_kept_for_the_next_start(artifacts: list[LocalArtifact], tmp_path: Path) -> None:
    artifact = next(artifact for artifact in artifacts if artifact.name == "tiny")
    manifest = read_model(artifact).manifest
    kept = []
    for _ in range(3):
        Runtimes("openvino", tmp_path).open(manifest, artifact.folder, 1)
        assert [folder.name for folder in tmp_path.iterdir()] == [artifact.digest]
        kept.append({path: path.stat().st_mtime_ns for path in (tmp_path / artifact.digest).iterdir()})
    assert kept[1]
    assert kept[1] == kept[2]


def test_a_gpu_s_provider_that_does_not_start_is_not_used_and_it_is_said_why(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As with `onnxruntime-gpu` on a machine without a GPU, or without TensorRT's libraries."""
    listed = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: listed)
    with pytest.warns(UserWarning, match="Specified provider"):
        assert best_provider.__wrapped__() is None
    said = capsys.readouterr().err.splitlines()
    place = "it does not start here, and ONNX Runtime takes CPUExecutionProvider in its place"
    assert said == [f"tensorrt is not used: {place}", f"cuda is not used: {place}"]
    with pytest.warns(UserWarning, match="Specified provider"), pytest.raises(BadParams, match=place):
        Runtimes("cuda")


def test_libraries_that_pip_installed_are_loaded_before_a_provider_is_tried(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Neither CUDA's nor TensorRT's stand where the system's loader looks."""
    steps = []
    session = onnxruntime.InferenceSession

    def opened(*given: object, **named: object) -> onnxruntime.InferenceSession:
        steps.append(("session", "tensorrt" in sys.modules))
        return session(*given, **named)

    monkeypatch.setitem(onnxruntime_gpu._PROVIDERS, "tensorrt", "CPUExecutionProvider")
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: steps.append("cuda"))
    monkeypatch.setattr(onnxruntime, "InferenceSession", opened)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "tensorrt.py").write_text("")
    assert onnxruntime_gpu.why_not("tensorrt") is None
    del sys.modules["tensorrt"]
    assert steps == ["cuda", ("session", True)]


def test_of_the_providers_that_start_the_fastest_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(onnxruntime_gpu._PROVIDERS, "cuda", "CPUExecutionProvider")
    assert best_provider.__wrapped__() == "cuda"


@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_a_runtime_that_is_not_there_is_refused_with_what_is(provider: str) -> None:
    if f"{provider.capitalize().replace('Cuda', 'CUDA')}ExecutionProvider" in onnxruntime.get_available_providers():
        pytest.fail("this test is for machines without a GPU build; the GPU tests are marked gpu")
    with pytest.raises(BadParams, match=rf"service\.runtime: {provider} is not available.*CPUExecutionProvider"):
        Runtimes(provider)


def test_models_compiled_side_by_side_leave_the_locale_as_it_was(tmp_path: Path) -> None:
    before = locale.setlocale(locale.LC_ALL)
    assert before != "C"
    model = ngram_graph()
    onnx.save(model, str(tmp_path / GRAPH_FILE))
    try:
        locale.setlocale(locale.LC_ALL, "C")  # as while another is compiled: OpenVINO puts back what it found
        OpenVinoCpu().open(specs(model), tmp_path, 1)
        assert locale.setlocale(locale.LC_ALL) == before
    finally:
        locale.setlocale(locale.LC_ALL, before)
