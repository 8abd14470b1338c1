"""`fairmark batch --engine ray` on a cluster of three nodes on this machine, of which one is lost, and a kill.

`make ray-check` runs it, and not the suite: Ray gives each of a node's helpers 15 s to start, which a busy machine does
not keep, and takes as much of the disk as a tenth of the environment.
"""

import csv
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fairmark.client import Client
from fairmark.progress import Progress
from fairmark.ray_engine import AskOnNode, connect, score_on_ray
from fairmark.results import CsvLines, ResultFile
from fairmark.sources import Columns, essays_of
from tests.made_essays import made_essay
from tests.serving.processes import free_port

# Ray warns of its own settings when it makes them, and leaves sockets to the collector.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.environ.get("RAY_CHECK") != "1", reason="make ray-check"),
    *(
        pytest.mark.filterwarnings(f"ignore::{kind}")
        for kind in ("DeprecationWarning", "FutureWarning", "ResourceWarning")
    ),
]
NUM_ESSAYS = int(os.environ.get("RAY_ESSAYS", "288"))
HOLD = max(96, NUM_ESSAYS // 20)
"""Essays that go through the cluster before their results are written: so much is there to be lost."""
NUM_COMPARED = 288
READY_S = 600


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head that scores nothing, and two nodes of one core."""
    # Half a minute by itself, which a busy machine needs for Ray's half a dozen processes.
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_raylet_start_wait_time_s": "180"}
    import ray
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 0, "include_dashboard": False, "include_log_monitor": False, "no_monitor": True, **ports()}
    started = Cluster(initialize_head=True, head_node_args=head)
    started.add_node(num_cpus=1, **ports())
    connect(started.address)
    yield started
    ray.shutdown()
    started.shutdown()


def ports() -> dict[str, int]:
    """Of a node's helpers. Where Ray must find them by itself, it gives up after 15 s, however busy the machine is."""
    names = ("metrics_agent_port", "metrics_export_port", "dashboard_agent_listen_port", "runtime_env_agent_port")
    return {name: free_port() for name in names}


def table_of(folder: Path, number: int, name: str = "essays.csv") -> Path:
    """So many essays, every fortieth too short to be scored."""
    path = folder / name
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["essay_id", "essay"])
        writer.writerows((f"essay-{n}", "Too short." if n % 40 == 39 else made_essay(n)) for n in range(number))
    return path


def rows_of(out: Path) -> list[dict[str, str]]:
    with out.open(newline="") as file:
        return list(csv.DictReader(file))


def require_each_once(out: Path, number: int, address: str) -> None:
    """Every essay has its line, once and in its place; the first ones have what a run without Ray gives them."""
    rows = rows_of(out)
    assert [row["essay_id"] for row in rows] == [f"essay-{n}" for n in range(number)]
    assert [n for n, row in enumerate(rows) if row["error"]] == [n for n in range(number) if n % 40 == 39]
    alone = out.with_name("alone.csv")
    few = table_of(out.parent, min(number, NUM_COMPARED), "few.csv")
    command = [sys.executable, "-m", "fairmark", "batch", str(few), "--out", str(alone), *ASKED, "--url", address]
    subprocess.run(command, capture_output=True)
    assert {n for n, one in enumerate(rows_of(alone)) if one != rows[n]} == set()


ASKED = ("--prompt", "asap-1", "--model", "lexical")


def test_a_node_that_is_lost_costs_no_essay_and_doubles_none(
    cluster: Any, address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], figure: Callable[[str], None]
) -> None:
    number = NUM_ESSAYS
    lost = cluster.add_node(num_cpus=1, **ports())
    table, out = table_of(tmp_path, number), tmp_path / "scores.csv"
    with Client(address) as service:
        ask = AskOnNode(address, service.status().limits, "lexical", 60)
    sink = ResultFile(out, CsvLines("lexical"))
    essays = essays_of([table], prompt_id="asap-1", columns=Columns())
    work = threading.Thread(target=score_on_ray, args=(ask, essays, sink, Progress(number), 4), kwargs={"hold": HOLD})
    started = time.monotonic()
    work.start()
    wait_for_lines(out, HOLD, lambda: work.is_alive())
    cluster.remove_node(lost, allow_graceful=False)
    work.join(READY_S)
    took_s = time.monotonic() - started
    assert not work.is_alive()
    sink.close()
    # Both nodes had their part, the lost one before it was lost.
    assert "ray: 2 nodes scored" in capsys.readouterr().err
    require_each_once(out, number, address)
    figure(f"{number} essays on Ray, one of two nodes lost: each once, {number / took_s:.0f} a second")


def test_a_killed_command_goes_on_behind_what_is_written(cluster: Any, address: str, tmp_path: Path) -> None:
    number = NUM_ESSAYS
    table, out = table_of(tmp_path, number), tmp_path / "scores.csv"
    command = [sys.executable, "-m", "fairmark", "batch", str(table), "--out", str(out), *ASKED]
    command += ["--engine", "ray", "--ray-address", cluster.address, "--hold", str(HOLD)]
    environment = {**os.environ, "FAIRMARK_URL": address}
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as process:
        wait_for_lines(out, HOLD, lambda: process.poll() is None)
        process.send_signal(signal.SIGKILL)
    done = len(rows_of(out))
    assert HOLD <= done < number
    again = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=READY_S)
    assert again.returncode == 1, again.stderr  # some are too short
    assert f"{number:,} essays in {out}, {done:,} of them by an earlier run" in again.stderr
    require_each_once(out, number, address)


def test_a_service_that_is_away_ends_the_run_with_its_name(cluster: Any, address: str, tmp_path: Path) -> None:
    from fairmark.errors import ServiceAway

    with Client(address) as service:
        ask = AskOnNode("http://127.0.0.1:1", service.status().limits, "lexical", 0)
    essays = essays_of([table_of(tmp_path, 20)], prompt_id="asap-1", columns=Columns())
    sink = ResultFile(tmp_path / "scores.csv", CsvLines("lexical"))
    with pytest.raises(ServiceAway, match=r"127\.0\.0\.1:1"):
        score_on_ray(ask, essays, sink, Progress(20), 2, hold=HOLD)
    sink.close()
    assert rows_of(tmp_path / "scores.csv") == []


def wait_for_lines(out: Path, number: int, goes_on: Callable[[], bool]) -> None:
    deadline = time.monotonic() + READY_S
    while not out.exists() or out.read_bytes().count(b"\n") - 1 < number:
        assert goes_on()
        assert time.monotonic() < deadline
        time.sleep(0.05)
