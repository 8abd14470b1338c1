"""Essays that share a run of the graph on a device: each gets the score that it gets alone, and waits for nobody."""

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import onnx
import pytest

from essays.encoding import Arrays
from essays.manifest import GRAPH_FILE
from essays.outputs import Outputs
from serving.catalogue import LocalArtifact
from serving.config import ServiceSettings
from serving.loading import load_and_warm
from serving.runtimes import Runtimes, Session, onnxruntime_gpu
from serving.runtimes.batched import BatchedSession
from serving.runtimes.onnxruntime_cpu import OnnxRuntimeCpu
from serving.runtimes.onnxruntime_gpu import LANES
from tests.serving.conftest import ngram_arrays, ngram_graph, specs, token_arrays, token_graph, with_traits
from tests.serving.traffic import wait_until

TOKENS = 40
BAD = 39
"""A token that the device cannot take, once it is told so."""


class Device:
    """A real session that can be held, and notes each batch."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.runtime, self.precision = session.runtime, session.precision
        self.free = threading.Event()
        self.free.set()
        self.shapes: list[tuple[int, ...]] = []
        self.refuses_bad = False
        self.run_s = 0.0

    def outputs(self, arrays: Arrays) -> Outputs:
        """As `Session.outputs`; raises on a batch with a bad token."""
        ids = arrays.get("input_ids", arrays.get("ngram_ids"))
        self.shapes.append(ids.shape)
        assert self.free.wait(10)
        time.sleep(self.run_s)
        if self.refuses_bad and (ids == BAD).any():
            raise RuntimeError("the device failed")
        return self.session.outputs(arrays)


def tokens(length: int, seed: int) -> Arrays:
    return token_arrays(BAD, length, seed, prompt_index=seed % 2)


def ngrams(length: int, seed: int) -> Arrays:
    return ngram_arrays(length, seed, prompt_index=seed % 2)


def device_of(model: onnx.ModelProto, folder: Path) -> Device:
    onnx.save(model, str(folder / GRAPH_FILE))
    (session,) = OnnxRuntimeCpu().open(specs(model), folder, 1)
    return Device(session)


def behind_a_held_one(batched: BatchedSession, device: Device, essays: list[Arrays]) -> list[Future[Outputs]]:
    """Futures of these essays, which all came while another was being run."""
    device.free.clear()
    threads = ThreadPoolExecutor(len(essays) + 1)
    threads.submit(batched.outputs, tokens(5, 0))
    wait_until(lambda: len(device.shapes) == 1, 10, lambda: "no run began")
    futures = [threads.submit(batched.outputs, essay) for essay in essays]
    wait_until(lambda: len(batched._waiting) == len(essays), 10, lambda: "not all of them wait")
    device.free.set()
    threads.shutdown(wait=True)
    return futures


@pytest.mark.parametrize("kind", ["tokens", "ngrams", "traits"])
def test_from_many_threads_each_gets_the_scores_that_it_gets_alone(kind: str, tmp_path: Path) -> None:
    model = ngram_graph() if kind == "ngrams" else token_graph(TOKENS)
    if kind == "traits":
        model = with_traits(model, 3)
    device = device_of(model, tmp_path)
    make = ngrams if kind == "ngrams" else tokens
    essays = [make(1 + (17 * seed) % 90, seed) for seed in range(200)]
    alone = [device.session.outputs(essay) for essay in essays]
    batched = BatchedSession(device, token_budget=400)
    with ThreadPoolExecutor(32) as threads:
        found = list(threads.map(batched.outputs, essays))
    for own, expected in zip(found, alone, strict=True):
        assert own.raw_unit_scores == pytest.approx(expected.raw_unit_scores, abs=1e-6)
        assert own.raw_trait_scores == pytest.approx(expected.raw_trait_scores, abs=1e-6)
        assert own.raw_trait_scores.shape == ((1, 3) if kind == "traits" else (1, 0))
    assert sum(rows for rows, _ in device.shapes) == 200
    assert all(rows == 1 or rows * length <= 400 for rows, length in device.shapes)


def test_those_that_came_while_one_ran_are_run_together(tmp_path: Path) -> None:
    device = device_of(token_graph(TOKENS), tmp_path)
    batched = BatchedSession(device)
    futures = behind_a_held_one(batched, device, [tokens(20, seed) for seed in range(1, 9)])
    assert device.shapes == [(1, 5), (8, 20)]
    assert all(future.result().raw_unit_scores.shape == (1,) for future in futures)


def test_a_batch_holds_essays_of_like_length_within_the_budget(tmp_path: Path) -> None:
    device = device_of(token_graph(TOKENS), tmp_path)
    lengths = [100, 80, 100, 90, 10, 9, 300]
    behind_a_held_one(BatchedSession(device, 200), device, [tokens(length, 1) for length in lengths])
    shapes = device.shapes[1:]
    assert sum(rows for rows, _ in shapes) == len(lengths)
    assert (2, 10) in shapes
    assert (1, 300) in shapes  # longer than the budget, and still run
    assert sorted(rows for rows, length in shapes if 80 <= length <= 100) == [2, 2]


def test_whoever_is_done_brings_its_next_essay_while_the_next_batch_runs(tmp_path: Path) -> None:
    """Under load the lanes are two groups in turns, each one batch: a done essay never waits for the device."""
    device = device_of(token_graph(TOKENS), tmp_path)
    device.run_s = 0.05
    batched, rounds, lanes = BatchedSession(device), 6, 32
    with ThreadPoolExecutor(lanes) as threads:
        list(threads.map(lambda seed: [batched.outputs(tokens(20, seed)) for _ in range(rounds)], range(lanes)))
    assert sum(rows for rows, _ in device.shapes) == rounds * lanes
    assert len(device.shapes) <= 3 * rounds


def test_an_essay_that_comes_alone_starts_at_once_and_alone(tmp_path: Path) -> None:
    device = device_of(token_graph(TOKENS), tmp_path)
    batched = BatchedSession(device)
    for seed in range(3):
        batched.outputs(tokens(20, seed))
    assert device.shapes == [(1, 20)] * 3
    assert (batched.runtime, batched.precision) == (device.runtime, device.precision)


def test_an_essay_on_which_the_device_fails_fails_alone(tmp_path: Path) -> None:
    device = device_of(token_graph(TOKENS), tmp_path)
    device.refuses_bad = True
    essays = [tokens(20, seed) for seed in range(1, 6)]
    expected = [device.session.outputs(essay).raw_unit_scores for essay in essays]
    essays[2]["input_ids"][0, 3] = BAD
    futures = behind_a_held_one(BatchedSession(device), device, essays)
    with pytest.raises(RuntimeError, match="the device failed"):
        futures[2].result()
    for place in (0, 1, 3, 4):
        assert futures[place].result().raw_unit_scores == pytest.approx(expected[place], abs=1e-6)
    assert [shape for shape in device.shapes if shape[0] > 1] == [(5, 20)]


def test_a_gpu_gets_many_lanes_and_all_of_them_share_its_session(
    artifacts: list[LocalArtifact], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With ONNX Runtime's CPU provider where CUDA's would be: everything but the GPU is real, warm-up too."""
    monkeypatch.setitem(onnxruntime_gpu._PROVIDERS, "cuda", "CPUExecutionProvider")
    settings = ServiceSettings(artifact_folder=tmp_path, runtime="cuda")
    runtimes = settings.make_runtimes()
    assert settings.num_lanes(runtimes) == LANES
    assert ServiceSettings(lanes=3, runtime="cuda").num_lanes(runtimes) == 3
    assert Runtimes("onnxruntime").lanes(2) == 2
    warm = load_and_warm(artifacts, settings.num_lanes(runtimes), lambda _: None, runtimes)
    assert len(warm.lanes) == LANES
    assert len({id(lane.sessions["tiny"]) for lane in warm.lanes}) == 1
