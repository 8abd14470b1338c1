"""A store in S3: AWS, or any other endpoint that speaks it, through boto3."""

import os
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    PartialCredentialsError,
)
from botocore.exceptions import (
    ConnectionError as NotConnected,
)

from essays.backoff import Backoff
from essays.errors import DigestMismatch, ObjectMissing, PreconditionFailed, StoreDenied, StoreError, StoreUnreachable
from essays.settings import StoreSettings
from essays.store import MAX_READ_BYTES, Blob, ObjectInfo, OnProgress, require_plain_key, require_size

_DEFAULT_REGION = "us-east-1"
_CHUNK_BYTES = 1 << 18
_RANGE_BYTES = 8 << 20
"""One request's share of a download: no more than this is ever fetched twice."""
_DENIED = {"403", "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken"}
_MISSING = {"404", "NoSuchKey", "NotFound"}
_LOST = {"412", "PreconditionFailed", "409", "ConditionalRequestConflict"}
# The object is no longer the one whose ETag was read; a shorter one has no such range.
_CHANGED = {*_LOST, "416", "InvalidRange"}
# What a connection that breaks in the middle of a body raises.
_BROKEN = (NotConnected, HTTPClientError, IncompleteReadError)


class S3Store:
    """Objects below `s3://BUCKET/PREFIX`. boto3 repeats a request that fails for want of an answer, with pauses."""

    def __init__(self, settings: StoreSettings) -> None:
        parts = urlsplit(settings.url)
        self.url = settings.url
        self.bucket = parts.netloc
        self.prefix = parts.path.strip("/") + "/" if parts.path.strip("/") else ""
        self.max_attempts = settings.max_attempts
        self.backoff = Backoff()
        self.client = _client(settings)
        self.where = f"{self.url} at {self.client.meta.endpoint_url}"

    def read(self, key: str) -> Blob:
        """See `Store`."""
        with self._explained(key):
            answer = self.client.get_object(Bucket=self.bucket, Key=self._full(key))
            with closing(answer["Body"]) as body:
                require_size(key, answer["ContentLength"], size_bytes=None, max_bytes=MAX_READ_BYTES)
                return Blob(body.read(), answer["ETag"])

    def put_bytes(self, key: str, content: bytes, *, if_match: str | None = None, if_none_match: bool = False) -> str:
        """See `Store`."""
        condition = {"IfMatch": if_match} if if_match is not None else {"IfNoneMatch": "*"} if if_none_match else {}
        with self._explained(key):
            answer = self.client.put_object(
                Bucket=self.bucket, Key=self._full(key), Body=content, ChecksumAlgorithm="SHA256", **condition
            )
        return str(answer["ETag"])

    def head(self, key: str) -> ObjectInfo:
        """See `Store`."""
        with self._explained(key):
            answer = self.client.head_object(Bucket=self.bucket, Key=self._full(key))
        return ObjectInfo(key, answer["ContentLength"], answer["ETag"], answer["Metadata"].get("sha256"))

    def exists(self, key: str) -> bool:
        """See `Store`."""
        try:
            self.head(key)
        except ObjectMissing:
            return False
        return True

    def list_keys(self, prefix: str = "") -> list[str]:
        """See `Store`."""
        pages = self.client.get_paginator("list_objects_v2")
        with self._explained(prefix):
            found = [
                entry["Key"].removeprefix(self.prefix)
                for page in pages.paginate(Bucket=self.bucket, Prefix=self.prefix + prefix)
                for entry in page.get("Contents", [])
            ]
        return sorted(found)

    def download(
        self,
        key: str,
        path: Path,
        *,
        max_bytes: int,
        size_bytes: int | None = None,
        on_progress: OnProgress | None = None,
    ) -> None:
        """See `Store`; an object that changes on the way is fetched again from its first byte: two are never mixed."""
        info = self._promised(key, size_bytes=size_bytes, max_bytes=max_bytes)
        with self._explained(key), path.open("wb") as target:
            failures = changes = 0
            while target.tell() < info.size_bytes:
                try:
                    self._fetch_range(info, target, on_progress)
                    failures = 0
                except _BROKEN:
                    failures += 1
                    if failures == self.max_attempts:
                        raise
                    time.sleep(self.backoff.pause_s(failures))
                except ClientError as error:
                    changes += 1
                    if _code(error) not in _CHANGED or changes == self.max_attempts:
                        raise
                    target.seek(0)
                    target.truncate()
                    info = self._promised(key, size_bytes=size_bytes, max_bytes=max_bytes)

    def upload(self, path: Path, key: str, sha256: str, on_progress: OnProgress | None = None) -> None:
        """See `Store`; large files go up in parts."""
        total, done = path.stat().st_size, 0

        def count(sent: int) -> None:
            nonlocal done
            done += sent
            if on_progress:
                on_progress(done, total)

        with self._explained(key), path.open("rb") as source:
            # Not `upload_file`, which hides the reason of a refusal in an exception of its own.
            self.client.upload_fileobj(
                source,
                self.bucket,
                self._full(key),
                ExtraArgs={"Metadata": {"sha256": sha256}, "ChecksumAlgorithm": "SHA256"},
                Callback=count,
                # One thread, so that the count needs no lock; one connection fills a disk or a line.
                Config=TransferConfig(use_threads=False),
            )

    def _promised(self, key: str, *, size_bytes: int | None, max_bytes: int) -> ObjectInfo:
        info = self.head(key)
        require_size(key, info.size_bytes, size_bytes=size_bytes, max_bytes=max_bytes)
        return info

    def _fetch_range(self, info: ObjectInfo, target: IO[bytes], on_progress: OnProgress | None) -> None:
        """Append the next range of the object to `target`, or as much of it as comes."""
        done = target.tell()
        end = min(done + _RANGE_BYTES, info.size_bytes)
        answer = self.client.get_object(
            Bucket=self.bucket, Key=self._full(info.key), IfMatch=info.etag, Range=f"bytes={done}-{end - 1}"
        )
        for chunk in answer["Body"].iter_chunks(_CHUNK_BYTES):
            done += len(chunk)
            if done > end:
                raise DigestMismatch(f"{self.where}: {info.key} sends more than was asked for; is a proxy in between?")
            target.write(chunk)
            if on_progress:
                on_progress(done, info.size_bytes)

    def _full(self, key: str) -> str:
        require_plain_key(key)
        return self.prefix + key

    @contextmanager
    def _explained(self, key: str) -> Iterator[None]:
        try:
            yield
        except ClientError as error:
            raise self._explain(key, error) from error
        except (NoCredentialsError, PartialCredentialsError) as error:
            raise StoreDenied(
                f"{self.where}: no credentials; set store.access_key_id and store.secret_access_key"
                " (FAIRMARK_STORE__…), AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give this machine a role"
            ) from error
        except _BROKEN as error:
            raise StoreUnreachable(
                f"{self.where}: nobody answers ({type(error).__name__}) after {self.max_attempts} tries;"
                " is the store running, and is its address right?"
            ) from error
        except BotoCoreError as error:
            raise StoreError(f"{self.where}: {key}: {error}") from error

    def _explain(self, key: str, error: ClientError) -> StoreError:
        code = _code(error)
        if code == "NoSuchBucket":
            return ObjectMissing(f"{self.where}: there is no bucket {self.bucket!r}; create it or correct store.url")
        if code in _MISSING:
            return ObjectMissing(f"{self.where}: no object {key}; publish it first, or correct store.url")
        if code in _DENIED:
            return StoreDenied(f"{self.where}: {key}: access denied ({code}); check the store's keys and their rights")
        if code in _LOST:
            return PreconditionFailed(f"{self.where}: {key}: somebody else wrote it first; look at it and try again")
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        kind = StoreUnreachable if status >= 500 else StoreError
        return kind(f"{self.where}: {key}: {error.operation_name} failed: {code} (HTTP {status})")


def _client(settings: StoreSettings) -> Any:
    secret = settings.secret_access_key
    session = boto3.session.Session()
    return session.client(
        "s3",
        endpoint_url=settings.endpoint_url,
        region_name=settings.region or session.region_name or _DEFAULT_REGION,
        aws_access_key_id=settings.access_key_id,
        aws_secret_access_key=secret.get_secret_value() if secret else None,
        config=Config(
            connect_timeout=settings.connect_timeout_s,
            read_timeout=settings.read_timeout_s,
            retries={"mode": "standard", "total_max_attempts": settings.max_attempts},
            # Hosts other than AWS rarely answer to BUCKET.HOST.
            s3={"addressing_style": "path" if _has_own_endpoint(settings) else "auto"},
        ),
    )


def _has_own_endpoint(settings: StoreSettings) -> bool:
    return bool(settings.endpoint_url or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL"))


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", "unknown"))
