"""Answers health checks in the parent process whenever no worker does: while models are fetched, a worker starts, ends.

BentoML opens its port only when the models are there, and a connection then waits for seconds until a worker takes it.
So the parent listens from the first moment. When BentoML's process manager (circus) wants to bind the same address, its
socket becomes that very listener, so that no connection is ever refused; the parent then goes on taking connections as
long as no worker holds the lock file, of which the kernel lets go when a worker is killed.
"""

import atexit
import fcntl
import os
import select
import shutil
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from circus.sockets import CircusSocket

from serving.errors import RETRY_AFTER_S, ErrorDetail, ErrorResponse, PortTaken
from serving.schemas import ModelState, ReadinessResponse

LOCK_VARIABLE = "FAIRMARK_FRONT"
_POLL_S = 0.05
_WORKER_POLL_S = 0.2
_REQUEST_S = 1.0
_MAX_HEAD_BYTES = 16_384
_MAX_OPEN = 64
"""Connections, answered eight at a time."""
_worker_locks: list[int] = []


class Board:
    """Where each model stands, as the front says it."""

    def __init__(self) -> None:
        self._states: dict[str, ModelState] = {}
        self._reason: str | None = "starting"

    def note(self, state: ModelState) -> None:
        """A model came further."""
        self._states[state.name] = state

    def wait_for(self, reason: str) -> None:
        """The service as a whole waits for something."""
        self._reason = reason

    def readiness(self) -> ReadinessResponse:
        """What `/readyz` says, always with 503."""
        return ReadinessResponse(ready=False, models=list(self._states.values()), reason=self._reason)


class Front:
    """One for a parent process; `address` is where the service listens."""

    def __init__(self, address: tuple[str, int]) -> None:
        """Listen from now on, in a thread. Raises PortTaken when the address cannot be listened at."""
        self.board = Board()
        self.folder = Path(tempfile.mkdtemp(prefix="fairmark-front-"))
        """For what this process and its workers tell each other."""
        self.lock_file = self.folder / "worker"
        self.lock_file.touch()
        atexit.register(self.clean_up)
        os.environ[LOCK_VARIABLE] = str(self.lock_file)
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        try:
            self._listener = socket.create_server(address, family=family, backlog=128)
        except OSError as error:
            raise PortTaken(f"{address[0]}:{address[1]}: {error.strerror}; choose another: --port") from error
        self._stopping = threading.Event()
        self._room = threading.BoundedSemaphore(_MAX_OPEN)
        threading.Thread(target=self._serve, name="front", daemon=True).start()

    def give_listener_to_circus(self, then: Callable[[], None]) -> None:
        """Let circus have our listener where it would bind the address; `then` is called at that moment."""
        listener, address = self._listener, self._listener.getsockname()[:2]

        def bind(own: CircusSocket, wanted: Any) -> None:
            if own.is_unix or tuple(wanted)[:2] != address:
                socket.socket.bind(own, wanted)
                return
            os.dup2(listener.fileno(), own.fileno())
            then()

        CircusSocket.bind = bind

    def wait_for_workers(self, models: Sequence[str]) -> None:
        """Say that all is there, but nobody who serves it yet."""
        for name in models:
            self.board.note(ModelState(name=name, state="waiting"))
        self.board.wait_for("a worker process starts")

    def stop(self) -> None:
        """The workers take no new connections any more: refuse them here, so that none waits for nothing."""
        self.board.wait_for("stopping")
        self._stopping.set()

    def clean_up(self) -> None:
        """Remove what lies on disk of it."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def failure(self) -> str | None:
        """Why a worker gave up, if one did."""
        try:
            return self.lock_file.read_text("utf-8") or None
        except FileNotFoundError:
            return None

    def _serve(self) -> None:
        # Workers share the socket, and their event loops need it so: an accept that came too late must not wait.
        self._listener.setblocking(False)
        with ThreadPoolExecutor(max_workers=8, thread_name_prefix="front") as threads:
            while True:
                if not self._is_wanted():
                    time.sleep(_WORKER_POLL_S)
                # Whoever finds no room waits in the kernel's queue, which is bounded too.
                elif self._room.acquire(timeout=_POLL_S):
                    if (connection := self._accepted()) is None:
                        self._room.release()
                    else:
                        threads.submit(self._answer, connection)

    def _accepted(self) -> socket.socket | None:
        """The next connection; none where none comes in a moment, or a worker took it."""
        with suppress(OSError):
            if select.select([self._listener], [], [], _POLL_S)[0] and self._is_wanted():
                return self._listener.accept()[0]
        return None

    def _is_wanted(self) -> bool:
        return self._stopping.is_set() or not _is_held(self.lock_file)

    def _answer(self, connection: socket.socket) -> None:
        try:
            with connection, suppress(OSError):
                head, deadline = b"", time.monotonic() + _REQUEST_S
                while b"\r\n\r\n" not in head and len(head) < _MAX_HEAD_BYTES:
                    if not (more := _received(connection, deadline)):
                        break
                    head += more
                connection.settimeout(_REQUEST_S)
                connection.sendall(self._reply(head.split(b"\r\n", 1)[0]))
                connection.shutdown(socket.SHUT_WR)
                # Closing with a body unread would reset the connection, and the answer with it.
                deadline = time.monotonic() + _REQUEST_S
                while _received(connection, deadline):
                    pass
        finally:
            self._room.release()

    def _reply(self, first_line: bytes) -> bytes:
        path = first_line.partition(b" ")[2].partition(b" ")[0].partition(b"?")[0]
        if path == b"/livez":
            return _response("200 OK", "")
        if path == b"/readyz":
            return _response("503 Service Unavailable", self.board.readiness().model_dump_json())
        detail = ErrorDetail(code="not_ready", message="not ready: models are being loaded", hint="ask /readyz")
        return _response("503 Service Unavailable", ErrorResponse(error=detail).model_dump_json())


def front_folder() -> Path | None:
    """Where a worker's parent process and it tell each other things; none for a worker without such a parent."""
    path = os.environ.get(LOCK_VARIABLE)
    return Path(path).parent if path else None


def worker_is_up() -> None:
    """Called by a worker that answers by itself from now on."""
    if path := os.environ.get(LOCK_VARIABLE):
        descriptor = os.open(path, os.O_RDWR)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        _worker_locks.append(descriptor)


def end_service(reason: str) -> None:
    """Called by a worker that cannot be ready: the whole service ends, and says why."""
    if path := os.environ.get(LOCK_VARIABLE):
        Path(path).write_text(reason, "utf-8")
        os.kill(os.getppid(), signal.SIGTERM)


def _received(connection: socket.socket, deadline: float) -> bytes:
    """What comes next. Raises TimeoutError at the deadline, however little came until then, byte by byte."""
    connection.settimeout(max(deadline - time.monotonic(), 1e-3))
    return connection.recv(65_536)


def _response(status: str, body: str) -> bytes:
    lines = [
        f"HTTP/1.1 {status}",
        "Content-Type: application/json",
        f"Content-Length: {len(body.encode())}",
        "Connection: close",
        "Cache-Control: no-store",
    ]
    if not status.startswith("200"):
        lines.append(f"Retry-After: {RETRY_AFTER_S}")
    return ("\r\n".join(lines) + "\r\n\r\n" + body).encode()


def _is_held(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return True  # this process ends: nobody is to be answered any more
    return False
