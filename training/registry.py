"""MLflow's model registry: which bundle came from which run, and which version is champion or challenger.

The object store decides what is served (`essays.store`); the registry only tells people about it.
"""

import zipfile
from pathlib import Path
from typing import Literal

from essays.manifest import CARD_FILE, Manifest, describe_file
from training.tracking import TrackedRun, Tracker

BUNDLE_VERSION_TAG, BUNDLE_DIGEST_TAG = "fairmark.bundle_version", "fairmark.bundle_sha256"
BUNDLES_FOLDER = "bundle"
Alias = Literal["champion", "challenger"]


def register_bundle(tracker: Tracker, run: TrackedRun, manifest: Manifest, bundle: Path) -> str:
    """Keep a bundle with the run that it came from, as a version of its model; the registry's number of that version.

    The card inside it describes the version. A bundle of the same digest is found again, not registered twice.
    """
    client, name, digest = tracker.client, registered_name(tracker, manifest.name), describe_file(bundle).sha256
    if known := _numbers(tracker, manifest.name, BUNDLE_DIGEST_TAG, digest):
        return known[0]
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name, description=f"{manifest.kind} of Fairmark")
    folder = f"{BUNDLES_FOLDER}/{manifest.version}"
    client.log_artifact(run.run_id, str(bundle), folder)
    version = client.create_model_version(
        name,
        f"{client.get_run(run.run_id).info.artifact_uri}/{folder}",
        run_id=run.run_id,
        tags={BUNDLE_VERSION_TAG: manifest.version, BUNDLE_DIGEST_TAG: digest, "git_commit": manifest.git_commit},
        description=_card(bundle),
    )
    run.set_tags({BUNDLE_VERSION_TAG: manifest.version, BUNDLE_DIGEST_TAG: digest})
    return str(version.version)


def set_alias(tracker: Tracker, model: str, alias: Alias, bundle_version: str) -> None:
    """Let an alias name the registered version of this bundle. Raises MlflowException when there is none."""
    from mlflow.exceptions import MlflowException

    numbers = _numbers(tracker, model, BUNDLE_VERSION_TAG, bundle_version)
    if not numbers:
        raise MlflowException(f"no registered version of {model} is the bundle {bundle_version}; register it first")
    tracker.client.set_registered_model_alias(registered_name(tracker, model), alias, numbers[0])


def registered_name(tracker: Tracker, model: str) -> str:
    """The model's name in the registry, which a server's experiments share: `fairmark-minilm`."""
    return f"{tracker.config.experiment}-{model}"


def _numbers(tracker: Tracker, model: str, tag: str, value: str) -> list[str]:
    """The registry's numbers of versions with this tag, the newest first."""
    found = tracker.client.search_model_versions(f"name = '{registered_name(tracker, model)}'")
    numbers = [int(version.version) for version in found if version.tags.get(tag) == value]
    return [str(number) for number in sorted(numbers, reverse=True)]


def _card(bundle: Path) -> str | None:
    with zipfile.ZipFile(bundle) as archive:
        return archive.read(CARD_FILE).decode() if CARD_FILE in archive.namelist() else None
