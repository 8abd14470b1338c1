"""The service's own parts on published bundles, without HTTP, with graphs that remember what they were asked.

The replay asks for the same essays under several models and caches; a graph's answer does not depend on that.
"""

import shutil
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from essays.bundle import verify_and_extract
from essays.encoding import Arrays
from essays.errors import StageFailed
from essays.manifest import MANIFEST_FILE, describe_file, read_manifest
from essays.outputs import Outputs
from essays.settings import load_settings
from essays.store import open_store
from serving.artifacts import acquire
from serving.cache.keys import Keyring
from serving.catalogue import LocalArtifact
from serving.config import ServiceSettings, ServingSettings
from serving.desk import Desk
from serving.pools import OWN_LANE_KINDS


def find_artifacts(bundles: Path, folder: Path) -> list[LocalArtifact]:
    """The bundles below a folder, extracted; where there are none, the store's champions."""
    paths = sorted(bundles.glob("*/*.zip"))
    if not paths:
        settings = load_settings(ServingSettings)
        return acquire(open_store(settings.store), settings.service.models, settings.service.artifact_folder)
    artifacts = []
    for path in paths:
        entry = describe_file(path)
        target = folder / entry.sha256
        shutil.rmtree(target, ignore_errors=True)
        manifest = verify_and_extract(path, entry, target)
        artifacts.append(LocalArtifact(manifest.name, manifest.version, entry.sha256, target))
    return artifacts


def without_decoders(artifacts: list[LocalArtifact]) -> list[LocalArtifact]:
    """What takes milliseconds for an essay, not seconds: no decoder, and no ensemble that one is a member of."""
    manifests = [read_manifest(artifact.folder / MANIFEST_FILE) for artifact in artifacts]
    slow = {manifest.name for manifest in manifests if manifest.kind in OWN_LANE_KINDS}
    return [
        artifact
        for artifact, manifest in zip(artifacts, manifests, strict=True)
        if slow.isdisjoint({manifest.name, *(member.name for member in manifest.members)})
    ]


def open_desk(artifacts: list[LocalArtifact], *, remembers: bool, lanes: int = 1, **cache: Any) -> Desk:
    """A service. Raises StageFailed when its cache does not work."""
    settings = {"lanes": lanes, "timeout_s": 60.0, "cache": {"near": "on", **cache}}
    desk = Desk(ServiceSettings.model_validate(settings))
    desk.open(artifacts, lambda _: None)
    scorer = desk.scorer()
    if scorer.cache is not None and scorer.cache.store is None:
        raise StageFailed(f"the cache does not work: {scorer.cache.fault}")
    if remembers:
        known: defaultdict[str, dict[bytes, Outputs]] = defaultdict(dict)
        for lane in scorer.pool.lanes:
            sessions: Any = lane.sessions
            for name, session in dict(sessions).items():
                sessions[name] = Remembering(session, known[name])
    return desk


class Remembering:
    """A session that runs each input once, on whatever lane."""

    def __init__(self, session: Any, known: dict[bytes, Outputs]) -> None:
        self._session = session
        self._known = known
        self._keyring = Keyring(b"of this process alone")

    @property
    def runtime(self) -> str:
        """The session's own."""
        return self._session.runtime

    def outputs(self, arrays: Arrays) -> Outputs:
        """The session's answer."""
        key = self._keyring.input_key(arrays)
        if key not in self._known:
            self._known[key] = self._session.outputs(arrays)
        return self._known[key]


def digests(desk: Desk) -> Mapping[str, str]:
    """Of every served model."""
    return {name: model.artifact.digest for name, model in desk.catalogue().models.items()}
