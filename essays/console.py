"""What every command does alike: results on stdout, one line per step on stderr, exit codes 0, 1, 2.

`run` turns a FairmarkError into its message and exit code 1; anything else keeps its traceback, since it is a bug.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path

from essays.errors import BadParams, FairmarkError

EXIT_DONE, EXIT_FAILED, EXIT_MISUSED = 0, 1, 2


def say(message: str) -> None:
    """One line of progress, on stderr, at once."""
    print(message, file=sys.stderr, flush=True)


def run(command: Callable[[], None]) -> None:
    """Run a command and leave with its exit code."""
    try:
        command()
    except BadParams as error:
        say(f"error: {error}")
        sys.exit(EXIT_MISUSED)
    except FairmarkError as error:
        say(f"error: {error}")
        sys.exit(EXIT_FAILED)
    except KeyboardInterrupt:
        say("stopped")
        sys.exit(130)


def wrote(path: Path, detail: str = "") -> None:
    """The closing line of a stage: what was written and how large it is."""
    say(f"wrote {path}  {human_size(size_of(path))}{'  ' + detail if detail else ''}")


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files below a folder."""
    return path.stat().st_size if path.is_file() else sum(p.stat().st_size for p in path.rglob("*") if p.is_file())


def human_size(size_bytes: float) -> str:
    """`4.1 MB`, in powers of 1000."""
    for unit in ("B", "kB", "MB"):
        if size_bytes < 1000:
            return f"{size_bytes:.0f} {unit}" if unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:.1f} GB"


def human_time(duration_s: float) -> str:
    """`45s`, `3m10s`, `1h02m`."""
    seconds = round(duration_s)
    if seconds < 60:
        return f"{seconds}s"
    if seconds < 3600:
        return f"{seconds // 60}m{seconds % 60:02d}s"
    return f"{seconds // 3600}h{seconds % 3600 // 60:02d}m"


class Progress:
    """Lines of progress for long work, at most one every `every_s` seconds, with rate and time left."""

    def __init__(self, what: str, total: int, every_s: float = 5.0) -> None:
        self.what, self.total, self.every_s = what, total, every_s
        self.started = self.last = time.monotonic()

    def update(self, done: int, detail: str = "") -> None:
        """Say where the work stands, unless it was said just now."""
        now = time.monotonic()
        if done < self.total and now - self.last < self.every_s:
            return
        self.last = now
        rate = done / max(now - self.started, 1e-9)
        left = human_time((self.total - done) / rate) if rate else "?"
        say(f"{self.what} {done}/{self.total}  {rate:.1f}/s  eta {left}{'  ' + detail if detail else ''}")
