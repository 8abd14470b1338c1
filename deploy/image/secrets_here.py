"""The secrets of the machine that builds or checks an image, which none of its layers may hold, whatever their form."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

STATE = Path(".make")
LEAST_CHARACTERS = 12
"""Shorter values, such as `fairmark` for a user, stand in files for other reasons."""
_TELLING = re.compile(r"SECRET|PASSWORD|TOKEN|API_KEY|__KEY$|CREDENTIAL", re.I)


def secrets_here(environment: Mapping[str, str], state: Path = STATE) -> dict[str, bytes]:
    """Values by where they stand: the environment's, local S3's, nginx's API key, the key that signs models."""
    found = dict(_telling(environment.items()))
    if (dotenv := state / "s3/env").exists():
        lines = dotenv.read_text("utf-8").splitlines()
        found |= {f"{dotenv}: {name}": value for name, value in _telling(_assignments(lines))}
    for path in (state / "front/api-key", state / "signing/private.pem"):
        if path.exists():
            found[str(path)] = max(path.read_text("utf-8").splitlines(), key=len)
    return {name: value.encode() for name, value in found.items() if len(value) >= LEAST_CHARACTERS}


def _assignments(lines: Iterable[str]) -> Iterable[tuple[str, str]]:
    for line in lines:
        name, _, value = line.partition("=")
        yield name, value


def _telling(pairs: Iterable[tuple[str, str]]) -> Iterable[tuple[str, str]]:
    return ((name, value) for name, value in pairs if _TELLING.search(name))
