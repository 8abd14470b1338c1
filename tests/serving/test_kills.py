"""kill -9 at random instants of download, extraction, rename and deletion: every next start converges."""

import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from essays.bundle import read_bundle_manifest
from essays.manifest import GRAPH_FILE, MANIFEST_FILE
from essays.registry import find_champion, move_champion, pointer_to, publish_bundle
from essays.settings import StoreSettings
from essays.store import Store, open_store
from serving import local_copies
from serving.local_copies import is_whole

# Make download, extraction and deletion long enough to be met.
BALLAST_BYTES = 2_000_000
NUM_SMALL_FILES = 30
SHARED_MEMORY = Path("/dev/shm")


class Starts:
    """Starts of the program in `killed_starts.py`, on one folder."""

    def __init__(self, process: subprocess.Popen[str], root: Path) -> None:
        self.process = process
        self.root = root

    def start(self, **order: Any) -> dict[str, Any]:
        assert self.process.stdin
        assert self.process.stdout
        print(json.dumps({"root": str(self.root), **order}), file=self.process.stdin, flush=True)
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer

    def whole_start(self, **order: Any) -> dict[str, Any]:
        answer = self.start(**order)
        assert answer["code"] == 0, answer
        done: dict[str, Any] = json.loads(answer["said"])
        return done


@pytest.fixture
def settings(s3: Any) -> StoreSettings:
    return StoreSettings.model_validate(
        {
            "url": f"s3://{s3.make_bucket()}",
            "endpoint_url": s3.endpoint,
            "access_key_id": s3.access_key,
            "secret_access_key": s3.secret_key,
        }
    )


@pytest.fixture
def store(settings: StoreSettings) -> Store:
    return open_store(settings)


@pytest.fixture
def in_memory(tmp_path: Path) -> Iterator[Path]:
    """A folder where syncing costs nothing: what a killed process wrote is there either way."""
    if not SHARED_MEMORY.is_dir():
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=SHARED_MEMORY) as folder:
        yield Path(folder)


@pytest.fixture
def starts(settings: StoreSettings, in_memory: Path, root: Path) -> Iterator[Starts]:
    plain = {**settings.model_dump(mode="json"), "secret_access_key": settings.secret_access_key.get_secret_value()}
    process = subprocess.Popen(
        [sys.executable, str(root / "tests/serving/killed_starts.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={"PYTHONPATH": str(root), "STORE_SETTINGS": json.dumps(plain)},
    )
    yield Starts(process, in_memory / "models")
    assert process.stdin
    assert process.stdout
    process.stdin.close()
    process.wait(30)
    process.stdout.close()


@pytest.fixture(scope="module")
def versions(bundles: Any, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three versions of one model, with something to carry."""

    def ballast(version: int) -> Callable[[Path], None]:
        def add(folder: Path) -> None:
            (folder / "ballast").write_bytes(random.Random(version).randbytes(BALLAST_BYTES))
            for number in range(NUM_SMALL_FILES):
                (folder / f"small-{number}").write_text(f"{version} {number}")

        return add

    return [
        bundles.changed("tiny", ballast(version), tmp_path_factory.mktemp(f"version-{version}")) for version in range(3)
    ]


def promote(store: Store, path: Path) -> None:
    pointer = pointer_to(path, read_bundle_manifest(path))
    publish_bundle(store, path, pointer)
    move_champion(store, pointer, find_champion(store, "tiny"))


def phase(root: Path) -> str:
    """What a killed start was at, read off what it left."""
    staged = {path.name for path in (root / "staging").glob("*")} if root.exists() else set()
    zipped, aside = any(name.endswith(".zip") for name in staged), any(len(name) == 64 for name in staged)
    if any(name.startswith("discarded-") for name in staged):
        return "deletion"
    if zipped:
        return "extraction or rename" if aside else "download or zip deletion"
    return "elsewhere"


def models_in(root: Path) -> list[Path]:
    return [path for path in root.iterdir() if len(path.name) == 64] if root.exists() else []


@pytest.mark.row(11)
@pytest.mark.chaos
def test_after_kill_9_at_any_instant_the_next_start_converges(
    starts: Starts,
    store: Store,
    versions: list[Path],
    pytestconfig: pytest.Config,
    figure: Callable[[str], None],
) -> None:
    kills, seed = pytestconfig.getoption("--chaos-kills"), pytestconfig.getoption("--chaos-seed")
    draw, root, phases = random.Random(seed), starts.root, Counter[str]()
    promote(store, versions[0])
    began = time.monotonic()
    lines = starts.whole_start(count=True)["lines"]
    full_s = time.monotonic() - began
    hit, damaged = 0, set[Path]()
    while hit < kills:
        damaged |= set(_prepare(draw, store, versions, root))
        # By line of code every phase is met, short ones too; by time also what runs in libraries.
        at = {"kill_at_line": draw.randrange(1, lines)} if hit % 2 else {"kill_after_s": draw.uniform(0, full_s)}
        killed = starts.start(**at)
        assert killed["code"] in (-9, 0), killed
        if killed["code"] == 0:
            continue  # it had come to its end
        hit += 1
        phases[phase(root)] += 1
        half = [path for path in models_in(root) if not is_whole(path) and path not in damaged]
        assert half == [], f"a half model after kill {hit} ({at}, seed {seed})"
        done = starts.whole_start()
        assert all(is_whole(root / digest) for digest in done["digests"])
        # A model that is no longer served is looked at when it is served again.
        assert all(is_whole(path) for path in models_in(root) if path not in damaged)
        assert list(root.rglob("*.zip")) == []
        assert list((root / "staging").iterdir()) == []
    figure(f"{hit} kills (seed {seed}): {', '.join(f'{count} in {name}' for name, count in sorted(phases.items()))}")


def _prepare(draw: random.Random, store: Store, versions: list[Path], root: Path) -> list[Path]:
    """One of: an empty folder, another champion, a damaged model; what is damaged now."""
    kind = draw.choice(["empty", "other champion", "other champion", "damaged"])
    if kind == "empty":
        shutil.rmtree(root, ignore_errors=True)
    elif kind == "other champion":
        promote(store, draw.choice(versions))
    else:
        damaged = models_in(root)
        for path in damaged:
            draw.choice([path / GRAPH_FILE, path / MANIFEST_FILE]).write_bytes(b"damaged")
        return damaged
    return []


@pytest.mark.row(11)
def test_a_kill_at_the_same_line_leaves_the_same(starts: Starts, store: Store, versions: list[Path]) -> None:
    promote(store, versions[0])
    lines = starts.whole_start(count=True)["lines"]
    left = []
    for _ in range(2):
        shutil.rmtree(starts.root)
        assert starts.start(kill_at_line=lines * 2 // 3)["code"] == -9
        left.append(sorted(path.relative_to(starts.root) for path in starts.root.rglob("*")))
    assert left[0] == left[1]


def test_versions_that_nobody_serves_or_uses_any_more_go(starts: Starts, store: Store, versions: list[Path]) -> None:
    served = []
    for path in versions:
        promote(store, path)
        served += starts.whole_start()["digests"]
    # The one served now and the one before it, for a way back.
    assert {path.name for path in models_in(starts.root)} == set(served[1:])
    # A process that lives and uses one keeps it.
    local_copies.hold(starts.root, [served[1]])
    promote(store, versions[0])
    starts.whole_start()
    assert served[1] in {path.name for path in models_in(starts.root)}
