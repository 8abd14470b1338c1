"""Programs beside the service: each writes a log of its own, and is awaited at an address."""

import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from deploy.processes import running, wait_until_answers

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
        url, last_words = f"{self.address}{self.health_path}", f"see {self.log}"
        wait_until_answers(self.name, url, self.process.poll, timeout_s=timeout_s, last_words=last_words)


@contextmanager
def beside(
    name: str, command: Sequence[str], environment: Mapping[str, str], *, address: str, health_path: str, log: Path
) -> Iterator[Beside]:
    """The program while the block lasts."""
    with log.open("wb") as out, running(command, environment, output=out.fileno()) as process:
        yield Beside(name, process, address, health_path, log)
