"""What must be in no layer of an image: keys, credentials, settings of a machine, essays, the repository's history.

A layer keeps what a later one deletes, so each is read by itself.
"""

import json
import re
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

MAX_READ_BYTES = 2_000_000
"""Larger files are libraries and graphs; a credential in one would not be found by its form, only by its value."""
_NAMES = re.compile(
    r"(^|/)(\.git|\.env|\.aws|\.ssh|\.netrc|\.pypirc|\.kaggle|fairmark\.toml|config\.local|id_rsa|id_ed25519)(/|$)"
    r"|(^|/)(\.make|mlruns|data/raw|data/processed)/|(^|/)app/bento/src/(?!(essays|serving|requirements)(/|$)|bentofile\.yaml$)"
)
_CONTENTS = {
    "private key": re.compile(rb"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY-----\s+[A-Za-z0-9+/=]{16}"),
    "AWS key": re.compile(rb"(?<![A-Za-z0-9])(?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Za-z0-9])"),
    "AWS secret": re.compile(rb"aws_secret_access_key\s*[=:]\s*['\"]?[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+])", re.I),
    "GitHub token": re.compile(rb"(?<![A-Za-z0-9])gh[pousr]_[A-Za-z0-9]{36}(?![A-Za-z0-9])"),
    "address with a password": re.compile(
        rb"https?://[^\s/:@'\"<>{}$%]{3,}:[^\s/:@'\"<>{}$%*]{6,}@[a-z0-9.-]+\.[a-z]{2,}"
    ),
}
# Their makers' own: examples in documentation, keys of tests.
_KNOWN = re.compile(rb"EXAMPLE|example\.(?:com|org|net)|user(?:name)?:pass(?:word)?@", re.I)


@dataclass(frozen=True)
class Finding:
    """One file that an image must not hold."""

    layer: int
    path: str
    what: str


def scan(archive: Path, secrets: Mapping[str, bytes]) -> list[Finding]:
    """Everything wrong with an image as `docker save` writes it: its layers, and the configuration's environment.

    `secrets` are values, by name, that no byte of it may hold; findings name them and never show them.
    """
    with tarfile.open(archive) as image:
        (manifest,) = json.load(_member(image, "manifest.json"))
        config = json.load(_member(image, manifest["Config"]))
        configured = json.dumps(config).encode()
        found = [Finding(0, "configuration", what) for what in contents_found(configured, secrets)]
        for number, name in enumerate(manifest["Layers"], start=1):
            found += [Finding(number, path, what) for path, what in _layer(image, name, secrets)]
    return found


def contents_found(content: bytes, secrets: Mapping[str, bytes]) -> Iterator[str]:
    """The kinds of secret in a file, each once, and the names of those that are known by value."""
    if len(content) <= MAX_READ_BYTES:
        for what, pattern in _CONTENTS.items():
            if any(not _KNOWN.search(match.group()) for match in pattern.finditer(content)):
                yield what
    yield from (f"the value of {name}" for name, value in secrets.items() if value in content)


def name_is_wrong(path: str) -> bool:
    """Whether a file of this path has no business in an image."""
    return bool(_NAMES.search(path))


def _layer(image: tarfile.TarFile, name: str, secrets: Mapping[str, bytes]) -> Iterator[tuple[str, str]]:
    with tarfile.open(fileobj=_member(image, name)) as layer:
        for member in layer:
            if name_is_wrong(member.name):
                yield member.name, "a name that belongs to no image"
            if member.isfile() and (file := layer.extractfile(member)):
                yield from ((member.name, what) for what in contents_found(file.read(), secrets))


def _member(image: tarfile.TarFile, name: str) -> IO[bytes]:
    file = image.extractfile(name)
    assert file is not None
    return file
