"""Bundles of this checkout as the service has them on its disk: verified and extracted."""

from collections.abc import Sequence
from pathlib import Path

from essays.bundle import verify_and_extract
from essays.manifest import describe_file
from serving.catalogue import LocalArtifact


def extracted(bundles: Sequence[Path], folder: Path) -> list[LocalArtifact]:
    """An artifact for each bundle, in a folder of its own below `folder`. Raises an ArtifactError."""
    artifacts = []
    for bundle in bundles:
        entry, staging = describe_file(bundle), folder / bundle.stem
        manifest = verify_and_extract(bundle, entry, staging)
        artifacts.append(LocalArtifact(manifest.name, manifest.version, entry.sha256, staging))
    return artifacts
