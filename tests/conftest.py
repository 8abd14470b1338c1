"""What holds for every test: no real account, no hub, no telemetry, and the project's root as the working folder."""

import itertools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from deploy import local_s3

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytest_plugins = ("tests.reliability",)

ROOT = Path(__file__).resolve().parents[1]
OURS = ("FAIRMARK_REQUIRE_CORPORA",)
CHROMIUM = "/usr/bin/chromium"
# As root in a container, and without a word to anybody outside.
CHROMIUM_OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with a slow test come first: several processes share the files out, and the last should be a short one."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session")
def root() -> Path:
    """The project's root."""
    return ROOT


@pytest.fixture(scope="session")
def mirror() -> Path:
    """The folder of the real corpora; skips on a machine without one, unless FAIRMARK_REQUIRE_CORPORA is 1."""
    folder = Path(os.environ.get("ESSAYS_MIRROR") or ROOT.parent / "shared" / "corpora")
    if (folder / "ellipse").is_dir() and (folder / "asap-aes").is_dir():
        return folder
    reason = f"no corpora in {folder}; set ESSAYS_MIRROR to a folder that holds ellipse/ and asap-aes/"
    if os.environ.get("FAIRMARK_REQUIRE_CORPORA") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(autouse=True)
def in_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands run from the project's root, wherever pytest was started."""
    monkeypatch.chdir(ROOT)


@dataclass(frozen=True)
class S3Server:
    """A real object store on loopback, for the whole test run."""

    endpoint: str
    access_key: str
    secret_key: str = field(repr=False)
    make_bucket: Callable[[], str]
    """Makes an empty bucket and returns its name."""


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """SeaweedFS on free ports; ready in about four seconds, started only when a test asks for it."""
    folder = tmp_path_factory.mktemp("s3")
    server = local_s3.start(folder, usual_ports=False)
    client = server.client()
    numbers = itertools.count()

    def make_bucket() -> str:
        bucket = f"test-{next(numbers)}"
        client.create_bucket(Bucket=bucket)
        return bucket

    yield S3Server(server.endpoint, server.access_key, server.secret_key, make_bucket)
    client.close()
    local_s3.stop(folder, patience_s=0)


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    """Debian's Chromium, headless. While it is open, `asyncio.run` fails in this thread and no second one starts."""
    from playwright.sync_api import sync_playwright  # few tests need it

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_OPTIONS)
        yield opened
        opened.close()
