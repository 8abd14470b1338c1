"""One file of an owner's over HTTP: streamed, taken up where it was interrupted.

Leaves digests and the file's place to `data.fetch`.
"""

import time
import zipfile
from pathlib import Path

import httpx

from data.corpora import CorpusFile
from essays.console import Progress, say
from essays.errors import BadCorpus

KaggleToken = tuple[str, str]
"""User name and key, as Kaggle's settings page gives them."""

TIMEOUT_S = 30.0
"""Longest wait for a connection or for the next bytes."""
NUM_ATTEMPTS = 3
_SPARE_BYTES = 1 << 20
"""How far a wrong file may run over the expected size before the transfer is given up."""


class _InterruptedTransferError(Exception):
    """A transfer that another attempt may finish."""


def download(file: CorpusFile, unfinished: Path, token: KaggleToken | None, pause_s: float = 2.0) -> None:
    """The file's bytes in `unfinished`, their digest not yet checked; goes on from what is there.

    Tries `NUM_ATTEMPTS` times, waiting `pause_s` and then twice that. Raises BadCorpus when the owner refuses or
    cannot be reached.
    """
    for attempt in range(1, NUM_ATTEMPTS + 1):
        try:
            _transfer(file, unfinished, token if file.kaggle else None)
            break
        except (httpx.RequestError, _InterruptedTransferError) as error:
            reason = str(error) or type(error).__name__
            if attempt == NUM_ATTEMPTS:
                raise BadCorpus(f"{file.url}: {reason} (tried {attempt} times)") from error
            say(f"{file.path}  {reason}; trying again")
            time.sleep(pause_s * attempt)
    if file.kaggle:
        _unwrap(unfinished, file)


def _transfer(file: CorpusFile, unfinished: Path, token: KaggleToken | None) -> None:
    # Kaggle may wrap a file in a zip of another size: only a plain file can be taken up in the middle.
    have = unfinished.stat().st_size if unfinished.exists() and not file.kaggle else 0
    if have >= file.size_bytes:
        return
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    # httpx drops the token when a redirect leaves Kaggle for the storage behind it.
    with (
        httpx.Client(auth=token, follow_redirects=True, timeout=TIMEOUT_S) as client,
        client.stream("GET", file.url, headers=headers) as response,
    ):
        _require_success(file, response, unfinished)
        resumed = response.status_code == httpx.codes.PARTIAL_CONTENT
        _write(response, unfinished, file, have if resumed else 0)


def _write(response: httpx.Response, unfinished: Path, file: CorpusFile, have: int) -> None:
    progress = Progress(file.path, file.size_bytes // 1000)
    with unfinished.open("ab" if have else "wb") as stream:
        for chunk in response.iter_bytes():
            stream.write(chunk)
            have += len(chunk)
            if have > file.size_bytes + _SPARE_BYTES:
                raise BadCorpus(f"{file.url}: more than the {file.size_bytes} bytes that were expected")
            progress.update(have // 1000, "kB")


def _require_success(file: CorpusFile, response: httpx.Response, unfinished: Path) -> None:
    status = response.status_code
    if response.is_success:
        return
    if status == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
        unfinished.unlink()
        raise _InterruptedTransferError("the server has fewer bytes than an earlier attempt left here")
    if status == httpx.codes.TOO_MANY_REQUESTS or response.is_server_error:
        raise _InterruptedTransferError(f"the server answered {status}")
    if file.kaggle and status == httpx.codes.UNAUTHORIZED:
        raise BadCorpus(f"{file.url}: Kaggle does not know this token; make a new one on your account's settings page")
    if file.kaggle and status == httpx.codes.FORBIDDEN:
        raise BadCorpus(f"{file.url}: Kaggle refuses; accept the competition's rules with the token's account first")
    raise BadCorpus(f"{file.url}: the server answered {status} {response.reason_phrase}")


def _unwrap(path: Path, file: CorpusFile) -> None:
    """Take the file out of the zip that Kaggle may put around it."""
    name = Path(file.path).name
    if name.endswith(".zip") or not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        sizes = {member.filename: member.file_size for member in archive.infolist()}
        if sizes != {name: file.size_bytes}:
            return  # some other zip: its digest will say so
        content = archive.read(name)
    path.write_bytes(content)
