"""Real corpora where a mirror has them, small ones of our own everywhere."""

import zipfile
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from data.asap import read_asap
from data.ellipse import CSV_FILE, ZIP_FILE, read_ellipse
from data.rows import CorpusRows


@pytest.fixture(scope="session")
def ellipse_rows(mirror: Path) -> CorpusRows:
    return read_ellipse(mirror / "ellipse")


@pytest.fixture(scope="session")
def asap_rows(mirror: Path) -> CorpusRows:
    return read_asap(mirror / "asap-aes")


@pytest.fixture
def write_ellipse(tmp_path: Path) -> Callable[[bytes], Path]:
    """Writes a zip as ELLIPSE's owners do, but not encrypted, and returns its folder."""

    def write(content: bytes) -> Path:
        with zipfile.ZipFile(tmp_path / ZIP_FILE, "w") as archive:
            archive.writestr(CSV_FILE, content)
        return tmp_path

    return write


ASAP_HEADER = "essay_id\tessay_set\tessay\trater1_domain1\trater2_domain1\trater3_domain1\tdomain1_score"


@pytest.fixture
def write_asap(tmp_path: Path) -> Callable[[Sequence[bytes]], Path]:
    """Writes a training set of these lines below ASAP's header, and returns its folder."""

    def write(lines: Sequence[bytes]) -> Path:
        (tmp_path / "training_set_rel3.tsv").write_bytes(b"\r\n".join([ASAP_HEADER.encode(), *lines]) + b"\r\n")
        return tmp_path

    return write


class Owner:
    """A corpus owner's web server: what it holds, how it behaves, and what it was asked."""

    def __init__(self, port: int) -> None:
        self.address = f"http://127.0.0.1:{port}"
        self.files: dict[str, bytes] = {}
        """Content by path."""
        self.redirects: dict[str, str] = {}
        self.authorization: str | None = None
        """What the Authorization header must be for anything but 401."""
        self.statuses: list[int] = []
        """Answers to give first, in this order, before it behaves."""
        self.cut_after: list[int] = []
        """Bytes after which the next answers break off."""
        self.knows_ranges = True
        self.seen: list[dict[str, str]] = []
        """The headers of each request, by lower-case name."""


@pytest.fixture
def owner() -> Iterator[Owner]:
    yield from _serve()


@pytest.fixture
def storage() -> Iterator[Owner]:
    """A second server, of another origin: Kaggle answers with a redirect to one."""
    yield from _serve()


def _serve() -> Iterator[Owner]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self, served)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        served = Owner(server.server_port)
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield served
        server.shutdown()
        thread.join()


def answer(request: BaseHTTPRequestHandler, owner: Owner) -> None:
    """What a file server answers: 200, 206 for a range, 302, 401, 404, 416, or the failure that was ordered."""
    owner.seen.append({name.lower(): value for name, value in request.headers.items()})
    if owner.statuses:
        return _reply(request, owner.statuses.pop(0))
    if owner.authorization and request.headers["Authorization"] != owner.authorization:
        return _reply(request, 401)
    if request.path in owner.redirects:
        return _reply(request, 302, location=owner.redirects[request.path])
    if request.path not in owner.files:
        return _reply(request, 404)
    content = owner.files[request.path]
    wanted = request.headers["Range"] if owner.knows_ranges else None
    start = int((wanted or "bytes=0-").removeprefix("bytes=").removesuffix("-"))
    if start >= len(content):
        return _reply(request, 416)
    cut = owner.cut_after.pop(0) if owner.cut_after else None
    return _reply(request, 206 if wanted else 200, content[start:], cut=cut)


def _reply(
    request: BaseHTTPRequestHandler, status: int, body: bytes = b"", location: str = "", cut: int | None = None
) -> None:
    request.send_response(status)
    request.send_header("Content-Length", str(len(body)))
    if location:
        request.send_header("Location", location)
    request.end_headers()
    request.wfile.write(body[:cut])
