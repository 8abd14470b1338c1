import hashlib
from pathlib import Path

import pytest

from data.corpora import Corpus, CorpusFile, all_corpora, is_own
from data.fetch import fetch_corpus, kaggle_token, mirror_folder
from essays.errors import BadCorpus

CONTENT = b"three essays, all of them ours\n" * 100


def _corpus(url: str = "http://127.0.0.1:9/set.tsv", kaggle: bool = False, optional: bool = False) -> Corpus:
    file = CorpusFile(
        path="sub/set.tsv",
        sha256=hashlib.sha256(CONTENT).hexdigest(),
        size_bytes=len(CONTENT),
        url=url,
        kaggle=kaggle,
        optional=optional,
    )
    return Corpus(name="asap-aes", title="ours", licence="none", page="https://example.org/ours", files=(file,))


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    return tmp_path / "raw"


@pytest.fixture
def filled_mirror(tmp_path: Path) -> Path:
    path = tmp_path / "mirror" / "asap-aes" / "sub" / "set.tsv"
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    return tmp_path / "mirror"


def test_a_file_comes_from_the_mirror(raw: Path, filled_mirror: Path, capsys):
    assert fetch_corpus(_corpus(), raw, filled_mirror, None) == raw / "asap-aes"
    assert (raw / "asap-aes/sub/set.tsv").read_bytes() == CONTENT
    assert "asap-aes/sub/set.tsv  3.1 kB  from the mirror" in capsys.readouterr().err
    assert sorted(path.name for path in raw.rglob("*") if path.is_file()) == ["set.tsv"]


def test_a_file_that_is_here_is_never_copied_again(raw: Path, filled_mirror: Path, capsys):
    fetch_corpus(_corpus(), raw, filled_mirror, None)
    before = (raw / "asap-aes/sub/set.tsv").stat()
    fetch_corpus(_corpus(), raw, filled_mirror, None)
    after = (raw / "asap-aes/sub/set.tsv").stat()
    assert (before.st_mtime_ns, before.st_ino) == (after.st_mtime_ns, after.st_ino)
    assert "was here" in capsys.readouterr().err


def test_without_a_mirror_the_owner_is_asked(raw: Path, owner):
    owner.files["/set.tsv"] = CONTENT
    fetch_corpus(_corpus(f"{owner.address}/set.tsv"), raw, None, None)
    assert (raw / "asap-aes/sub/set.tsv").read_bytes() == CONTENT


def test_a_mirror_that_lacks_the_file_sends_to_the_owner(raw: Path, owner, tmp_path: Path):
    owner.files["/set.tsv"] = CONTENT
    fetch_corpus(_corpus(f"{owner.address}/set.tsv"), raw, tmp_path / "empty", None)
    assert (raw / "asap-aes/sub/set.tsv").read_bytes() == CONTENT


def test_a_changed_file_of_the_owners_is_refused_and_not_kept(raw: Path, owner):
    owner.files["/set.tsv"] = CONTENT.replace(b"three", b"seven")
    with pytest.raises(BadCorpus, match=r"set\.tsv\.part: sha256 \w{12}, expected \w{12}.*gave other bytes"):
        fetch_corpus(_corpus(f"{owner.address}/set.tsv"), raw, None, None)
    assert [path for path in raw.rglob("*") if path.is_file()] == []


def test_a_changed_file_in_the_raw_folder_is_refused(raw: Path, filled_mirror: Path):
    path = raw / "asap-aes/sub/set.tsv"
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT[:-1])
    with pytest.raises(BadCorpus, match=r"sha256 .*\(3099 bytes, expected 3100\); delete it and fetch again"):
        fetch_corpus(_corpus(), raw, filled_mirror, None)


def test_a_changed_file_in_the_mirror_is_refused(raw: Path, filled_mirror: Path):
    (filled_mirror / "asap-aes/sub/set.tsv").write_bytes(b"changed")
    with pytest.raises(BadCorpus, match="mend the mirror, or unset ESSAYS_MIRROR"):
        fetch_corpus(_corpus(), raw, filled_mirror, None)
    assert not raw.exists()


def test_without_a_token_kaggles_rules_are_explained(raw: Path, owner):
    corpus = _corpus(f"{owner.address}/set.tsv", kaggle=True)
    with pytest.raises(BadCorpus) as caught:
        fetch_corpus(corpus, raw, None, None)
    message = str(caught.value)
    assert "accept the rules at https://example.org/ours and download set.tsv" in message
    assert str(raw / "asap-aes/sub/set.tsv") in message
    assert "set KAGGLE_USERNAME and KAGGLE_KEY" in message
    assert "set ESSAYS_MIRROR to a folder that holds asap-aes/sub/set.tsv" in message
    assert owner.seen == []


def test_with_a_token_kaggle_is_asked(raw: Path, owner):
    owner.files["/set.tsv"] = CONTENT
    fetch_corpus(_corpus(f"{owner.address}/set.tsv", kaggle=True), raw, None, ("ann", "secret"))
    assert (raw / "asap-aes/sub/set.tsv").read_bytes() == CONTENT
    assert owner.seen[0]["authorization"].startswith("Basic ")


def test_a_missing_page_says_what_else_to_do(raw: Path, owner):
    with pytest.raises(BadCorpus, match=r"404 Not Found\ndo one of these, then fetch again:\n  - download set\.tsv"):
        fetch_corpus(_corpus(f"{owner.address}/gone"), raw, None, None)


def test_an_optional_file_is_not_missed(raw: Path, capsys):
    fetch_corpus(_corpus(optional=True), raw, None, None)
    assert "left out: optional" in capsys.readouterr().err


def test_a_mirror_that_is_no_folder_is_said(monkeypatch, tmp_path: Path):
    monkeypatch.setenv("ESSAYS_MIRROR", str(tmp_path / "nowhere"))
    with pytest.raises(BadCorpus, match=r"ESSAYS_MIRROR is '.*nowhere', which is no folder"):
        mirror_folder()


def test_no_mirror_and_half_a_token_are_none(monkeypatch):
    monkeypatch.delenv("ESSAYS_MIRROR", raising=False)
    monkeypatch.setenv("KAGGLE_USERNAME", "ann")
    monkeypatch.delenv("KAGGLE_KEY", raising=False)
    assert mirror_folder() is None
    assert kaggle_token() is None


@pytest.mark.parametrize("name", [name for name in all_corpora() if not is_own(name)])
def test_the_listed_digests_and_sizes_are_those_of_the_real_files(name: str, mirror: Path, raw: Path):
    folder = fetch_corpus(all_corpora()[name], raw, mirror, None)
    found = {str(path.relative_to(folder)): path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    assert found == {file.path: file.size_bytes for file in all_corpora()[name].files}
