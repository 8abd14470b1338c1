"""Bundles of models and of their ensemble: complete, reproducible, opened by the code that serves them."""

import json
from pathlib import Path

import pytest

from essays.bundle import read_bundle_manifest, verify_and_extract
from essays.calibration import Calibration
from essays.digests import sha256_of
from essays.ensemble import EnsembleWeights, PromptWeights
from essays.errors import StageFailed
from essays.gate import Gate, scorable_text
from essays.manifest import (
    CARD_FILE,
    GOLDEN_FILE,
    CorpusSource,
    Golden,
    PromptMetrics,
    content_version,
    describe_file,
)
from essays.prompts import all_prompts
from export.artifact import Facts, open_member, package_ensemble, package_model
from export.bundles import find_bundle
from export.config import ExportConfig
from export.golden import score_golden, written_essays
from export.provenance import UNKNOWN, git_commit, pipeline_digest

PROMPT_IDS = ("asap-1", "ellipse-overall")


def facts(name: str) -> Facts:
    return Facts(
        name=name,
        metrics=(PromptMetrics(prompt_id="asap-1", num_essays=30, qwk=0.7, qwk_interval=(0.6, 0.8), human_qwk=0.721),),
        corpora=(CorpusSource(name="ellipse", licence="CC BY-NC-SA 4.0"),),
        git_commit="abc",
        pipeline_digest="def",
    )


@pytest.mark.parametrize("kind", ["lexical", "lstm", "encoder"])
def test_packaging_twice_gives_the_same_bytes(
    kind: str, exports: dict[str, Path], calibration_file: Path, tmp_path: Path
) -> None:
    first = package_model(facts(kind), exports[kind], calibration_file, tmp_path / "one")
    second = package_model(facts(kind), exports[kind], calibration_file, tmp_path / "two")
    assert first.name == second.name
    assert sha256_of(first) == sha256_of(second)
    assert [path.name for path in (tmp_path / "one").iterdir()] == [first.name]


def test_a_bundle_opens_and_its_golden_essays_get_their_scores_again(
    exports: dict[str, Path], calibration_file: Path, calibration: Calibration, tmp_path: Path
) -> None:
    bundle = package_model(facts("encoder"), exports["encoder"], calibration_file, tmp_path / "out")
    manifest = verify_and_extract(bundle, describe_file(bundle), tmp_path / "staging")
    assert manifest.version == content_version(manifest)
    assert bundle.name == f"encoder-{manifest.version}.zip"
    golden = Golden.model_validate_json((tmp_path / "staging" / GOLDEN_FILE).read_bytes())
    member = open_member(bundle, exports["encoder"], calibration_file)
    assert score_golden(PROMPT_IDS, member.scorer.raw_score, calibration) == golden
    assert len({essay.raw_unit_score for essay in golden.essays}) > 1
    assert ".700" in (tmp_path / "staging" / CARD_FILE).read_text()


def test_another_content_is_another_version(exports: dict[str, Path], calibration_file: Path, tmp_path: Path) -> None:
    one = package_model(facts("lstm"), exports["lstm"], calibration_file, tmp_path / "one")
    other = package_model(facts("lexical"), exports["lexical"], calibration_file, tmp_path / "two")
    assert read_bundle_manifest(one).version != read_bundle_manifest(other).version


def test_an_ensemble_names_its_members_versions_and_mixes_their_calibrated_scores(
    exports: dict[str, Path],
    calibration_file: Path,
    calibration: Calibration,
    export_config: ExportConfig,
    tmp_path: Path,
) -> None:
    members = [
        open_member(
            package_model(facts(kind), exports[kind], calibration_file, tmp_path / kind),
            exports[kind],
            calibration_file,
        )
        for kind in ("lexical", "lstm")
    ]
    weights = EnsembleWeights(
        prompts=tuple(
            PromptWeights(prompt_id=prompt_id, weights={"lexical": 0.25, "lstm": 0.75}) for prompt_id in PROMPT_IDS
        )
    )
    bundle = package_ensemble(
        facts("ensemble"), weights, calibration_file, members, tmp_path / "ensemble", export_config
    )
    manifest = verify_and_extract(bundle, describe_file(bundle), tmp_path / "staging")
    assert [(member.name, member.version) for member in manifest.members] == [
        (member.manifest.name, member.manifest.version) for member in members
    ]
    assert manifest.parity is not None
    assert manifest.parity.num_essays == 60
    assert manifest.parity.max_gap <= 1e-4
    golden = Golden.model_validate_json((tmp_path / "staging" / GOLDEN_FILE).read_bytes()).essays[0]
    parts = [member.scorer.raw_score(golden.text, golden.prompt_id) for member in members]
    units = [float(calibration.unit_scores(golden.prompt_id, part)) for part in parts]
    assert golden.raw_unit_score == pytest.approx(0.25 * units[0] + 0.75 * units[1])


def test_a_missing_export_says_what_to_run(calibration_file: Path, tmp_path: Path) -> None:
    with pytest.raises(StageFailed, match=r"pipelines\.export"):
        package_model(facts("lstm"), tmp_path, calibration_file, tmp_path / "out")


def test_a_folder_without_its_one_bundle_is_named(tmp_path: Path) -> None:
    with pytest.raises(StageFailed, match="expected one bundle, found 0"):
        find_bundle("lstm", tmp_path)


def test_every_prompt_has_a_golden_essay_that_the_gate_lets_pass() -> None:
    essays = written_essays(list(all_prompts()))
    assert {essay.prompt_id for essay in essays} == set(all_prompts())
    for essay in essays:
        assert Gate().findings(scorable_text(essay.text), essay.prompt_id) == []


def test_the_pipeline_digest_follows_what_led_to_a_model_and_nothing_else(tmp_path: Path) -> None:
    lock = tmp_path / "dvc.lock"

    def digest(stages: dict[str, str], models: list[str]) -> str:
        lock.write_text(json.dumps({"stages": stages}))
        return pipeline_digest(models, lock)

    stages = {"split": "a", "train@lstm-0": "b", "train@minilm-0": "c", "package@lstm": "d", "ensemble": "e"}
    before = digest(stages, ["lstm"])
    assert digest({**stages, "package@lstm": "x", "publish": "y", "train@minilm-0": "z"}, ["lstm"]) == before
    assert digest({**stages, "train@lstm-0": "x"}, ["lstm"]) != before
    assert digest({**stages, "split": "x"}, ["lstm"]) != before
    assert digest({**stages, "ensemble": "x"}, ["lstm", "ensemble"]) != digest(stages, ["lstm", "ensemble"])
    assert pipeline_digest(["lstm"], tmp_path / "none") == UNKNOWN


def test_outside_git_the_commit_is_unknown(tmp_path: Path) -> None:
    assert git_commit(tmp_path) == UNKNOWN
    assert len(git_commit().removesuffix("-dirty")) == 40
