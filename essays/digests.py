"""The one way in which files are named by their content."""

import hashlib
from pathlib import Path


def sha256_of(path: Path) -> str:
    """Hex digest of a file's bytes, read piece by piece."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
