"""What keeps a model from being served although its bytes are as published: graph, golden essays, members."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from essays.errors import FairmarkError, GraphInvalid, InvalidManifest, WarmUpFailed
from essays.manifest import CALIBRATION_FILE, GOLDEN_FILE, GRAPH_FILE, describe_file
from serving.catalogue import LocalArtifact
from serving.loading import load_and_warm
from serving.schemas import ModelState


def edit_json(file: str, change: Callable[[Any], None]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        tree = json.loads((folder / file).read_text())
        change(tree)
        (folder / file).write_text(json.dumps(tree))

    return edit


def edit_graph(change: Callable[[onnx.ModelProto], None]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        model = onnx.load(str(folder / GRAPH_FILE))
        change(model)
        onnx.save(model, str(folder / GRAPH_FILE))

    return edit


def break_weights(model: onnx.ModelProto) -> None:
    for tensor in model.graph.initializer:
        if tensor.name == "head":
            tensor.CopyFrom(numpy_helper.from_array(np.full((8, 1), np.nan, np.float32), "head"))


def rename_input(model: onnx.ModelProto) -> None:
    model.graph.input[0].name = "token_ids"
    model.graph.node[0].input[1] = "token_ids"


CHANGES: list[tuple[str, Callable[[Path], None], type[FairmarkError], str]] = [
    ("garbage", lambda folder: (folder / GRAPH_FILE).write_bytes(b"no graph") and None, GraphInvalid, "does not load"),
    ("renamed", edit_graph(rename_input), GraphInvalid, "token_ids int64|token_ids tensor"),
    ("nan", edit_graph(break_weights), WarmUpFailed, "golden essay 1 on ellipse-overall got nan"),
    (
        "other score",
        edit_json(GOLDEN_FILE, lambda tree: tree["essays"][1].update(raw_unit_score=0.123)),
        WarmUpFailed,
        "golden essay 2 .* 0.12300 at publication|golden essay 2 is graded",
    ),
    (
        "other grade",
        edit_json(GOLDEN_FILE, lambda tree: tree["essays"][0].update(score=1.0)),
        WarmUpFailed,
        "golden essay 1 is graded",
    ),
    (
        "other calibration",
        edit_json(CALIBRATION_FILE, lambda tree: tree["prompts"][0].update(offset=-0.5)),
        WarmUpFailed,
        "the calibration is not what was published",
    ),
    ("no golden", edit_json(GOLDEN_FILE, lambda tree: tree.update(essays=[])), InvalidManifest, "golden.json"),
]


@pytest.mark.parametrize(("change", "kind", "message"), [row[1:] for row in CHANGES], ids=[row[0] for row in CHANGES])
def test_a_model_that_is_not_what_was_published_is_refused(
    bundles: Any,
    extract: Callable[[list[Path], Path], list[LocalArtifact]],
    tmp_path: Path,
    change: Callable[[Path], None],
    kind: type[FairmarkError],
    message: str,
) -> None:
    artifacts = extract([bundles.changed("tiny", change, tmp_path)], tmp_path / "models")
    states: list[ModelState] = []
    with pytest.raises(kind, match=message):
        load_and_warm(artifacts, 1, states.append)
    assert (states[-1].name, states[-1].state) == ("tiny", "failed")
    assert states[-1].detail


def test_an_ensemble_without_its_member_or_with_another_version_of_it_is_refused(
    bundles: Any, extract: Callable[[list[Path], Path], list[LocalArtifact]], tmp_path: Path
) -> None:
    paths = bundles.paths
    without = extract([paths["ensemble"], paths["lexical"]], tmp_path / "without")
    with pytest.raises(InvalidManifest, match=r"mixes tiny@\w+, but it is not served"):
        load_and_warm(without, 1, lambda _: None)

    newer = bundles.changed("tiny", lambda folder: (folder / "card.md").write_text("newer") and None, tmp_path)
    assert describe_file(newer) != describe_file(paths["tiny"])
    other = extract([paths["ensemble"], paths["lexical"], newer], tmp_path / "other")
    with pytest.raises(InvalidManifest, match=r"mixes tiny@\w+, but the champion is tiny@\w+"):
        load_and_warm(other, 1, lambda _: None)


def test_each_lane_gets_sessions_of_its_own_and_each_model_passes_every_state(artifacts: list[LocalArtifact]) -> None:
    states: list[tuple[str, str]] = []
    warm = load_and_warm(artifacts, 3, lambda state: states.append((state.name, state.state)))
    assert [set(lane.sessions) for lane in warm.lanes] == [{"lexical", "tiny"}] * 3
    assert len({id(lane.sessions["tiny"]) for lane in warm.lanes}) == 3
    for name in ("lexical", "tiny", "ensemble"):
        assert [state for model, state in states if model == name] == ["loading", "warming", "ready"]
