"""Caches on both stores: a file of the test's own, and a real PostgreSQL that the tests share."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from deploy import local_postgres
from essays.text import normalize_text
from serving.cache.result_cache import Pending, ResultCache
from serving.cache.rows import Space
from serving.cache.settings import CacheSettings
from serving.inference import Run

ESSAY = (
    "My school is small, and I like it. The teachers know every pupil by name, so when somebody is sad they see it."
    " However we have no laboratory, and I want to learn chemistry. People say a big school has more to offer."
)
SLIP = ESSAY.replace("laboratory", "laboratry")


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server that holds one database for each test that asks."""
    with local_postgres.started(tmp_path_factory.mktemp("postgres")) as url:
        yield url


@pytest.fixture
def postgres_url(postgres: str, request: pytest.FixtureRequest) -> str:
    """An empty database."""
    name = f"test_{abs(hash(request.node.nodeid))}"
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'.encode())
        connection.execute(f'CREATE DATABASE "{name}"'.encode())
    return postgres.rpartition("/")[0] + f"/{name}"


@pytest.fixture
def open_cache(tmp_path: Path) -> Iterator[Callable[..., ResultCache]]:
    """Opens caches, by default on one file, and closes them."""
    opened: list[ResultCache] = []

    def open_one(**settings: Any) -> ResultCache:
        cache = ResultCache(CacheSettings(**{"folder": tmp_path / "cache", **settings}))
        opened.append(cache)
        wait_until_searchable(cache)
        return cache

    yield open_one
    for cache in opened:
        if not cache._closed:
            cache.close()


@pytest.fixture(params=["embedded", "postgresql"])
def store_settings(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Settings of each store in turn."""
    if request.param == "embedded":
        return {"store": "embedded"}
    return {"store": request.getfixturevalue("postgres_url")}


def wait_until_searchable(cache: ResultCache) -> None:
    deadline = time.monotonic() + 10
    while cache.store is not None and not cache.searchable:
        assert time.monotonic() < deadline
        time.sleep(0.002)


def space_in(cache: ResultCache, model: str = "tiny", digest: str = "d" * 64, prompt_id: str = "asap-1") -> Space:
    return cache.space(model=model, digest=digest, runtime="cpu", prompt_id=prompt_id, schema=1)


def keep(cache: ResultCache, text: str, space: Space, score: float = 0.5) -> None:
    essay = cache.essay(normalize_text(text))
    run = Run(score, 40, False, tokenize_ms=0.5, infer_ms=80.0)
    cache.keep(Pending(essay, space, input_key=essay.key, run=run))
    cache.settle()


@pytest.fixture
def helpers() -> Any:
    """What the tests of this folder share; tests are no packages, so it cannot be imported."""
    from types import SimpleNamespace

    return SimpleNamespace(
        ESSAY=ESSAY, SLIP=SLIP, space_in=space_in, keep=keep, wait_until_searchable=wait_until_searchable
    )
