"""How far the work is: one line that changes on a terminal, else a line every few seconds, on standard error."""

import sys
import time

from essays.console import human_time


class Progress:
    """Of essays; `total` is None where nobody knows how many will come."""

    def __init__(self, total: int | None, every_s: float = 5.0) -> None:
        self.total = total
        self.done = self.failed = self.earlier = 0
        self._on_terminal = sys.stderr.isatty()
        self._every_s = 0.2 if self._on_terminal else every_s
        self._started = self._last = time.monotonic()

    def begin(self, done: int, failed: int) -> None:
        """Some were done by an earlier run: they do not count for the rate."""
        self.done = self.earlier = done
        self.failed = failed
        self._started = self._last = time.monotonic()

    def add(self, done: int, failed: int) -> None:
        """Some more are done."""
        self.done += done
        self.failed += failed
        if time.monotonic() - self._last >= self._every_s:
            self._last = time.monotonic()
            self._say(self.line())

    def line(self) -> str:
        """`1,200/10,000  212/s  41s left  3 without a score`."""
        parts = [f"{self.done:,}{'' if self.total is None else f'/{self.total:,}'}", f"{self.rate:.0f}/s"]
        if self.total is not None and self.rate:
            parts.append(f"{human_time((self.total - self.done) / self.rate)} left")
        if self.failed:
            parts.append(f"{self.failed:,} without a score")
        return "  ".join(parts)

    @property
    def rate(self) -> float:
        """Essays per second in this run."""
        return (self.done - self.earlier) / max(time.monotonic() - self._started, 1e-9)

    def end(self) -> None:
        """Leave the terminal's line free."""
        if self._on_terminal:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

    def _say(self, line: str) -> None:
        sys.stderr.write(f"\r{line}\x1b[K" if self._on_terminal else f"{line}\n")
        sys.stderr.flush()
