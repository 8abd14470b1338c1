"""The model that is measured: from its bundle to reference scores, to a bare loop, and to the real service."""

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.speed.chosen import ChosenEssay
from benchmarks.speed.contestants import choose
from benchmarks.speed.measure import Bench, measure
from benchmarks.speed.published import service_variables
from benchmarks.speed.results import Plan
from benchmarks.speed.subject import Subject, expect, find_subject, grader
from essays.errors import StageFailed
from essays.registry import list_champions, read_champion
from essays.settings import StoreSettings
from essays.store import open_store
from tests.serving.conftest import PROMPT_IDS, Bundles


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """A tiny model's bundle, found as the benchmark finds it."""
    folder = tmp_path_factory.mktemp("subject")
    bundle = Bundles(folder).tiny()
    return find_subject("tiny", bundle, folder / "weights", folder / "model")


@pytest.fixture
def bench(subject: Subject, essays: list[ChosenEssay], tmp_path: Path) -> Bench:
    """Ten essays for it, on both its prompts."""
    chosen = [
        replace(essay, prompt_id=PROMPT_IDS[number % 2], prompt_index=number % 2)
        for number, essay in enumerate(essays[:10])
    ]
    return Bench(
        subject, chosen, expect(subject, chosen), grader(subject), Plan(10, (1, 2), (0.5,)), tmp_path / "bench"
    )


def test_reference_scores_depend_on_the_prompt(subject: Subject, essays: list[ChosenEssay]) -> None:
    essay = essays[0]
    raw = {
        index: expect(subject, [replace(essay, prompt_id=prompt_id, prompt_index=index)])[essay.essay_id]
        for index, prompt_id in enumerate(PROMPT_IDS)
    }
    assert raw[0].raw_unit_score != raw[1].raw_unit_score
    assert raw[0].raw_unit_score != raw[0].unit_score, "calibration is applied"
    assert raw[0].num_tokens == 20


def test_a_bundle_is_extracted_once(subject: Subject) -> None:
    stamp = (subject.folder / "manifest.json").stat().st_mtime_ns
    again = find_subject("tiny", subject.bundle, None, subject.folder.parent)
    assert again.folder == subject.folder
    assert (again.folder / "manifest.json").stat().st_mtime_ns == stamp
    assert again.weights.parent == Path("out/models/tiny")


def test_fairmark_finds_the_bundle_in_a_store_of_its_own(subject: Subject, tmp_path: Path) -> None:
    variables = service_variables(subject, tmp_path, every_model=False)
    store = open_store(StoreSettings(url=variables["FAIRMARK_STORE__URL"]))
    assert list_champions(store) == ["tiny"]
    assert read_champion(store, "tiny").pointer.sha256 == subject.digest
    assert Path(variables["FAIRMARK_CONFIG"]).read_text() == ""
    assert variables["FAIRMARK_SERVICE__CACHE__STORE"] == "off"


def test_with_every_model_the_service_is_as_by_default(
    subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.speed.published.BUNDLE_FOLDER", tmp_path / "bundles")
    packaged = tmp_path / "bundles" / "lexical"
    packaged.mkdir(parents=True)
    bundle = Bundles(tmp_path / "made").lexical()
    bundle.rename(packaged / bundle.name)
    (tmp_path / "service").mkdir()
    variables = service_variables(subject, tmp_path / "service", every_model=True)
    assert list_champions(open_store(StoreSettings(url=variables["FAIRMARK_STORE__URL"]))) == ["lexical", "tiny"]
    assert not [name for name in variables if "CACHE" in name]


def test_every_model_is_more_than_one(subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.speed.published.BUNDLE_FOLDER", tmp_path / "bundles")
    with pytest.raises(StageFailed, match="no other models"):
        service_variables(subject, tmp_path, every_model=True)


def test_the_bare_loop_of_fairmarks_runtime_gives_the_reference_scores(bench: Bench) -> None:
    (loop,) = choose(["raw-fairmark"], "tiny")
    found = measure(loop, bench)
    assert found.void is None
    assert found.max_score_gap is not None
    assert found.max_score_gap < 1e-5
    assert found.precision == "fp32"
    assert found.same_grade_share == 1.0
    assert found.runtime
    assert [row["concurrency"] for row in found.closed] == [1]


@pytest.mark.slow
def test_the_service_is_started_asked_and_gives_the_reference_scores(bench: Bench) -> None:
    (fairmark,) = choose(["fairmark"], "tiny")
    found = measure(fairmark, bench)
    assert found.void is None
    assert found.max_score_gap is not None
    assert found.max_score_gap < 1e-5
    assert found.same_grade_share == 1.0
    assert found.first_start_s
    assert found.ready_s
    assert [row["num_errors"] for row in (*found.closed, *found.open)] == [0, 0, 0]
    assert found.closed[0]["pss_mb"] > 50
