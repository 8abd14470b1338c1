"""The service as a program: how it is started, and when it may be asked."""

from collections.abc import Callable

from deploy.processes import answers, wait_until_answers

READY_TIMEOUT_S = 300.0
_NAME = "serving.service:EssayScoring"


def serve_command(host: str, port: int) -> list[str]:
    """One instance at this address."""
    return ["bentoml", "serve", _NAME, "--host", host, "--port", str(port)]


def wait_until_ready(address: str, ended: Callable[[], int | None], timeout_s: float = READY_TIMEOUT_S) -> None:
    """Return when `/readyz` answers 200. `ended` gives the service's exit code once it has one. Raises UpFailed."""
    last_words = "its last words stand above"
    wait_until_answers("service", f"{address}/readyz", ended, timeout_s=timeout_s, last_words=last_words)


def answers_ready(address: str, timeout_s: float) -> bool:
    """Whether `/readyz` answers 200 within this time."""
    return answers(f"{address}/readyz", timeout_s)
