"""A TCP proxy that goes wrong on purpose: cuts, refuses, hangs, slows down. Real sockets, real resets."""

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

_RESET_AT_ONCE = struct.pack("ii", 1, 0)
_CHUNK_BYTES = 16384


class FaultProxy:
    """Passes bytes on between a client and `target`, and does what its fields say; they may change at any time."""

    def __init__(self, target: tuple[str, int]) -> None:
        self.target = target
        self.port = 0
        self.cut_after: int | None = None
        """Reset the connection that brings the answers to this many bytes in all, once."""
        self.on_cut: Callable[[], None] = lambda: None
        self.refuse = False
        """Reset every connection at once."""
        self.bytes_per_s: float | None = None
        """Of answers, over all connections; none is as fast as it goes."""
        self.bytes_sent = 0
        """Of answers, over all connections."""
        self.connections = self.cuts = 0
        self.requests: list[str] = []
        """The first line of every request that came."""
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def _serve(self, started: threading.Event) -> None:
        self._stopped = asyncio.Event()
        server = await asyncio.start_server(self._relay, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        started.set()
        await self._stopped.wait()
        server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        server_writer = None
        with suppress(OSError, asyncio.CancelledError):
            if self.refuse:
                _reset(writer)
            else:
                server_reader, server_writer = await asyncio.open_connection(*self.target)
                up = asyncio.create_task(self._up(reader, server_writer))
                await self._down(server_reader, writer)
                up.cancel()
                await asyncio.gather(up, return_exceptions=True)
        for each in (writer, server_writer):
            if each is not None:
                each.transport.abort()
        self._tasks.discard(task)

    async def _up(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(_CHUNK_BYTES):
            first = chunk.split(b"\r\n", 1)[0]
            if first.endswith(b"HTTP/1.1"):
                self.requests.append(first.decode("latin-1"))
            writer.write(chunk)
            await writer.drain()
        writer.write_eof()

    async def _down(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(_CHUNK_BYTES):
            if self.refuse:
                _reset(writer)
                return
            if self.cut_after is not None and self.bytes_sent + len(chunk) > self.cut_after:
                chunk = chunk[: self.cut_after - self.bytes_sent]
                self.cut_after = None
                self.cuts += 1
                writer.write(chunk)
                await writer.drain()
                self.bytes_sent += len(chunk)
                await asyncio.to_thread(self.on_cut)
                _reset(writer)
                return
            if self.bytes_per_s:
                await asyncio.sleep(len(chunk) / self.bytes_per_s)
            self.bytes_sent += len(chunk)
            writer.write(chunk)
            await writer.drain()


def _reset(writer: asyncio.StreamWriter) -> None:
    raw = writer.get_extra_info("socket")
    # Closing with this option sends RST instead of an orderly end.
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_ONCE)
    writer.transport.abort()


@contextmanager
def fault_proxy(endpoint: str) -> Iterator[FaultProxy]:
    """A proxy before `http://HOST:PORT`, while the block lasts."""
    host, port = endpoint.removeprefix("http://").split(":")
    proxy, started = FaultProxy((host, int(port))), threading.Event()
    thread = threading.Thread(target=lambda: proxy._loop.run_until_complete(proxy._serve(started)), daemon=True)
    thread.start()
    started.wait(5)
    try:
        yield proxy
    finally:
        proxy._loop.call_soon_threadsafe(proxy._stopped.set)
        thread.join(5)
        proxy._loop.close()
