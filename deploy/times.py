"""How long each step of `make up` took, the pipeline's stages one by one."""

import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from essays.console import human_time

TIMES_FILE = Path(".make/up-times.json")

_BEGINS = re.compile(r"Running stage '(?P<stage>[^']+)':")
_ENDS = re.compile(r"Updating lock file |Generating lock file |Stage '[^']+' (didn't change|is cached)")


class Times:
    """Seconds by step, in the order in which the steps began."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.seconds: dict[str, float] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time the block, also when it fails."""
        started = time.monotonic()
        self.seconds[name] = 0.0
        try:
            yield
        finally:
            self.seconds[name] = time.monotonic() - started

    @property
    def total_s(self) -> float:
        """From the first moment, with what came before it (`environment`) added."""
        return time.monotonic() - self.started + self.seconds.get("environment", 0.0)

    def table(self) -> str:
        """A line per step, and the total."""
        width = max(map(len, [*self.seconds, "total"]))
        rows = [*self.seconds.items(), ("total", self.total_s)]
        return "\n".join(f"  {name:<{width}}  {human_time(seconds):>7}" for name, seconds in rows)

    def write(self, path: Path = TIMES_FILE) -> None:
        """The same as JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        rounded = {name: round(seconds, 1) for name, seconds in self.seconds.items()}
        path.write_text(json.dumps({"seconds": rounded, "total_s": round(self.total_s, 1)}, indent=1) + "\n", "utf-8")


class StageClock:
    """Reads DVC's lines and times the stages that it runs."""

    def __init__(self, times: Times) -> None:
        self.times = times
        self._stage: str | None = None
        self._since = 0.0

    def line(self, text: str) -> None:
        """One line of `dvc repro`'s output."""
        if begun := _BEGINS.match(text):
            self.close()
            self._stage, self._since = begun["stage"], time.monotonic()
            self.times.seconds[self._stage] = 0.0
        elif _ENDS.match(text):
            self.close()

    def close(self) -> None:
        """The stage that runs, if any, is over."""
        if self._stage is not None:
            self.times.seconds[self._stage] = time.monotonic() - self._since
        self._stage = None
