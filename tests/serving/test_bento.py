"""`bentoml build`, and the Bento served from a folder of its own."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from essays.store import Store

pytestmark = pytest.mark.slow

ESSAY = (
    "I think a school should teach how to cook, because everybody eats and few of us can make a meal of our own. " * 2
)


CANARY = "zebracanarysecret-0123456789"
SECRETS = dict.fromkeys(
    ("AWS_SECRET_ACCESS_KEY", "FAIRMARK_STORE__SECRET_ACCESS_KEY", "FAIRMARK_SERVICE__CACHE__KEY", "AWS_SESSION_TOKEN"),
    CANARY,
)


@pytest.fixture(scope="module")
def bento(tmp_path_factory: pytest.TempPathFactory, root: Path) -> Path:
    """The folder of a Bento built from this checkout."""
    home = tmp_path_factory.mktemp("bentoml")
    build = [sys.executable, "-m", "bentoml", "build", "--output", "tag", str(root)]
    environment = {**os.environ, **SECRETS, "BENTOML_HOME": str(home)}
    ended = subprocess.run(build, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert CANARY not in ended.stdout + ended.stderr
    (built,) = [path for path in (home / "bentos" / "fairmark").iterdir() if path.is_dir()]
    return built


def test_a_bento_holds_the_code_that_serves_and_nothing_else(bento: Path, root: Path) -> None:
    source = bento / "src"
    assert {path.name for path in source.iterdir()} <= {"serving", "essays", "bentofile.yaml"}
    for package in ("serving", "essays"):
        written = {path.relative_to(root) for path in (root / package).rglob("*") if path.is_file()}
        wanted = {path for path in written if "__pycache__" not in path.parts}
        assert {path.relative_to(source) for path in (source / package).rglob("*") if path.is_file()} == wanted
    locked = (bento / "env" / "python" / "requirements.txt").read_text()
    assert "onnxruntime==" in locked
    assert "--hash=sha256:" in locked
    assert "torch" not in locked


@pytest.mark.row(53)
def test_no_secret_of_who_builds_a_bento_is_in_what_its_image_is_made_of(bento: Path) -> None:
    files = {path.relative_to(bento): path.read_bytes() for path in bento.rglob("*") if path.is_file()}
    assert Path("env/docker/Dockerfile") in files
    assert [str(path) for path, content in files.items() if CANARY.encode() in content] == []


@pytest.fixture
def address(bento: Path, file_store: Store, bundles: Any, tmp_path: Path) -> Iterator[str]:
    """The Bento served from an empty folder, which sees nothing of this checkout."""
    bundles.publish(file_store)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    serve = [sys.executable, "-P", "-m", "bentoml", "serve", str(bento), "--host", "127.0.0.1", "--port", str(port)]
    environment = {
        **{name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        "FAIRMARK_STORE__URL": file_store.url,
        "FAIRMARK_SERVICE__ARTIFACT_FOLDER": str(elsewhere / "models"),
        "FAIRMARK_SERVICE__LANES": "1",
    }
    log = (tmp_path / "log").open("wb")
    process = subprocess.Popen(serve, cwd=elsewhere, env=environment, stdout=log, stderr=log)
    yield f"http://127.0.0.1:{port}"
    process.terminate()
    process.wait(30)
    log.close()


def test_a_bento_served_elsewhere_scores_an_essay(address: str) -> None:
    with httpx.Client(base_url=address, timeout=10) as http:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                if http.get("/readyz").status_code == 200:
                    break
            except httpx.TransportError:
                pass
            time.sleep(0.1)
        answer = http.post("/score", json={"essay": ESSAY, "prompt_id": "asap-1"})
        assert answer.status_code == 200
        assert answer.json()["model"]["name"] == "ensemble"
        assert http.get("/").status_code == 200
        assert http.get("/docs/assets/swagger-ui.css").status_code == 200
