"""A model runs below fp32 only where its bundle and its ensemble's list the precision, and the CPU multiplies it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from essays.bundle import read_bundle_manifest
from essays.errors import BadParams, WarmUpFailed
from essays.manifest import GOLDEN_FILE, Golden, Manifest, PrecisionParity
from serving.catalogue import LocalArtifact, read_model
from serving.config import ServiceSettings
from serving.desk import Desk
from serving.loading import WarmModels, load_and_warm
from serving.runtimes import Runtimes
from serving.runtimes.openvino_cpu import multiplies
from serving.runtimes.precision import choose_precisions
from tests.serving.conftest import WEIGHTS, Bundles, extracted, pack, version_of

BF16 = PrecisionParity(
    precision="bf16",
    runtime="openvino",
    shifts={"ellipse-overall": 1e-3},
    num_essays=100,
    max_gap=4e-3,
    same_grade_share=0.997,
    qwk_changes={"ellipse": 0.0004},
)


def manifests(bundles: Bundles, **listed: Sequence[PrecisionParity]) -> list[Manifest]:
    found = [read_bundle_manifest(bundles.paths[name]) for name in (*WEIGHTS, "ensemble")]
    return [each.model_copy(update={"precisions": tuple(listed.get(each.name, ()))}) for each in found]


def chosen(bundles: Bundles, setting: str = "auto", able: str = "bf16", **listed: Sequence[PrecisionParity]) -> dict:
    runtimes = {"lexical": "onnxruntime", "tiny": "openvino"}
    return choose_precisions(
        manifests(bundles, **listed), lambda each: runtimes[each.name], lambda precision: precision in able, setting
    )


def test_bf16_needs_the_models_entry_the_ensembles_and_the_cpu(bundles: Bundles, capsys: pytest.CaptureFixture) -> None:
    in_fp32 = {"lexical": "fp32", "tiny": "fp32"}
    assert chosen(bundles) == in_fp32
    assert chosen(bundles, tiny=[BF16]) == in_fp32
    assert chosen(bundles, able="", tiny=[BF16], ensemble=[BF16]) == in_fp32
    assert chosen(bundles, "fp32", tiny=[BF16], ensemble=[BF16]) == in_fp32
    assert capsys.readouterr().err == ""
    assert chosen(bundles, tiny=[BF16], ensemble=[BF16]) == {"lexical": "fp32", "tiny": "bf16"}
    said = capsys.readouterr().err
    assert "tiny runs at bf16" in said
    assert "lexical runs at fp32: its bundle was not published for bf16" in said


def test_a_precision_is_covered_on_the_runtime_that_it_was_measured_on_alone(bundles: Bundles) -> None:
    assert chosen(bundles, lexical=[BF16], ensemble=[BF16])["lexical"] == "fp32"


def test_int8_comes_before_bf16_and_all_models_run_at_one(bundles: Bundles) -> None:
    int8 = BF16.model_copy(update={"precision": "int8"})
    both = {"tiny": [BF16, int8], "ensemble": [BF16, int8]}
    assert chosen(bundles, able="bf16 int8", **both)["tiny"] == "int8"
    assert chosen(bundles, "bf16", able="bf16 int8", **both)["tiny"] == "bf16"


def test_a_setting_that_nothing_can_meet_is_refused_with_the_reasons(bundles: Bundles) -> None:
    with pytest.raises(BadParams, match="this CPU has no instructions for bf16"):
        chosen(bundles, "bf16", able="", tiny=[BF16], ensemble=[BF16])
    with pytest.raises(BadParams, match="tiny: ensemble, which mixes it, was not published for bf16"):
        chosen(bundles, "bf16", tiny=[BF16])
    with pytest.raises(BadParams, match="no model can be served at int8"):
        chosen(bundles, "int8", able="bf16 int8", tiny=[BF16], ensemble=[BF16])


@pytest.fixture
def listed(bundles: Bundles, tmp_path: Path) -> list[LocalArtifact]:
    """The three models, published for bf16."""
    return republished(bundles, tmp_path, BF16)


def republished(bundles: Bundles, folder: Path, parity: PrecisionParity) -> list[LocalArtifact]:
    tiny = pack(bundles.folder / "parts" / "tiny", folder, **bundles.parts_of("tiny"), precisions=(parity,))
    parts = bundles.parts_of("ensemble")
    members = tuple(
        member.model_copy(update={"version": version_of(tiny)}) if member.name == "tiny" else member
        for member in parts["members"]
    )
    again = {**parts, "members": members, "precisions": (parity,)}
    ensemble = pack(bundles.folder / "parts" / "ensemble", folder, **again)
    return extracted([bundles.paths["lexical"], tiny, ensemble], folder / "extracted")


def loaded(artifacts: list[LocalArtifact], **settings: object) -> WarmModels:
    service = ServiceSettings(**settings)
    return load_and_warm(artifacts, 2, lambda _: None, Runtimes("auto", None, service.precision))


def test_a_listed_precision_is_run_and_its_scores_are_near_and_not_the_same(listed: list[LocalArtifact]) -> None:
    if not multiplies("bf16"):
        with pytest.raises(BadParams, match="no instructions"):
            loaded(listed, precision="bf16")
        return
    sessions = {name: loaded(listed, precision=name).lanes[1].sessions["tiny"] for name in ("fp32", "auto")}
    assert sessions["fp32"].precision == "fp32"
    assert sessions["auto"].precision == "bf16"
    assert sessions["auto"].runtime.endswith(" cpu bf16")
    rng = np.random.default_rng(2)
    essays = [
        {
            "input_ids": rng.integers(0, 13, (1, length)),
            "attention_mask": np.ones((1, length), dtype=np.int64),
            "prompt_index": np.zeros(1, dtype=np.int64),
        }
        for length in (3, 40, 200)
    ]
    full, low = (
        np.concatenate([session.outputs(essay).raw_unit_scores for essay in essays]) for session in sessions.values()
    )
    assert np.abs(full - low).max() < BF16.max_gap
    assert (full != low).any()


def test_each_prompts_shift_is_added_to_its_scores_and_to_no_others(listed: list[LocalArtifact]) -> None:
    if not multiplies("bf16"):
        pytest.skip("this CPU has no instructions for bf16")
    artifact = next(artifact for artifact in listed if artifact.name == "tiny")
    manifest = read_model(artifact).manifest
    unshifted = manifest.model_copy(update={"precisions": ()})
    two = {
        "input_ids": np.full((2, 9), 3),
        "attention_mask": np.ones((2, 9), dtype=np.int64),
        "prompt_index": np.array([1, 0]),
    }
    (plain,), (shifted,) = (Runtimes().open(each, artifact.folder, 1, "bf16") for each in (unshifted, manifest))
    assert manifest.prompt_ids == ("ellipse-overall", "asap-1")
    np.testing.assert_allclose(
        shifted.outputs(two).raw_unit_scores - plain.outputs(two).raw_unit_scores, [0, 1e-3], atol=1e-6
    )
    assert (shifted.runtime, shifted.precision) == (plain.runtime, "bf16")


def test_models_and_status_say_what_runs_and_what_may(listed: list[LocalArtifact]) -> None:
    desk = Desk(ServiceSettings(lanes=1, precision="fp32", cache={"store": "off"}))
    desk.expect(listed)
    assert desk.status().runtimes == {}
    desk.open(listed, lambda _: None)
    try:
        status = desk.status()
        assert status.runtimes["tiny"].startswith("openvino ")
        assert status.runtimes["tiny"].endswith(" fp32")
        assert set(status.runtimes) == {"lexical", "tiny"}
        assert {"openvino", "onnxruntime"} <= set(status.versions)
    finally:
        desk.close()


def test_below_fp32_golden_scores_may_be_twice_as_far_off_as_was_measured(bundles: Bundles, tmp_path: Path) -> None:
    if not multiplies("bf16"):
        pytest.skip("this CPU has no instructions for bf16")

    def moved(by: float) -> list[LocalArtifact]:
        found = republished(bundles, tmp_path / f"{by}", BF16)
        for artifact in found:
            if artifact.name == "tiny":
                path = artifact.folder / GOLDEN_FILE
                golden = Golden.model_validate_json(path.read_bytes())
                essays = tuple(
                    essay.model_copy(update={"raw_unit_score": essay.raw_unit_score + by}) for essay in golden.essays
                )
                path.write_text(golden.model_copy(update={"essays": essays}).model_dump_json())
        return [artifact for artifact in found if artifact.name == "tiny"]

    little = moved(0.005)
    loaded(little, precision="bf16")
    with pytest.raises(WarmUpFailed, match=r"at most 0\.001 apart"):
        loaded(little, precision="fp32")
    with pytest.raises(WarmUpFailed, match=r"at most 0\.008 apart"):
        loaded(moved(0.02), precision="bf16")
