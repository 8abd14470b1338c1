"""Programs beside the service: each writes a log of its own, and is awaited at an address."""

import http.client
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from deploy.processes import UpFailed, running
from essays.console import human_time, say

START_TIMEOUT_S = 180.0


@dataclass(frozen=True)
class Beside:
    """A program that runs."""

    name: str
    process: subprocess.Popen[bytes]
    address: str
    health_path: str
    log: Path

    def wait_until_ready(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Return when its health check answers 200. Raises UpFailed naming its log."""
        started = said = time.monotonic()
        while not self._answers():
            now = time.monotonic()
            if (code := self.process.poll()) is not None:
                raise UpFailed(f"{self.name} ended with code {code} before it was ready; see {self.log}")
            if now - started > timeout_s:
                raise UpFailed(f"{self.name} does not answer at {self.address}; see {self.log}")
            if now - said >= 5:
                said = now
                say(f"{self.name}: not ready yet, {human_time(now - started)}")
            time.sleep(0.1)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.address}{self.health_path}", timeout=2) as answer:  # noqa: S310 - ours
                return bool(answer.status == http.HTTPStatus.OK)
        except (OSError, http.client.HTTPException):
            return False


@contextmanager
def beside(
    name: str, command: Sequence[str], environment: Mapping[str, str], *, address: str, health_path: str, log: Path
) -> Iterator[Beside]:
    """The program while the block lasts."""
    with log.open("wb") as out, running(command, environment, output=out.fileno()) as process:
        yield Beside(name, process, address, health_path, log)
