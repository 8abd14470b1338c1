"""The stage publish as a command, with real bundles, a real store and a real MLflow."""

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import yaml

from essays.bundle import read_bundle_manifest
from essays.ensemble import EnsembleWeights, PromptWeights
from essays.errors import WarmUpFailed
from essays.manifest import CorpusSource, PromptMetrics
from essays.registry import list_champions, read_champion
from essays.settings import StoreSettings
from essays.signatures import make_key_pair, trusted_key
from essays.store import Store, open_store
from export.artifact import Facts, open_member, package_ensemble, package_model
from export.bundles import find_bundle
from export.config import ExportConfig
from pipelines.publish import check
from serving.artifacts import acquire
from training.behaviours import ROBUSTNESS_FILE, Behaviour, write_behaviours

PROMPT_IDS = ("asap-1", "ellipse-overall")
NAMES = ("lexical", "lstm", "ensemble")
Packager = Callable[..., None]


@dataclass
class Project:
    """A folder with what the stage reads, and the bucket that it writes."""

    folder: Path
    environment: dict[str, str]
    store: Store

    def publish(self, *options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-W", "error::ResourceWarning", "-m", "pipelines.publish", *options],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
        )

    def champions(self) -> dict[str, str]:
        return {name: read_champion(self.store, name).pointer.version for name in list_champions(self.store)}

    def packaged(self) -> dict[str, str]:
        bundles = self.folder.glob("out/bundles/*/*.zip")
        return {manifest.name: manifest.version for manifest in map(read_bundle_manifest, bundles)}


@pytest.fixture(scope="module")
def package(exports: dict[str, Path], calibration_file: Path, export_config: ExportConfig) -> Packager:
    """Packages two models and their ensemble, whose test essays came out at some QWK."""

    def package(bundles: Path, qwk: float = 0.7) -> None:
        members = [
            open_member(
                package_model(facts(name, qwk), exports[name], calibration_file, bundles / name),
                exports[name],
                calibration_file,
            )
            for name in ("lexical", "lstm")
        ]
        weights = mixing(0.25)
        package_ensemble(
            facts("ensemble", qwk), weights, calibration_file, members, bundles / "ensemble", export_config
        )

    return package


def facts(name: str, qwk: float = 0.7) -> Facts:
    metrics = tuple(
        PromptMetrics(prompt_id=prompt_id, num_essays=300, qwk=qwk, qwk_interval=(qwk - 0.1, qwk + 0.1))
        for prompt_id in PROMPT_IDS
    )
    return Facts(name, metrics, (CorpusSource(name="ours", licence="none"),), "commit", "digest")


def mixing(lexical: float) -> EnsembleWeights:
    weights = {"lexical": lexical, "lstm": 1 - lexical}
    return EnsembleWeights(prompts=tuple(PromptWeights(prompt_id=name, weights=weights) for name in PROMPT_IDS))


@pytest.fixture
def project(root: Path, tmp_path: Path, package: Packager, s3) -> Project:
    params = yaml.safe_load((root / "params.yaml").read_text())
    params["models"] = ["lexical", "lstm"]
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    package(tmp_path / "out/bundles")
    held = [Behaviour("lexical", "song inserted: no rise", "≥ 0.95", 1.0, held=True)]
    write_behaviours(held, tmp_path / ROBUSTNESS_FILE)
    settings = StoreSettings(
        url=f"s3://{s3.make_bucket()}",
        endpoint_url=s3.endpoint,
        access_key_id=s3.access_key,
        secret_access_key=s3.secret_key,
    )
    environment = {
        **os.environ,
        "PYTHONPATH": str(root),
        "FAIRMARK_STORE__URL": settings.url,
        "FAIRMARK_STORE__ENDPOINT_URL": s3.endpoint,
        "FAIRMARK_STORE__ACCESS_KEY_ID": s3.access_key,
        "FAIRMARK_STORE__SECRET_ACCESS_KEY": s3.secret_key,
    }
    return Project(tmp_path, environment, open_store(settings))


def test_a_first_publication_makes_every_bundle_a_champion_and_the_next_sends_nothing(project: Project):
    first = project.publish()
    assert first.returncode == 0, first.stderr
    assert project.champions() == project.packaged()
    published = json.loads((project.folder / "out/published.json").read_text())
    assert [champion["name"] for champion in published["champions"]] == list(NAMES)
    # Bundles can be published without the essays and runs behind them; MLflow then has nothing to record.
    assert "tracking: not recorded" in first.stderr

    again = project.publish()
    assert again.returncode == 0, again.stderr
    assert again.stderr.count("is there already") == 3
    assert "champion:" not in again.stderr

    ensured = project.publish("--ensure")
    assert ensured.returncode == 0
    assert "nothing to do" in ensured.stderr
    for secret in (first.stderr, again.stderr, ensured.stderr):
        assert project.environment["FAIRMARK_STORE__SECRET_ACCESS_KEY"] not in secret


@pytest.mark.row(6)
def test_with_a_key_ensure_signs_what_was_published_without_one(project: Project, tmp_path: Path):
    assert "unsigned: " in project.publish().stderr
    make_key_pair(tmp_path / "key.pem", tmp_path / "key.pub")
    project.environment["FAIRMARK_SIGNING__PRIVATE_KEY_FILE"] = str(tmp_path / "key.pem")
    done = project.publish("--ensure")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count(".zip.sig  signed") == 3
    assert len(acquire(project.store, [], tmp_path / "models", trusted=trusted_key(tmp_path / "key.pub"))) == 3


def test_ensure_publishes_what_a_new_bucket_lacks(project: Project):
    done = project.publish("--ensure")
    assert done.returncode == 0, done.stderr
    assert project.champions() == project.packaged()


def test_worse_versions_stay_challengers_until_somebody_says_why(project: Project, package: Packager):
    project.publish()
    before = project.champions()
    package(project.folder / "out/bundles", qwk=0.6)
    refused = project.publish()
    assert refused.returncode == 1
    assert "lexical: QWK on asap-1 is 0.600, the champion's 0.700" in refused.stderr
    assert "--override" in refused.stderr
    assert project.champions() == before
    assert project.store.exists(f"models/lstm/{project.packaged()['lstm']}.zip")

    forced = project.publish("--override", "the test part was drawn anew")
    assert forced.returncode == 0, forced.stderr
    assert project.champions() == project.packaged() != before
    assert read_champion(project.store, "lstm").pointer.override == "the test part was drawn anew"


def test_a_set_whose_golden_essays_come_out_otherwise_is_not_published(
    project: Project, exports: dict[str, Path], calibration_file: Path, export_config: ExportConfig
):
    bundles = {name: find_bundle(name, project.folder / "out/bundles") for name in NAMES}
    assert [manifest.name for manifest in check([*bundles.values()])] == list(NAMES)

    # Golden scores made with the members' graphs in each other's place.
    members = [open_member(bundles[name], exports[name], calibration_file) for name in ("lexical", "lstm")]
    swapped = [replace(member, scorer=other.scorer) for member, other in zip(members, reversed(members), strict=True)]
    wrong = project.folder / "out/bundles/ensemble"
    package_ensemble(facts("ensemble"), mixing(1.0), calibration_file, swapped, wrong, export_config)
    with pytest.raises(WarmUpFailed, match="ensemble@"):
        check([bundles["lexical"], bundles["lstm"], find_bundle("ensemble", wrong.parent)])


@pytest.mark.slow
def test_publication_is_registered_in_mlflow_with_the_champion_alias(project: Project):
    data = project.folder / "data/processed"
    data.mkdir(parents=True)
    for name in ("essays.parquet", "folds.parquet"):
        (data / name).write_bytes(b"only its digest is read")
    for model in ("lexical", "lstm"):
        history = project.folder / f"out/scores/{model}/fold-0/history.json"
        history.parent.mkdir(parents=True)
        history.write_text(json.dumps([{"epoch": 1, "loss": 0.1, "dev_qwk": 0.6, "learning_rate": 0.01}]))
    project.environment["MLFLOW_TRACKING_URI"] = f"sqlite:///{project.folder / 'mlflow.db'}"
    done = project.publish()
    assert done.returncode == 0, done.stderr
    assert "tracking:" not in done.stderr
    asked = """
        select alias.name, tag.value from registered_model_aliases alias join model_version_tags tag
        on tag.name = alias.name and tag.version = alias.version
        where alias.alias = 'champion' and tag.key = 'fairmark.bundle_version'
    """
    with closing(sqlite3.connect(project.folder / "mlflow.db")) as database:
        registered = dict(database.execute(asked).fetchall())
    assert registered == {f"fairmark-{name}": version for name, version in project.packaged().items()}


def test_a_store_that_is_down_is_an_error_in_one_line(project: Project):
    project.environment["FAIRMARK_STORE__ENDPOINT_URL"] = "http://127.0.0.1:9"
    project.environment["FAIRMARK_STORE__MAX_ATTEMPTS"] = "1"
    done = project.publish("--ensure")
    assert done.returncode == 1
    assert done.stderr.startswith("error: s3://")
    assert "http://127.0.0.1:9: nobody answers" in done.stderr
    assert done.stderr.count("\n") == 1
