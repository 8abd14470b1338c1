"""Fairmark as it is run: bundles in a store of its own in a folder, from which the service fetches them."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from benchmarks.speed.subject import Subject
from essays.bundle import read_bundle_manifest
from essays.errors import StageFailed
from essays.registry import move_champion, pointer_to, publish_bundle
from essays.settings import StoreSettings
from essays.store import open_store
from export.bundles import BUNDLE_FOLDER


def service_variables(subject: Subject, folder: Path, *, every_model: bool) -> dict[str, str]:
    """Publish into a fresh store below `folder`; the settings of a service that fetches from there.

    Raises StageFailed where every model is asked for and only one was packaged.
    """
    bundles = _every_bundle(subject) if every_model else [subject.bundle]
    store_folder, own = (folder / "store").absolute(), (folder / "served").absolute()
    for each in (store_folder, own):
        shutil.rmtree(each, ignore_errors=True)
    store = open_store(StoreSettings(url=f"file://{store_folder}"))
    for path in bundles:
        pointer = pointer_to(path, read_bundle_manifest(path))
        publish_bundle(store, path, pointer)
        move_champion(store, pointer, None)
    # Whatever this machine's fairmark.toml says is not what is measured.
    settings = folder / "fairmark.toml"
    settings.write_text("", "utf-8")
    return {
        "FAIRMARK_CONFIG": str(settings.absolute()),
        "FAIRMARK_STORE__URL": store.url,
        "FAIRMARK_SERVICE__ARTIFACT_FOLDER": str(own),
        # Every essay is scored: what a cache saves is another benchmark (benchmarks.cache). With all models the service
        # is as by default, since its memory counts; no score is taken from the cache there either (`no-store`).
        **({} if every_model else {"FAIRMARK_SERVICE__CACHE__STORE": "off"}),
    }


def _every_bundle(subject: Subject) -> Sequence[Path]:
    others = sorted(path for path in BUNDLE_FOLDER.glob("*/*.zip") if path.parent.name != subject.name)
    if not others:
        raise StageFailed(f"no other models in {BUNDLE_FOLDER}: package them first (dvc repro)")
    return [subject.bundle, *others]
