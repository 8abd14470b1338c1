import json
from pathlib import Path

import pytest

from essays.errors import InvalidManifest
from essays.manifest import content_version, describe_file, parse_manifest, read_manifest
from essays.params import write_section

ENTRY = {"sha256": "a" * 64, "size_bytes": 1}
MODEL = {
    "schema_version": 1,
    "name": "tiny",
    "version": "0123456789ab",
    "kind": "lstm",
    "prompt_ids": ["asap-1", "asap-2"],
    "encoding": {"kind": "tokens", "head_tokens": 8, "tail_tokens": 0},
    "graphs": [
        {
            "file": "model.onnx",
            "precision": "fp32",
            "inputs": [{"name": "input_ids", "dtype": "int64", "shape": ["batch", "length"]}],
            "outputs": [{"name": "raw_unit_score", "dtype": "float32", "shape": ["batch"]}],
        }
    ],
    "metrics": [{"prompt_id": "asap-1", "num_essays": 5, "qwk": 0.7, "qwk_interval": [0.6, 0.8]}],
    "corpora": [{"name": "asap-aes", "licence": "not to be shared"}],
    "git_commit": "0" * 40,
    "pipeline_digest": "unknown",
    "files": {"model.onnx": ENTRY, "calibration.json": ENTRY, "golden.json": ENTRY},
}


def ensemble(*weights: dict[str, float]) -> dict:
    members = [{"name": f"m-{place}", "version": "1" * 12, "weights": each} for place, each in enumerate(weights)]
    files = {"calibration.json": ENTRY, "golden.json": ENTRY}
    return {**MODEL, "kind": "ensemble", "encoding": None, "graphs": [], "members": members, "files": files}


def parse(content: dict) -> object:
    return parse_manifest(json.dumps(content).encode(), "test.json")


def test_a_manifest_comes_back_from_its_file_with_the_same_bytes(tmp_path: Path):
    manifest = parse(MODEL)
    for name in ("one", "two"):
        write_section(manifest, tmp_path / name)
    assert read_manifest(tmp_path / "one") == manifest
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_the_version_is_left_out_of_what_it_is_made_from():
    manifest = parse(MODEL)
    assert content_version(manifest) == content_version(parse({**MODEL, "version": "ba9876543210"}))
    assert content_version(manifest) != content_version(parse({**MODEL, "git_commit": "1" * 40}))


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(InvalidManifest, match=r"none\.json: missing"):
        read_manifest(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"schema_version": 2}, "schema_version"),
        ({"name": "../up"}, "name"),
        ({"version": "latest"}, "version"),
        ({"unknown": 1}, "unknown"),
        ({"prompt_ids": []}, "prompt_ids"),
        ({"kind": "oracle"}, "kind"),
        ({"graphs": []}, "a model has graphs"),
        ({"encoding": None}, "a model has graphs and an encoding"),
        ({"files": {"model.onnx": ENTRY, "golden.json": ENTRY}}, r"does not list: calibration\.json"),
        ({"files": {**MODEL["files"], "model.onnx": {"sha256": "short", "size_bytes": 1}}}, r"model\.onnx\.sha256"),
    ],
)
def test_a_faulty_manifest_is_refused_with_its_source_and_fault(change: dict, said: str):
    with pytest.raises(InvalidManifest, match=said) as caught:
        parse({**MODEL, **change})
    assert str(caught.value).startswith("test.json: not a manifest of schema 1")


def test_an_ensemble_has_members_whose_weights_sum_to_one_on_every_prompt():
    parse(ensemble({"asap-1": 0.25, "asap-2": 0.0}, {"asap-1": 0.75, "asap-2": 1.0}))


@pytest.mark.parametrize(
    "weights",
    [
        [{"asap-1": 0.5, "asap-2": 0.5}, {"asap-1": 0.5, "asap-2": 0.4}],
        [{"asap-1": 1.5, "asap-2": 0.5}, {"asap-1": -0.5, "asap-2": 0.5}],
        [{"asap-1": 1.0}],
    ],
)
def test_other_weights_are_refused(weights: list[dict[str, float]]):
    with pytest.raises(InvalidManifest, match="sum to 1"):
        parse(ensemble(*weights))


def test_an_ensemble_without_members_or_with_a_graph_is_refused():
    with pytest.raises(InvalidManifest, match="an ensemble has members"):
        parse(ensemble())
    with pytest.raises(InvalidManifest, match="an ensemble has members"):
        parse({**ensemble({"asap-1": 1.0, "asap-2": 1.0}), "graphs": MODEL["graphs"]})


def test_a_file_is_described_by_its_bytes(tmp_path: Path):
    (tmp_path / "abc").write_bytes(b"abc")
    entry = describe_file(tmp_path / "abc")
    # FIPS 180-2, appendix B.1.
    assert entry.sha256 == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert entry.size_bytes == 3


TRAITS = {
    "prompt_id": "asap-1",
    "score_range": {"low": 1.0, "high": 5.0, "step": 0.5},
    "coverage": 0.9,
    "traits": [
        {
            "name": name,
            "calibration": {
                "prompt_id": "asap-1", "centre": 0.5, "offset": 0.0, "stretch": 1.0,
                "bands": [{"up_to": 1.0, "half_width": 0.1}],
            },
        }
        for name in ("cohesion", "syntax")
    ],
}  # fmt: skip
SECOND = {"name": "raw_trait_scores", "dtype": "float32", "shape": ["batch", 2]}


def with_second_output(**changed: object) -> dict:
    (graph,) = MODEL["graphs"]
    return {**MODEL, "graphs": [{**graph, "outputs": [*graph["outputs"], {**SECOND, **changed}]}]}


def test_traits_are_described_where_a_graph_gives_them_and_nowhere_else():
    assert parse({**with_second_output(), "traits": TRAITS}).traits.names == ("cohesion", "syntax")
    for faulty, said in (
        (with_second_output(), "model.onnx gives .2. traits, the manifest describes none"),
        ({**MODEL, "traits": TRAITS}, "model.onnx gives no traits, the manifest describes .2."),
        ({**with_second_output(shape=["batch", 3]), "traits": TRAITS}, "gives .3. traits"),
        ({**with_second_output(), "traits": {**TRAITS, "prompt_id": "asap-8"}}, "on one of the model's prompts"),
        ({**ensemble({"asap-1": 1.0, "asap-2": 1.0}), "traits": TRAITS}, "traits are those of a graph"),
    ):
        with pytest.raises(InvalidManifest, match=said):
            parse(faulty)
