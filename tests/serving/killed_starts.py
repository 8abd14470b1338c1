"""A program that starts filling a folder with models again and again, and kills itself with -9 where it is told.

Reads one JSON order a line: `{"kill_at_line": 312}` kills at the 312th line of our own code that runs, which is the
same place each time; `{"kill_after_s": 0.04}` whenever that is; neither runs to the end. Answers with one JSON line.
Each start is a fork, so that imports are paid once.
"""

import json
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from essays.settings import StoreSettings
from essays.signatures import trusted_key
from essays.store import Store, open_store
from serving.artifacts import acquire

# With the library that deletes folders file by file.
OURS = (*(str(Path(__file__).resolve().parents[2] / package) for package in ("essays", "serving")), shutil.__file__)


def main() -> None:
    """Until stdin ends."""
    # Made once, used by forks: it has no connection yet.
    store = open_store(StoreSettings.model_validate_json(os.environ["STORE_SETTINGS"]))
    for line in sys.stdin:
        order = json.loads(line)
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reader)
            _start(store, order, writer)
        os.close(writer)
        if order.get("kill_after_s") is not None:
            time.sleep(order["kill_after_s"])
            os.kill(child, signal.SIGKILL)
        with os.fdopen(reader) as file:
            said = file.read()
        _, status = os.waitpid(child, 0)
        sys.stdout.write(json.dumps({"code": os.waitstatus_to_exitcode(status), "said": said}) + "\n")
        sys.stdout.flush()


def _start(store: Store, order: dict[str, Any], writer: int) -> None:
    code = 1
    try:
        counter = _Counter(order.get("kill_at_line"))
        trusted = trusted_key(Path(order["trusted"])) if order.get("trusted") else None
        if order.get("kill_at_line") or order.get("count"):
            counter.begin()
        artifacts = acquire(store, order.get("models", []), Path(order["root"]), trusted=trusted)
        counter.end()
        said = {"lines": counter.lines, "digests": [artifact.digest for artifact in artifacts]}
        os.write(writer, json.dumps(said).encode())
        code = 0
    except Exception as error:  # noqa: BLE001 - said, not swallowed
        os.write(writer, repr(error).encode())
    finally:
        os._exit(code)


class _Counter:
    """Counts lines of our code, in every thread, and ends the process at the one that was asked for."""

    def __init__(self, kill_at: int | None) -> None:
        self.lines = 0
        self.kill_at = kill_at

    def begin(self) -> None:
        threading.settrace(self._trace)
        sys.settrace(self._trace)

    def end(self) -> None:
        sys.settrace(None)
        threading.settrace(None)  # type: ignore[arg-type]

    def _trace(self, frame: FrameType, event: str, _: Any) -> Callable[..., Any] | None:
        if not frame.f_code.co_filename.startswith(OURS):
            return None
        if event == "line":
            self.lines += 1
            if self.lines == self.kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
        return self._trace


if __name__ == "__main__":
    main()
