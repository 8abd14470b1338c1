import base64
import io
import os
import zipfile
from pathlib import Path

import pytest

from data.corpora import CorpusFile
from data.download import NUM_ATTEMPTS, download
from essays.errors import BadCorpus

CONTENT = os.urandom(300_000)


def _file(url: str, kaggle: bool = False, path: str = "set.tsv", content: bytes = CONTENT) -> CorpusFile:
    return CorpusFile(path=path, sha256="0" * 64, size_bytes=len(content), url=url, kaggle=kaggle)


def test_a_file_is_streamed_as_it_is(owner, tmp_path: Path):
    owner.files["/set.tsv"] = CONTENT
    download(_file(f"{owner.address}/set.tsv"), tmp_path / "part", None)
    assert (tmp_path / "part").read_bytes() == CONTENT
    # Compressed on the way, ranges would count other bytes than those on disk.
    assert owner.seen[0]["accept-encoding"] == "identity"


def test_a_transfer_that_broke_off_goes_on_where_it_stopped(owner, tmp_path: Path):
    owner.files["/set.tsv"] = CONTENT
    owner.cut_after = [100_000]
    download(_file(f"{owner.address}/set.tsv"), tmp_path / "part", None, pause_s=0)
    assert (tmp_path / "part").read_bytes() == CONTENT
    assert "range" not in owner.seen[0]
    assert owner.seen[1]["range"] == "bytes=100000-"


def test_a_server_that_knows_no_ranges_sends_all_again(owner, tmp_path: Path):
    owner.files["/set.tsv"] = CONTENT
    owner.knows_ranges = False
    (tmp_path / "part").write_bytes(CONTENT[:1000])
    download(_file(f"{owner.address}/set.tsv"), tmp_path / "part", None)
    assert owner.seen[0]["range"] == "bytes=1000-"
    assert (tmp_path / "part").read_bytes() == CONTENT


def test_a_server_that_has_less_than_is_here_is_asked_again_from_the_start(owner, tmp_path: Path):
    owner.files["/set.tsv"] = CONTENT[:1000]
    (tmp_path / "part").write_bytes(b"x" * 2000)
    download(_file(f"{owner.address}/set.tsv"), tmp_path / "part", None, pause_s=0)
    assert (tmp_path / "part").read_bytes() == CONTENT[:1000]


def test_what_is_whole_is_not_asked_for_again(owner, tmp_path: Path):
    (tmp_path / "part").write_bytes(CONTENT)
    download(_file(f"{owner.address}/set.tsv"), tmp_path / "part", None)
    assert owner.seen == []


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_server_is_asked_again(owner, tmp_path: Path, status: int):
    owner.files["/set.tsv"] = CONTENT
    owner.statuses = [status, status]
    download(_file(f"{owner.address}/set.tsv"), tmp_path / "part", None, pause_s=0)
    assert (tmp_path / "part").read_bytes() == CONTENT
    assert len(owner.seen) == 3


def test_a_server_that_stays_busy_is_given_up(owner, tmp_path: Path):
    owner.statuses = [503] * NUM_ATTEMPTS
    with pytest.raises(BadCorpus, match=r"/set\.tsv: the server answered 503 \(tried 3 times\)"):
        download(_file(f"{owner.address}/set.tsv"), tmp_path / "part", None, pause_s=0)


def test_nobody_at_the_address_is_said(tmp_path: Path):
    # Port 9 of loopback is the discard service, which nothing offers any more.
    with pytest.raises(BadCorpus, match=r"127\.0\.0\.1:9/set\.tsv: .*refused.*\(tried 3 times\)"):
        download(_file("http://127.0.0.1:9/set.tsv"), tmp_path / "part", None, pause_s=0)


def test_a_missing_page_is_not_asked_for_again(owner, tmp_path: Path):
    with pytest.raises(BadCorpus, match="the server answered 404 Not Found"):
        download(_file(f"{owner.address}/gone"), tmp_path / "part", None)
    assert len(owner.seen) == 1


def test_a_file_without_end_is_given_up(owner, tmp_path: Path):
    owner.files["/set.tsv"] = bytes(2_000_000)
    with pytest.raises(BadCorpus, match="more than the 300000 bytes"):
        download(_file(f"{owner.address}/set.tsv"), tmp_path / "part", None)


def test_kaggle_gets_the_token_and_the_storage_behind_it_does_not(owner, storage, tmp_path: Path):
    owner.authorization = "Basic " + base64.b64encode(b"ann:secret").decode()
    owner.redirects["/set.tsv"] = f"{storage.address}/bucket/set.tsv"
    storage.files["/bucket/set.tsv"] = CONTENT
    download(_file(f"{owner.address}/set.tsv", kaggle=True), tmp_path / "part", ("ann", "secret"))
    assert (tmp_path / "part").read_bytes() == CONTENT
    assert "authorization" not in storage.seen[0]


def test_other_owners_never_see_the_token(owner, tmp_path: Path):
    owner.files["/set.tsv"] = CONTENT
    download(_file(f"{owner.address}/set.tsv"), tmp_path / "part", ("ann", "secret"))
    assert "authorization" not in owner.seen[0]


def test_a_zip_that_kaggle_puts_around_a_file_is_taken_off(owner, tmp_path: Path):
    wrapped = io.BytesIO()
    with zipfile.ZipFile(wrapped, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("set.tsv", CONTENT)
    owner.files["/set.tsv"] = wrapped.getvalue()
    download(_file(f"{owner.address}/set.tsv", kaggle=True), tmp_path / "part", ("ann", "secret"))
    assert (tmp_path / "part").read_bytes() == CONTENT


def test_a_corpus_that_is_a_zip_stays_one(owner, tmp_path: Path):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("set.zip", "inside")
    owner.files["/set.zip"] = content.getvalue()
    file = _file(f"{owner.address}/set.zip", kaggle=True, path="set.zip", content=content.getvalue())
    download(file, tmp_path / "part", ("ann", "secret"))
    assert (tmp_path / "part").read_bytes() == content.getvalue()


@pytest.mark.parametrize(
    ("status", "advice"), [(401, "does not know this token"), (403, "accept the competition's rules")]
)
def test_kaggles_refusals_are_explained(owner, tmp_path: Path, status: int, advice: str):
    owner.statuses = [status]
    with pytest.raises(BadCorpus, match=advice) as caught:
        download(_file(f"{owner.address}/set.tsv", kaggle=True), tmp_path / "part", ("ann", "secret"))
    assert "secret" not in str(caught.value)
