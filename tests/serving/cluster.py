"""Two real instances behind a real nginx, and callers that come at once."""

import asyncio
import json
import os
import signal
import ssl
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import psutil

from deploy.nginx.certificate import make_certificate
from deploy.nginx.program import nginx_running
from deploy.nginx.site import Site, write_site
from deploy.nginx.watch import Watch, watching
from tests.serving.processes import Service, free_port, serving

HOST = "localhost"
MANY = 100_000
CALLERS = 8


class Front:
    """nginx with its watch, and how to ask it."""

    def __init__(self, site: Site, nginx: subprocess.Popen[bytes], watch: Watch) -> None:
        self.site = site
        self.nginx = nginx
        self.watch = watch
        self.address = f"https://{HOST}:{site.https_port}"
        self.tls = ssl.create_default_context(cafile=str(site.certificate_file))

    def client(self, **options: Any) -> httpx.Client:
        """A caller of its own, by default from 127.0.0.1, with a connection for each request."""
        address, limits = options.pop("local_address", None), httpx.Limits(max_keepalive_connections=0)
        transport = httpx.HTTPTransport(verify=self.tls, local_address=address, limits=limits)
        return httpx.Client(base_url=self.address, transport=transport, timeout=30, **options)

    def log_lines(self) -> list[dict[str, Any]]:
        written = (self.site.folder / "access.log").read_text("utf-8")
        return [json.loads(line) for line in written.splitlines()]

    def next_log_lines(self, before: int) -> list[dict[str, Any]]:
        """Those after so many; there may be none until nginx has waited for what a caller may still send."""
        deadline = time.monotonic() + 15
        while len(lines := self.log_lines()) == before:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        return lines[before:]

    def wait_for_watch(self, unready: set[str]) -> None:
        deadline = time.monotonic() + 15
        while self.watch.unready != unready:
            assert time.monotonic() < deadline, self.watch.unready
            time.sleep(0.05)
        self.wait_for_reload()

    def wait_for_reload(self) -> None:
        """Until no process is left that answers by an older configuration."""
        deadline = time.monotonic() + 30
        time.sleep(0.1)
        while any(_is_ending(each) for each in psutil.Process(self.nginx.pid).children()):
            assert time.monotonic() < deadline
            time.sleep(0.05)


def _is_ending(worker: psutil.Process) -> bool:
    try:
        return "shutting down" in " ".join(worker.cmdline())
    except psutil.Error:  # it has ended meanwhile
        return False


@contextmanager
def fronted(folder: Path, instances: tuple[str, ...], **changes: Any) -> Iterator[Front]:
    """nginx before these instances; nobody is limited unless `changes` of the site say so."""
    folder.mkdir()
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    make_certificate(HOST, certificate, key)
    site = Site(
        folder=folder,
        server_names=(HOST,),
        instances=instances,
        certificate_file=certificate,
        private_key_file=key,
        static_folder=Path("serving/web/static").absolute(),
        listen_hosts=("127.0.0.1",),
        https_port=free_port(),
        http_port=free_port(),
        user="root" if os.geteuid() == 0 else None,
        worker_processes=2,
        score_timeout_s=4,
        requests_per_s=MANY,
        burst=MANY,
    )
    site = replace(site, **changes)
    write_site(site)
    with nginx_running(site, os.environ) as nginx, watching(site) as watch:
        yield Front(site, nginx, watch)


class Instances:
    """Services that can end and be started again at the same address."""

    def __init__(self, folder: Path, environment: Mapping[str, str], count: int = 2) -> None:
        self.folder = folder
        self.environment = environment
        self.ports = [free_port() for _ in range(count)]
        self.services: list[Service] = []
        self._stack = ExitStack()

    def __enter__(self) -> "Instances":
        try:
            self.services = [self._start(port) for port in self.ports]
            for service in self.services:
                service.wait_until_ready()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def addresses(self) -> tuple[str, ...]:
        return tuple(f"127.0.0.1:{port}" for port in self.ports)

    def start_again(self, number: int) -> None:
        """Start one that ended, and wait until it is ready."""
        assert self.services[number].process.poll() is not None
        self.services[number] = self._start(self.ports[number])
        self.services[number].wait_until_ready()

    def signal_all(self, number: int, what: signal.Signals) -> None:
        """To every process of one instance at once."""
        parent = psutil.Process(self.services[number].process.pid)
        for process in [parent, *parent.children(recursive=True)]:
            # Its parent was asked first and may have ended it already.
            with suppress(psutil.NoSuchProcess):
                process.send_signal(what)

    def _start(self, port: int) -> Service:
        return self._stack.enter_context(serving(self.folder, self.environment, port))


@dataclass
class Tally:
    """What came of many requests."""

    statuses: Counter[int | str] = field(default_factory=Counter)
    digests: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)

    @property
    def total(self) -> int:
        return sum(self.statuses.values())


async def ask_at_once(
    front: Front,
    request: Mapping[str, Any],
    headers: Mapping[str, str],
    goes_on: Callable[[int], bool],
) -> Tally:
    """`CALLERS`, each with its next request as soon as the last was answered, on a connection of its own.

    `goes_on` is told how many were answered.
    """
    tally = Tally()
    no_reuse = httpx.Limits(max_keepalive_connections=0)

    async def call(client: httpx.AsyncClient) -> None:
        while goes_on(tally.total):
            started = time.perf_counter()
            try:
                answer = await client.post("/score", json=request)
            except httpx.TransportError as error:
                tally.statuses[repr(error)] += 1
                continue
            tally.seconds.append(time.perf_counter() - started)
            tally.statuses[answer.status_code] += 1
            if answer.status_code == 200:
                tally.digests[answer.json()["model"]["digest"]] += 1

    async with httpx.AsyncClient(
        base_url=front.address, verify=front.tls, headers=headers, limits=no_reuse, timeout=30
    ) as client:
        await asyncio.gather(*(call(client) for _ in range(CALLERS)))
    return tally


@contextmanager
def under_load(front: Front, request: Mapping[str, Any], headers: Mapping[str, str], at_least: int) -> Iterator[Tally]:
    """Callers at once while the block lasts, and until there were `at_least` requests; then the tally is filled."""
    filled, begun, over = Tally(), threading.Event(), threading.Event()

    def goes_on(total: int) -> bool:
        if total >= CALLERS:
            begun.set()
        return not over.is_set() or total < at_least

    def run() -> None:
        done = asyncio.run(ask_at_once(front, request, headers, goes_on))
        filled.statuses, filled.digests, filled.seconds = done.statuses, done.digests, done.seconds

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert begun.wait(30), "nobody is answered"
        yield filled
    finally:
        over.set()
        thread.join()
