"""`make front` for real: nginx, two instances and a key by one command, and nothing left after Ctrl-C."""

import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from deploy.front import FOLDER, HOST, KEY_FILE
from essays.settings import StoreSettings
from essays.store import open_store
from tests.made_essays import made_essay
from tests.serving.processes import START_TIMEOUT_S, free_port

pytestmark = pytest.mark.slow

ESSAY = made_essay(1)
GOOD = {"essay": ESSAY, "prompt_id": "ellipse-overall"}


def two_free_ports() -> int:
    """The first of two free ones in a row."""
    while True:
        port = free_port()
        with socket.socket() as second:
            try:
                second.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return port


def test_one_command_serves_behind_nginx_and_leaves_nothing(bundles: Any, root: Path, tmp_path: Path) -> None:
    store = open_store(StoreSettings(url=(tmp_path / "store").as_uri()))
    bundles.publish(store, ["lexical"])
    https_port, log = free_port(), tmp_path / "log"
    command = ["-m", "deploy.up", "--no-pipeline", "--port", str(two_free_ports()), "--https-port", str(https_port)]
    environment = {
        **os.environ,
        "PYTHONPATH": str(root),
        "FAIRMARK_STORE__URL": store.url,
        "FAIRMARK_SERVICE__LANES": "1",
        "FAIRMARK_SERVICE__RUNTIME": "onnxruntime",
    }
    with log.open("wb") as out:
        up = subprocess.Popen(
            [sys.executable, *command], cwd=tmp_path, env=environment, stdout=out, stderr=out, start_new_session=True
        )
    try:
        deadline = time.monotonic() + START_TIMEOUT_S
        while "ready: open" not in log.read_text():
            assert up.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        tls = ssl.create_default_context(cafile=str(tmp_path / FOLDER / "certificate.pem"))
        key = (tmp_path / KEY_FILE).read_text().strip()
        with httpx.Client(base_url=f"https://{HOST}:{https_port}", verify=tls, timeout=30) as client:
            page = client.get("/")
            assert 'name="api_key"' in page.text
            assert page.headers["Strict-Transport-Security"] == "max-age=0"
            body = {**GOOD, "model": "lexical"}
            assert client.post("/score", json=body).status_code == 401
            scored = client.post("/score", json=body, headers={"Authorization": f"Bearer {key}"})
            assert scored.status_code == 200, scored.text
    finally:
        os.killpg(up.pid, signal.SIGINT)
        ended = up.wait(60)
    assert ended == 0, log.read_text()
    assert (tmp_path / KEY_FILE).stat().st_mode & 0o777 == 0o600
    assert key not in log.read_text()
    assert [each.cmdline() for each in psutil.process_iter(["cwd"]) if each.info["cwd"] == str(tmp_path)] == []
