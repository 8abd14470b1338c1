"""`make image-check`: no secret in a layer, not root, ready by its own entry point, and an essay gets a score.

Models come from the store that settings name, else from this checkout's local S3, where `make up` published them.
"""

import argparse
import json
import os
import tempfile
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from deploy.image.engine import Docker, Engine, ImageFailed, find_engine
from deploy.image.layers import scan
from deploy.image.secrets_here import secrets_here
from deploy.service import wait_until_ready
from deploy.times import Times
from deploy.up import object_store, require_free
from essays.console import human_size, run, say

PORT = 3000
ESSAY = (
    "Our town should keep the library open on Sundays, because that is when families have time. My sister learned to"
    " read there on rainy weekends, and she was not the only one. Some people say that it costs too much. However, two"
    " more hours a week cost less than one street lamp, and they help everybody."
)


def main() -> None:
    """Scan, start, ask, stop."""
    parser = argparse.ArgumentParser(prog="python -m deploy.image.check", description="Check a built image.")
    parser.add_argument("--tag", default="fairmark:cpu", help="name of the image (default: %(default)s)")
    parser.add_argument("--layers-only", action="store_true", help="only look for secrets in its layers")
    options = parser.parse_args()
    run(lambda: say(check_layers(find_engine(), options.tag)) if options.layers_only else check(options.tag))


def check(tag: str) -> None:
    """All of it. Raises ImageFailed with what does not hold."""
    engine = find_engine()
    say(check_layers(engine, tag))
    require_free(PORT)
    times = Times()
    with object_store(times, keep=True) as environment:
        wanted = {name: value for name, value in environment.items() if name.startswith(("AWS_", "FAIRMARK_STORE__"))}
        with engine.running(tag, wanted) as process:
            with times.step("ready"):
                wait_until_ready(f"http://127.0.0.1:{PORT}", process.poll)
            require_no_root(engine, process.pid)
            answer = ask()
    say(times.table())
    say(f"{tag}: {answer['score']:g} on {answer['score_range']['low']:g} to {answer['score_range']['high']:g}")


def check_layers(engine: Engine, tag: str) -> str:
    """What was looked at, in words. Raises ImageFailed naming each file that no layer may hold."""
    secrets = secrets_here(os.environ)
    with tempfile.TemporaryDirectory() as scratch:
        archive = Path(scratch) / "image.tar"
        engine.save(tag, archive)
        require_clean(archive, secrets)
        size = human_size(archive.stat().st_size)
    return f"{tag}: {size}, no secret in any layer, nor any of the {len(secrets)} that are known here"


def require_clean(archive: Path, secrets: Mapping[str, bytes]) -> None:
    """Raises ImageFailed naming each file of a saved image that no layer may hold, and never showing a secret."""
    if found := scan(archive, secrets):
        raise ImageFailed("\n".join(f"layer {each.layer}: {each.path}: {each.what}" for each in found))


def require_no_root(engine: Engine, pid: int) -> None:
    """Raises ImageFailed where the service runs as root, or cannot be seen to run as another."""
    if isinstance(engine, Docker):
        say("runs as a child of Docker's daemon: as whom is not seen from here")
        return
    service = [
        child for child in psutil.Process(pid).children(recursive=True) if "bentoml" in " ".join(child.cmdline())
    ]
    served_by = {child.uids().effective for child in service if Path(child.exe()).name.startswith("python")}
    if not served_by:
        raise ImageFailed("no process of the service is below the engine's: as whom it runs cannot be told")
    if 0 in served_by:
        raise ImageFailed("the service runs as root inside the image")
    say(f"runs as user {', '.join(map(str, sorted(served_by)))}")


def ask() -> Mapping[str, Any]:
    """The score of our essay on the first prompt that is served; as advice, since it may be off that prompt's topic."""
    prompt_id = _json(urllib.request.Request(f"http://127.0.0.1:{PORT}/prompts"))["prompts"][0]["prompt_id"]
    body = json.dumps({"essay": ESSAY, "prompt_id": prompt_id, "advisory": True}).encode()
    headers = {"content-type": "application/json"}
    return _json(urllib.request.Request(f"http://127.0.0.1:{PORT}/score", body, headers))


def _json(request: urllib.request.Request) -> Mapping[str, Any]:
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - our own address
            return json.load(answer)
    except urllib.error.HTTPError as error:
        raise ImageFailed(f"{request.full_url} answers {error.code}: {error.read(500).decode()}") from error


if __name__ == "__main__":
    main()
