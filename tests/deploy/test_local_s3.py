import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from deploy import local_s3, weed

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("local-s3") / "state"
    yield path
    local_s3.stop(path, patience_s=0)


def command(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "deploy.local_s3", *words], capture_output=True, text=True, timeout=120
    )


def test_server_starts_once_keeps_objects_through_a_kill_and_stops(folder: Path):
    first = local_s3.start(folder, usual_ports=False)
    assert local_s3.start(folder).pid == first.pid
    first.client().put_object(Bucket="fairmark", Key="a/b", Body=b"kept")

    os.kill(first.pid, signal.SIGKILL)
    second = local_s3.start(folder, usual_ports=False)
    assert second.pid != first.pid
    assert second.secret_key == first.secret_key
    assert second.client().get_object(Bucket="fairmark", Key="a/b")["Body"].read() == b"kept"

    assert local_s3.stop(folder, patience_s=0)
    assert local_s3.status(folder) is None
    assert not local_s3.stop(folder)


def test_usual_ports_that_are_taken_give_way_to_free_ones():
    taken = weed.bind(0)
    wanted = dict.fromkeys(weed.USUAL_PORTS, taken.getsockname()[1])
    chosen = weed.choose_ports(wanted)
    taken.close()
    assert len(set(chosen.values())) == len(weed.USUAL_PORTS)
    assert not set(chosen.values()) & set(wanted.values())


def test_secrets_lie_in_files_that_only_their_owner_reads(folder: Path):
    server = local_s3.start(folder, usual_ports=False)
    holders = [path for path in folder.glob("*") if path.is_file() and server.secret_key in path.read_text()]
    assert {path.name for path in holders} == {"s3.json", "env"}
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in holders)
    assert server.secret_key not in repr(server)


def test_command_prints_settings_on_stdout_only_while_the_server_runs(folder: Path):
    server = local_s3.start(folder, usual_ports=False)
    shown = command("env", "--folder", str(folder))
    assert shown.returncode == 0
    assert f"AWS_ENDPOINT_URL_S3={server.endpoint}\n" in shown.stdout
    assert "FAIRMARK_STORE__URL=s3://fairmark\n" in shown.stdout

    local_s3.stop(folder, patience_s=0)
    stopped = command("status", "--folder", str(folder))
    assert stopped.returncode == 1
    assert stopped.stdout == ""
    assert "start it with" in stopped.stderr


def test_a_server_that_ends_at_once_is_an_error_that_names_its_log(tmp_path: Path):
    (tmp_path / "s3.json").write_text(json.dumps({"identities": [{"credentials": [{"secretKey": 7}]}]}))
    result = command("start", "--folder", str(tmp_path), "--free-ports")
    assert result.returncode == 1
    assert "weed.log" in result.stderr.splitlines()[-1]


def test_a_folder_that_cannot_be_made_is_an_error_in_one_line(tmp_path: Path):
    (tmp_path / "data").write_text("a file where a folder belongs")
    result = command("start", "--folder", str(tmp_path), "--free-ports")
    assert result.returncode == 1
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
