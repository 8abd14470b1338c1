"""What holds for every test: no real account, no hub, no telemetry, and the project's root as the working folder."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
OURS = ("FAIRMARK_REQUIRE_CORPORA",)
QUIET = {
    "AWS_EC2_METADATA_DISABLED": "true",
    "BENTOML_DO_NOT_TRACK": "True",
    "DO_NOT_TRACK": "1",
    "DVC_NO_ANALYTICS": "1",
    "HF_HUB_OFFLINE": "1",
    "MPLBACKEND": "agg",
}


def pytest_configure(config: pytest.Config) -> None:
    """Before anything is imported: a developer's own stores and credentials are out of reach of the tests."""
    for name in list(os.environ):
        if name.startswith(("AWS_", "FAIRMARK_")) and name not in OURS:
            del os.environ[name]
    os.environ.update(QUIET)


@pytest.fixture(scope="session")
def root() -> Path:
    """The project's root."""
    return ROOT


@pytest.fixture(autouse=True)
def in_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands run from the project's root, wherever pytest was started."""
    monkeypatch.chdir(ROOT)
