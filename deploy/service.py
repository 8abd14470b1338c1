"""The service as a program: how it is started, and when it may be asked."""

import http.client
import time
import urllib.request
from collections.abc import Callable

from deploy.processes import UpFailed
from essays.console import human_time, say

READY_TIMEOUT_S = 300.0
_NAME = "serving.service:EssayScoring"


def serve_command(host: str, port: int) -> list[str]:
    """One instance at this address."""
    return ["bentoml", "serve", _NAME, "--host", host, "--port", str(port)]


def wait_until_ready(address: str, ended: Callable[[], int | None], timeout_s: float = READY_TIMEOUT_S) -> None:
    """Return when `/readyz` answers 200, saying every five seconds that it does not yet.

    `ended` gives the service's exit code once it has one. Raises UpFailed.
    """
    started = said = time.monotonic()
    while not answers_ready(address, timeout_s=2):
        if (code := ended()) is not None:
            raise UpFailed(f"the service ended with code {code} before it was ready; its last words stand above")
        now = time.monotonic()
        if now - started > timeout_s:
            raise UpFailed(f"{address}/readyz is not ready after {human_time(timeout_s)}")
        if now - said >= 5:
            said = now
            say(f"service: not ready yet, {human_time(now - started)}")
        time.sleep(0.1)


def answers_ready(address: str, timeout_s: float) -> bool:
    """Whether `/readyz` answers 200 within this time."""
    try:
        with urllib.request.urlopen(f"{address}/readyz", timeout=timeout_s) as answer:  # noqa: S310 - our own address
            return bool(answer.status == http.HTTPStatus.OK)
    except (OSError, http.client.HTTPException):
        return False
