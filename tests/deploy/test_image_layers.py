"""What `make image-check` finds in an image's layers: secrets by their form, and this machine's own by their value."""

import io
import json
import os
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from deploy.image.check import check_layers, require_clean
from deploy.image.engine import ImageFailed, find_engine
from deploy.image.layers import MAX_READ_BYTES, scan
from deploy.image.secrets_here import secrets_here
from essays.signatures import make_key_pair

CANARY = "zebracanarysecret-0123456789"
CLEAN = {"app/bento/src/serving/service.py": b"print('ready')", "usr/lib/libssl.so": b"\x7fELF" + bytes(64)}


def tar_of(files: Mapping[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return out.getvalue()


def saved(path: Path, *layers: Mapping[str, bytes], environment: tuple[str, ...] = ()) -> Path:
    """An image as `docker save` and `buildah push docker-archive:` write it."""
    names = [f"{number}/layer.tar" for number in range(len(layers))]
    manifest = [{"Config": "config.json", "RepoTags": ["fairmark:cpu"], "Layers": names}]
    files = {
        "manifest.json": json.dumps(manifest).encode(),
        "config.json": json.dumps({"config": {"Env": list(environment)}}).encode(),
        **{name: tar_of(layer) for name, layer in zip(names, layers, strict=True)},
    }
    path.write_bytes(tar_of(files))
    return path


def found(archive: Path, secrets: Mapping[str, bytes] | None = None) -> set[tuple[int, str, str]]:
    return {(each.layer, each.path, each.what) for each in scan(archive, secrets or {})}


def test_a_clean_image_has_nothing(tmp_path: Path) -> None:
    assert found(saved(tmp_path / "image.tar", CLEAN, CLEAN, environment=("PATH=/usr/bin",))) == set()


def test_a_secret_that_a_later_layer_deletes_is_found_in_its_own(tmp_path: Path) -> None:
    make_key_pair(tmp_path / "private.pem", tmp_path / "public.pem")
    key = (tmp_path / "private.pem").read_bytes()
    layers = ({"root/key": key}, {"root/.wh.key": b""}, {"etc/app.conf": b"id = AKIAABCDEFGHIJKLMNOP"})
    environment = ("PIP_INDEX_URL=https://someone:secretword@pypi.internal.net/simple",)
    assert found(saved(tmp_path / "image.tar", *layers, environment=environment)) == {
        (0, "configuration", "address with a password"),
        (1, "root/key", "private key"),
        (3, "etc/app.conf", "AWS key"),
    }


@pytest.mark.parametrize(
    "path",
    ["app/bento/src/.git/config", "root/.aws/credentials", "app/bento/src/fairmark.toml",
     "app/bento/src/training/fit.py", "srv/data/raw/ellipse/essays.csv"],
)  # fmt: skip
def test_a_file_that_belongs_to_no_image_is_named(tmp_path: Path, path: str) -> None:
    assert found(saved(tmp_path / "image.tar", {path: b"x"})) == {(1, path, "a name that belongs to no image")}


@pytest.mark.row(53)
def test_this_machines_own_secrets_are_found_by_value_and_never_shown(tmp_path: Path) -> None:
    state = tmp_path / ".make"
    (state / "s3").mkdir(parents=True)
    (state / "s3/env").write_text(f"AWS_ACCESS_KEY_ID=fairmark\nAWS_SECRET_ACCESS_KEY={CANARY}-of-s3\n")
    make_key_pair(state / "signing/private.pem", state / "signing/public.pem")
    (state / "front").mkdir()
    (state / "front/api-key").write_text(f"{CANARY}-of-front\n")
    secrets = secrets_here(
        {"FAIRMARK_SERVICE__CACHE__KEY": CANARY, "PATH": "/usr/local/bin:/usr/bin:/bin", "API_TOKEN": "short"}, state
    )
    assert len(secrets) == 4
    body = (state / "signing/private.pem").read_text().splitlines()[1].encode()
    archive = saved(
        tmp_path / "image.tar",
        {"usr/lib/large.so": bytes(MAX_READ_BYTES) + f"{CANARY}-of-s3".encode(), "app/x.pyc": b"\0" + body},
        environment=(f"KEY={CANARY}",),
    )
    where = {(layer, path, what.rpartition("/")[2]) for layer, path, what in found(archive, secrets)}
    assert where == {
        (0, "configuration", "the value of FAIRMARK_SERVICE__CACHE__KEY"),
        (1, "usr/lib/large.so", "env: AWS_SECRET_ACCESS_KEY"),
        (1, "usr/lib/large.so", "the value of FAIRMARK_SERVICE__CACHE__KEY"),
        (1, "app/x.pyc", "private.pem"),
    }
    with pytest.raises(
        ImageFailed, match="layer 0: configuration: the value of FAIRMARK_SERVICE__CACHE__KEY"
    ) as caught:
        require_clean(archive, secrets)
    assert CANARY not in str(caught.value)


@pytest.mark.row(53)
def test_no_layer_of_the_built_image_holds_a_secret(
    request: pytest.FixtureRequest, figure: Callable[[str], None], root: Path
) -> None:
    tag = request.config.getoption("--image")
    if tag is None:
        pytest.skip("make image && make reliability IMAGE=fairmark:cpu")
    assert secrets_here(os.environ, root / ".make"), "without a secret of this machine's nothing would be looked for"
    figure(check_layers(find_engine(), tag))
