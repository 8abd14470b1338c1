"""What must stay where it was sent: unique strings as essays, keys and secrets, searched for in all that is written."""

import base64
import hashlib
import json
import os
import resource
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.serving.processes import Service, environment_for, serving, store_at
from tests.serving.traffic import head_for, wait_until

pytestmark = pytest.mark.slow

ESSAY_CANARY = "zebracanaryessay"
HEADER_CANARY = "zebracanaryheader"
TOKEN_CANARY = "zebracanarytoken-0123456789"
KEY_CANARY = "zebracanarycachekey-0123456789"
# The graph fails on the one and gives no number for the other; the model knows both, so both may be found.
RAISES, NO_NUMBER = "zyzzyva", "quagga"
ESSAY = (
    f"My school is small, and I like it. Our {ESSAY_CANARY} knows every pupil by name, so when somebody is sad they see"
    " it. However we have no laboratory, and I want to learn chemistry. People say a big school has more to offer."
)
GOOD = {"essay": ESSAY, "prompt_id": "ellipse-overall", "model": "tiny"}
WRONG = [
    {**GOOD, "prompt_id": "nowhere"},
    {**GOOD, "essay": [ESSAY]},
    {**GOOD, "essay": {ESSAY: 1}},
    {**GOOD, ESSAY[:60]: 1},
    {**GOOD, "essay": ESSAY * 400},
    {**GOOD, "essay": ESSAY * 5_000},
    {**GOOD, "essay": f"{ESSAY_CANARY} {ESSAY_CANARY}"},
    {**GOOD, "essay": f"{ESSAY}\ud800"},
    [ESSAY],
    ESSAY,
]
BROKEN = [{**GOOD, "essay": f"{ESSAY} {word}"} for word in (RAISES, NO_NUMBER)]
SENT = {"Authorization": f"Bearer {HEADER_CANARY}", "X-API-Key": HEADER_CANARY, "Cookie": f"session={HEADER_CANARY}"}
SECRETS = [ESSAY_CANARY, HEADER_CANARY, TOKEN_CANARY, KEY_CANARY]
NOT_OURS = {".git", ".venv", ".mypy_cache", ".ruff_cache", ".pytest_cache", "__pycache__", "tests", "node_modules"}


def answers_to_everything(service: Service) -> Iterator[httpx.Response]:
    """Every path, with what is right and what is wrong; the answers that must not quote it."""
    http = service.http
    for body in (GOOD, GOOD, *WRONG, *BROKEN):
        content = json.dumps(body)
        headers = {**SENT, "Content-Type": "application/json"}
        for path in ("/score", "/compare", "/explain", "/score_batch"):
            whole = content if path != "/score_batch" else json.dumps({"essays": [body]})
            yield http.post(path, content=whole, headers=headers, params={"essay": ESSAY_CANARY})
        yield http.post("/score", content=content[:-2], headers=headers)
        yield http.post("/score", content=content, headers={**SENT, "Content-Type": "text/plain"})
    yield http.post("/score", content=ESSAY.encode("utf-16"), headers={"Content-Type": "application/json"})
    for headers in (SENT, {"Authorization": f"Bearer {TOKEN_CANARY}"}, {"Authorization": TOKEN_CANARY[:-1]}):
        yield http.post("/cache/purge", json={"essay": ESSAY}, headers=headers)
    for path in (
        "/livez",
        "/readyz",
        "/metrics",
        "/status",
        "/models",
        "/prompts",
        "/drift",
        "/drift/report",
        "/docs",
        "/docs.json",
        "/nowhere",
    ):
        yield http.get(path, headers=SENT, params={"essay": ESSAY_CANARY})
        yield http.delete(path, headers=SENT)


def leave_in_the_middle(service: Service) -> None:
    """Clients that go away before their body's end, and before their answer."""
    content = json.dumps({**GOOD, "essay": f"{ESSAY} Left."}).encode()
    for sent in (content[:-20], content):
        with socket.create_connection(("127.0.0.1", service.port)) as client:
            client.sendall(head_for(content) + sent)
            time.sleep(0.2)


def crash(service: Service) -> None:
    """The worker gets a segmentation fault while it has an essay in hand, and another takes its place."""
    content = json.dumps(GOOD).encode()
    worker = max(psutil.Process(service.process.pid).children(), key=lambda each: each.memory_info().rss)
    for process in (worker, psutil.Process(service.process.pid)):
        assert process.rlimit(resource.RLIMIT_CORE) == (0, 0)
    with socket.create_connection(("127.0.0.1", service.port)) as client:
        client.sendall(head_for(content) + content[:-1])
        time.sleep(0.5)
        worker.send_signal(signal.SIGSEGV)
        worker.wait(20)
    service.wait_until_ready()


def files_written(folders: list[Path], since: float) -> Iterator[Path]:
    for folder in folders:
        for path, subfolders, names in os.walk(folder):
            subfolders[:] = [name for name in subfolders if name not in NOT_OURS]
            for name in names:
                file = Path(path) / name
                if file.is_file() and not file.is_symlink() and file.stat().st_mtime >= since:
                    yield file


def hits(files: list[Path], secrets: list[str]) -> set[Path]:
    """Files that hold one of these as it is, in base64, in hexadecimal or in UTF-16."""
    needles = [
        form
        for secret in secrets
        for form in (
            secret.encode(),
            base64.b64encode(secret.encode())[:-4],
            secret.encode().hex().encode(),
            secret.encode("utf-16-le"),
        )
    ]
    return {file for file in files if any(needle in file.read_bytes() for needle in needles)}


@pytest.mark.row(52, 53)
def test_no_canary_is_found_in_anything_that_was_written(
    s3: Any, bundles: Any, tmp_path: Path, root: Path, figure: Callable[[str], None]
) -> None:
    started = time.time() - 1
    bucket = s3.make_bucket()
    made = type(bundles)(tmp_path.parent / f"{tmp_path.name}-bundles")
    made.publish_paths(store_at(s3, bucket), [made.poisoned(RAISES, NO_NUMBER)])
    for name in ("temporary", "home"):
        (tmp_path / name).mkdir()
    digest = hashlib.sha256(TOKEN_CANARY.encode()).hexdigest()
    environment = {
        **environment_for(s3, bucket, tmp_path),
        "FAIRMARK_SERVICE__RUNTIME": "onnxruntime",
        "FAIRMARK_SERVICE__CACHE__KEY": KEY_CANARY,
        "FAIRMARK_SERVICE__CACHE__NEAR": "on",
        "FAIRMARK_SERVICE__ACCESS__KEYS": json.dumps([{"name": "operator", "sha256": digest, "scopes": ["admin"]}]),
        "TMPDIR": str(tmp_path / "temporary"),
        "HOME": str(tmp_path / "home"),
    }
    secrets = [*SECRETS, s3.secret_key]
    with serving(tmp_path, environment) as service:
        service.wait_until_ready()
        answers = list(answers_to_everything(service))
        page = service.http.post("/", data={**GOOD, "essay": f"{ESSAY} {RAISES}"}, headers=SENT)
        leave_in_the_middle(service)
        wait_until(lambda: any((tmp_path / "cache").glob("*.db")), 30, lambda: "no cache was written")
        crash(service)
        answers += answers_to_everything(service)
        log = service.log
    statuses = {answer.status_code for answer in answers}
    assert statuses >= {200, 400, 401, 404, 405, 413, 415, 422, 500}
    assert page.status_code == 500
    assert HEADER_CANARY not in page.text
    for answer in answers:
        if answer.is_success and answer.url.path == "/explain":
            assert ESSAY_CANARY in answer.text  # the caller's own sentences, to the caller
            continue
        assert [secret for secret in secrets if secret in answer.text] == []
        assert [secret for secret in secrets if secret in str(answer.headers)] == []
    assert "mistake while answering /score" in log
    # A library that logs by itself would print what its node was given.
    assert "onnxruntime:" not in log
    files = [*files_written([tmp_path, root], started)]
    assert hits(files, secrets) == set()
    # The search finds what is there: a log holds the model's name, and this file the canary.
    planted = tmp_path / "planted"
    planted.write_bytes(b"x" * 5_000 + base64.b64encode(b"..." + ESSAY_CANARY.encode()))
    assert service.log_path in hits(files, ["tiny"])
    assert hits([*files, planted], [f"...{ESSAY_CANARY}"]) == {planted}
    assert [path for path in files if path.name.split(".")[0] == "core"] == []
    places = {file.relative_to(tmp_path).parts[0] for file in files if file.is_relative_to(tmp_path)}
    assert {"cache", "models"} <= places
    size = sum(file.stat().st_size for file in files)
    figure(
        f"{len(answers)} answers, {len(files)} files of {size / 1e6:.1f} MB in {', '.join(sorted(places))}: 0 hits of"
        f" {len(secrets)} strings"
    )
