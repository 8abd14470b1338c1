"""PostgreSQL on this machine: data that goes, data that stays, and a folder that its user cannot reach."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from deploy import local_postgres


@pytest.fixture
def reachable() -> Iterator[Path]:
    """A folder that other users may enter, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp(prefix="fairmark-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def test_kept_data_is_there_at_the_next_start_and_nothing_runs_in_between(reachable: Path) -> None:
    with local_postgres.started(reachable, keep=True) as url, psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 41 AS number")
        assert local_postgres.left_running(reachable)
    assert local_postgres.left_running(reachable) is None
    with local_postgres.started(reachable, keep=True) as url, psycopg.connect(url) as connection:
        assert connection.execute("SELECT number + 1 FROM kept").fetchone() == (42,)
        assert connection.execute("SHOW fsync").fetchone() == ("on",)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root starts it as another user")
def test_a_folder_that_its_user_cannot_reach_is_named(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(local_postgres.LocalPostgresError, match=r"data: .*nobody does not reach"):
        local_postgres.started(closed, keep=True).__enter__()
