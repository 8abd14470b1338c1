"""Signatures by OpenSSF Model Signing: whose models are opened at all."""

import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from model_signing import verifying

from essays.errors import BadParams, FairmarkError
from essays.manifest import describe_file
from essays.registry import read_champion
from essays.signatures import (
    SignatureRefused,
    TrustedKey,
    make_key_pair,
    publish_signature,
    require_signature,
    sign,
    signature_key,
    trusted_key,
)
from essays.store import Store
from serving.artifacts import acquire

pytestmark = pytest.mark.row(6)
NAMES = ("lexical", "tiny", "ensemble")


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Private keys; the public one lies beside each."""
    folder = tmp_path_factory.mktemp("keys")
    for name in ("ours", "theirs"):
        make_key_pair(folder / f"{name}.pem", folder / f"{name}.pub")
    return {name: folder / f"{name}.pem" for name in ("ours", "theirs")}


@pytest.fixture
def store(file_store: Store, bundles: Any) -> Store:
    bundles.publish(file_store)
    return file_store


def sign_all(store: Store, bundles: Any, private_key: Path) -> list[bool]:
    pointers = [read_champion(store, name).pointer for name in NAMES]
    return [
        publish_signature(store, bundles.paths[pointer.name], pointer.key, pointer.sha256, private_key)
        for pointer in pointers
    ]


def trusting(private_key: Path) -> TrustedKey:
    return trusted_key(private_key.with_suffix(".pub"))


def test_models_that_the_trusted_key_signed_are_fetched_and_are_signed_once(
    store: Store, bundles: Any, keys: dict[str, Path], tmp_path: Path
) -> None:
    assert sign_all(store, bundles, keys["ours"]) == [True] * 3
    assert sign_all(store, bundles, keys["ours"]) == [False] * 3
    assert len(acquire(store, [], tmp_path / "models", trusted=trusting(keys["ours"]))) == 3
    assert keys["ours"].stat().st_mode & 0o077 == 0


def _unsigned(store: Store, key: str, bundles: Any, keys: dict[str, Path]) -> None:
    """As published."""


def _by_another_key(store: Store, key: str, bundles: Any, keys: dict[str, Path]) -> None:
    store.put_bytes(signature_key(key), sign(bundles.paths["tiny"], keys["theirs"]))


def _of_another_bundle(store: Store, key: str, bundles: Any, keys: dict[str, Path]) -> None:
    store.put_bytes(signature_key(key), sign(bundles.paths["lexical"], keys["ours"]))


def _garbage(store: Store, key: str, bundles: Any, keys: dict[str, Path]) -> None:
    store.put_bytes(signature_key(key), b"\x00 no signature")


def _too_long(store: Store, key: str, bundles: Any, keys: dict[str, Path]) -> None:
    store.put_bytes(signature_key(key), b" " * 100_000)


def _payload_changed(store: Store, key: str, bundles: Any, keys: dict[str, Path]) -> None:
    text = sign(bundles.paths["tiny"], keys["ours"]).decode()
    at = text.index('"payload":"') + 200
    store.put_bytes(signature_key(key), (text[:at] + ("A" if text[at] != "A" else "B") + text[at + 1 :]).encode())


@pytest.mark.parametrize(
    ("prepare", "word"),
    [
        (_unsigned, "not signed"),
        (_by_another_key, "Key mismatch"),
        (_of_another_bundle, "mismatch"),
        (_garbage, "key unknown"),
        (_too_long, "are no signature"),
        (_payload_changed, "trusted is"),
    ],
)
def test_without_the_trusted_signature_nothing_is_fetched_or_opened(
    store: Store,
    bundles: Any,
    keys: dict[str, Path],
    tmp_path: Path,
    prepare: Callable[..., None],
    word: str,
) -> None:
    pointer = read_champion(store, "tiny").pointer
    prepare(store, pointer.key, bundles, keys)
    # What any parser, or even the digest check, would stumble over first.
    store.put_bytes(pointer.key, b"no zip")
    root = tmp_path / "models"
    with pytest.raises(SignatureRefused, match=word) as caught:
        acquire(store, ["tiny"], root, trusted=trusting(keys["ours"]))
    assert pointer.key in str(caught.value)
    if prepare is _by_another_key:
        for key in keys.values():
            assert trusting(key).key_id in str(caught.value)
    assert [path.name for path in root.iterdir() if len(path.name) == 64] == []


def test_a_copy_that_was_fetched_without_a_key_is_asked_for_its_signature_later(
    store: Store, bundles: Any, keys: dict[str, Path], tmp_path: Path
) -> None:
    acquire(store, [], tmp_path / "models")
    with pytest.raises(SignatureRefused, match="not signed"):
        acquire(store, [], tmp_path / "models", trusted=trusting(keys["ours"]))


def test_after_all_was_signed_anew_the_new_key_is_trusted_and_nothing_fetched_again(
    store: Store, bundles: Any, keys: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sign_all(store, bundles, keys["ours"])
    acquire(store, [], tmp_path / "models", trusted=trusting(keys["ours"]))
    assert sign_all(store, bundles, keys["theirs"]) == [True] * 3
    capsys.readouterr()
    acquire(store, [], tmp_path / "models", trusted=trusting(keys["theirs"]))
    assert capsys.readouterr().err.count("found ") == 3


def test_signatures_that_are_checked_side_by_side_leave_stdout_as_it_was(
    bundles: Any, keys: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library prints, and what catches it is the whole process's: two threads in it would leave it in place."""
    bundle, trusted, before = bundles.paths["tiny"], trusting(keys["ours"]), sys.stdout
    signature, sha256 = sign(bundle, keys["ours"]), describe_file(bundle).sha256
    verify = verifying.Config.verify

    def slowly(*given: Any) -> None:
        verify(*given)
        time.sleep(0.02)

    monkeypatch.setattr(verifying.Config, "verify", slowly)
    monkeypatch.setattr(sys, "stdout", before)
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: require_signature(signature, bundle.name, sha256, trusted), range(4)))
    assert sys.stdout is before


def test_the_librarys_own_command_verifies_what_we_sign(
    store: Store, bundles: Any, keys: dict[str, Path], tmp_path: Path
) -> None:
    signature = tmp_path / "tiny.sig"
    signature.write_bytes(sign(bundles.paths["tiny"], keys["ours"]))
    verify = ["-m", "model_signing", "verify", "key", str(bundles.paths["tiny"])]
    options = ["--signature", str(signature), "--public_key", str(keys["ours"].with_suffix(".pub"))]
    assert subprocess.run([sys.executable, *verify, *options], capture_output=True, timeout=60).returncode == 0


@pytest.mark.parametrize("content", [b"", b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"])
def test_a_key_file_that_is_none_is_named(tmp_path: Path, bundles: Any, content: bytes) -> None:
    (tmp_path / "key").write_bytes(content)
    for use in (lambda: trusted_key(tmp_path / "key"), lambda: sign(bundles.paths["tiny"], tmp_path / "key")):
        with pytest.raises(BadParams, match=str(tmp_path / "key")):
            use()
    with pytest.raises(FairmarkError, match="missing"):
        trusted_key(tmp_path / "missing")
