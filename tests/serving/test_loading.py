"""What keeps a model from being served although its bytes are as published: graph, golden essays, members."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from essays.encoding import TOKENIZER_FILE, Arrays
from essays.errors import FairmarkError, GraphInvalid, InvalidManifest, WarmUpFailed
from essays.manifest import CALIBRATION_FILE, GOLDEN_FILE, GRAPH_FILE, describe_file
from essays.outputs import Outputs
from serving.catalogue import LocalArtifact
from serving.loading import load_and_warm
from serving.runtimes import Runtimes
from serving.runtimes.external_data import require_no_external_data
from serving.runtimes.onnxruntime_cpu import OnnxSession
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


def external(tensor: onnx.TensorProto) -> None:
    """Make the tensor name a file outside the model's folder."""
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../../../etc/passwd")


def external_initializer(model: onnx.ModelProto) -> None:
    external(model.graph.initializer[0])


def external_sparse(model: onnx.ModelProto) -> None:
    external(model.graph.sparse_initializer.add().values)


def external_constant_in_a_subgraph(model: onnx.ModelProto) -> None:
    branch = helper.make_graph([helper.make_node("Constant", [], ["c"])], "then", [], [])
    external(branch.node[0].attribute.add(name="value", type=onnx.AttributeProto.TENSOR).t)
    model.graph.node.append(helper.make_node("If", ["c"], ["d"], then_branch=branch, else_branch=branch))


def external_in_a_function(model: onnx.ModelProto) -> None:
    node = model.functions.add(name="f").node.add(op_type="Constant")
    external(node.attribute.add(name="value", type=onnx.AttributeProto.TENSOR).t)


def location_alone(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].external_data.add(key="location", value="beside.bin")


@pytest.mark.row(14)
@pytest.mark.parametrize(
    "change",
    [external_initializer, external_sparse, external_constant_in_a_subgraph, external_in_a_function, location_alone],
)
def test_a_graph_that_names_other_files_is_refused_before_a_runtime_sees_it(
    bundles: Any,
    tmp_path: Path,
    extract: Callable[[list[Path], Path], list[LocalArtifact]],
    change: Callable[[onnx.ModelProto], None],
) -> None:
    def edit(folder: Path) -> None:
        model = onnx.load(str(folder / GRAPH_FILE))
        change(model)
        # Not `onnx.save`, which would look for the data.
        (folder / GRAPH_FILE).write_bytes(model.SerializeToString())

    artifacts = extract([bundles.changed("tiny", edit, tmp_path)], tmp_path / "models")
    with pytest.raises(GraphInvalid, match="has external data"):
        load_and_warm(artifacts, 1, lambda _: None)


@pytest.mark.parametrize(
    "content", [b"", b"\x08", b"\xff" * 20, b"\x3a\xff\xff\xff\xff\x0f", b"\x0b", b"\x3a\x02\x0a\x05"]
)
def test_what_is_no_protobuf_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / GRAPH_FILE).write_bytes(content)
    with pytest.raises(GraphInvalid, match="does not load"):
        require_no_external_data(tmp_path / GRAPH_FILE)


@pytest.mark.row(16)
def test_where_any_model_will_do_a_bad_one_is_left_out_and_its_ensemble_with_it(
    bundles: Any, extract: Callable[[list[Path], Path], list[LocalArtifact]], tmp_path: Path
) -> None:
    bad = bundles.changed("tiny", edit_graph(break_weights), tmp_path)
    artifacts = extract([bundles.paths["lexical"], bundles.paths["ensemble"], bad], tmp_path / "models")
    states: dict[str, ModelState] = {}
    warm = load_and_warm(artifacts, 2, lambda state: states.update({state.name: state}), require="any")
    assert list(warm.catalogue.models) == ["lexical"]
    assert {name: state.state for name, state in states.items()} == {
        "lexical": "ready",
        "tiny": "failed",
        "ensemble": "failed",
    }
    assert "got nan" in str(states["tiny"].detail)
    with pytest.raises(WarmUpFailed, match="got nan"):
        load_and_warm([artifact for artifact in artifacts if artifact.name == "tiny"], 1, lambda _: None, require="any")


def shorten_table(model: onnx.ModelProto) -> None:
    for tensor in model.graph.initializer:
        if tensor.name == "table":
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor)[:1], "table"))


@pytest.mark.row(15, 16)
def test_a_graph_that_breaks_while_it_runs_is_a_bad_model_like_any_other(
    bundles: Any, extract: Callable[[list[Path], Path], list[LocalArtifact]], tmp_path: Path
) -> None:
    bad = bundles.changed("tiny", edit_graph(shorten_table), tmp_path)
    artifacts = extract([bundles.paths["lexical"], bad], tmp_path / "models")
    runtimes = Runtimes("onnxruntime")
    with pytest.raises(WarmUpFailed, match=r"tiny@\w+: golden essay 1 on \S+ breaks the graph on lane 0: .+; publish"):
        load_and_warm(artifacts, 1, lambda _: None, runtimes)
    warm = load_and_warm(artifacts, 1, lambda _: None, runtimes, require="any")
    assert list(warm.catalogue.models) == ["lexical"]


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
    (
        "no tokenizer",
        lambda folder: (folder / TOKENIZER_FILE).write_text("{}") and None,
        InvalidManifest,
        "tokenizer.json: no tokenizer: .+; publish",
    ),
    ("no golden", edit_json(GOLDEN_FILE, lambda tree: tree.update(essays=[])), InvalidManifest, "golden.json"),
]


@pytest.mark.row(15)
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


def test_an_ensemble_is_warmed_by_what_its_members_gave(
    artifacts: list[LocalArtifact], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On two lanes each member is run on each golden essay twice, not four times."""
    asked = Counter[str]()
    outputs = OnnxSession.outputs

    def counted(self: OnnxSession, arrays: Arrays) -> Outputs:
        asked["ngram" if "ngram_ids" in arrays else "tokens"] += 1
        return outputs(self, arrays)

    monkeypatch.setattr(OnnxSession, "outputs", counted)
    warm = load_and_warm(artifacts, 2, lambda _: None, Runtimes("onnxruntime"))
    golden = {name: len(model.golden.essays) for name, model in warm.catalogue.models.items()}
    assert golden["ensemble"] > 0
    assert asked == {"ngram": 2 * golden["lexical"], "tokens": 2 * golden["tiny"]}
