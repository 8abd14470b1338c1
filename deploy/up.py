"""`make up`: from real essays to a served page on this machine, in one command.

Object store, `dvc repro`, publication, `dvc push`, then the service in the foreground until Ctrl-C, which stops all of
it. Run again it finds everything done and serves at once. The Makefile has made the environment before this starts.
"""

import argparse
import hashlib
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from deploy import front, local_s3
from deploy.processes import UpFailed, end, left_behind, only_one, relay, running
from deploy.service import serve_command, wait_until_ready
from deploy.times import StageClock, Times
from essays.console import EXIT_DONE, EXIT_FAILED, EXIT_MISUSED, say
from essays.errors import BadParams, FairmarkError
from essays.ports import describe, owner_of_port
from essays.settings import Settings, load_settings
from essays.signatures import make_key_pair

STATE = Path(".make")
LOCK_FILE = STATE / "up.lock"
ENVIRONMENT_TIME_FILE = STATE / "environment-s"
PUSHED_FILE = STATE / "pushed"
SIGNING_FOLDER = STATE / "signing"
INTERRUPTED = 130
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main() -> int:
    """The command line; 0 served and stopped, 1 failed, 2 misused, 130 interrupted on the way."""
    options = _parse()
    STATE.mkdir(exist_ok=True)
    if options.down:
        return down()
    for number in STOP_SIGNALS:
        signal.signal(number, interrupt)
    times = Times()
    try:
        if options.serve:
            for port in ports_of(options):
                require_free(port)
            with only_one(LOCK_FILE), object_store(times, keep=False) as environment:
                run(options, environment, times)
        else:
            with object_store(times, keep=True) as environment:
                run(options, environment, times)
    except BadParams as error:
        say(f"error: {error}")
        return EXIT_MISUSED
    except FairmarkError as error:
        say(f"error: {error}")
        return EXIT_FAILED
    except local_s3.LocalS3Error as error:
        say(f"error: s3: {error}")
        return EXIT_FAILED
    except KeyboardInterrupt:
        say("stopped")
        return INTERRUPTED
    return EXIT_DONE


def run(options: argparse.Namespace, environment: Mapping[str, str], times: Times) -> None:
    """What the options ask for, in an environment that has its store."""
    if options.served:
        run_served(options.override, environment, times)
    elif options.pipeline:
        run_pipeline(environment, times)
    if options.serve:
        (serve_behind_nginx if options.https_port else serve)(options, environment, times)
    else:
        report(times)


def run_pipeline(environment: Mapping[str, str], times: Times) -> None:
    """`dvc repro`, publication and `dvc push`; ends with the time of each step. Raises UpFailed."""
    clock = StageClock(times)
    say("pipeline: dvc repro")
    try:
        _require("dvc repro", relay(["dvc", "repro"], environment, sys.stdout.buffer, clock.line))
    finally:
        clock.close()
    with times.step("publish --ensure"):
        publish = [sys.executable, "-m", "pipelines.publish", "--ensure"]
        _require("publication", relay(publish, environment, sys.stdout.buffer, _ignore))
    with times.step("dvc push"):
        push(environment)


def run_served(override: str | None, environment: Mapping[str, str], times: Times) -> None:
    """The models of all prompts, trained in a checkout of their own and published in this one's store."""
    reason = ["--override", override] if override else []
    with times.step("served"):
        command = [sys.executable, "-m", "pipelines.served", *reason]
        _require("pipelines.served", relay(command, environment, sys.stdout.buffer, _ignore))


def push(environment: Mapping[str, str]) -> None:
    """Copy what the stages made to DVC's remote, unless this very lock file was pushed there already.

    A remote that refuses does not keep the page from being served, so it is a warning.
    """
    pushed = _digest(Path("dvc.lock").read_bytes() + environment.get("AWS_ENDPOINT_URL_S3", "").encode())
    if PUSHED_FILE.exists() and PUSHED_FILE.read_text("utf-8") == pushed:
        return
    code = relay(["dvc", "push"], environment, sys.stdout.buffer, _ignore)
    if code:
        say(f"warning: dvc push ended with code {code}; what was trained is on this machine alone. Retry: dvc push")
    else:
        PUSHED_FILE.write_text(pushed, "utf-8")


def serve(options: argparse.Namespace, environment: Mapping[str, str], times: Times) -> None:
    """The service, until it ends or we are told to stop. Raises UpFailed when it ends by itself."""
    address = f"http://{options.host}:{options.port}"
    say(f"service: starting at {address}")
    with running(serve_command(options.host, options.port), environment) as process:
        with times.step("service"):
            wait_until_ready(address, process.poll)
        report(times)
        say(f"ready: open {address}  (API at {address}/docs; Ctrl-C stops it)")
        if options.exit_when_ready:
            return
        try:
            code = process.wait()
        except KeyboardInterrupt:
            say("stopping")
            return
    raise UpFailed(f"the service ended by itself with code {code}; its last words stand above")


def serve_behind_nginx(options: argparse.Namespace, environment: Mapping[str, str], times: Times) -> None:
    """Two instances behind nginx, until we are told to stop. Raises UpFailed when they end by themselves."""
    https_port, *ports = ports_of(options)
    say(f"service: starting {len(ports)} instances, on ports {' and '.join(map(str, ports))}")
    with front.front_running(https_port, ports, environment, times) as programs:
        report(times)
        say(f"ready: open https://{front.HOST}:{https_port}  (a certificate of this machine's own; Ctrl-C stops it)")
        if options.exit_when_ready:
            return
        try:
            front.wait_for_end(programs)
        except KeyboardInterrupt:
            say("stopping")


def ports_of(options: argparse.Namespace) -> list[int]:
    """What will be listened at: the service's port, or nginx's and two instances'."""
    if options.https_port:
        return [options.https_port, options.port, options.port + 1]
    return [options.port]


@contextmanager
def object_store(times: Times, keep: bool) -> Iterator[dict[str, str]]:
    """The environment in which every step runs: with the address and credentials of the object store.

    A store that settings name is used as it is; otherwise a local one runs while the block lasts. One that ran before
    outlives the block where `keep` says so. Raises BadParams, LocalS3Error.
    """
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"}
    if has_own_store():
        say("s3: the one that settings name")
        yield environment
        return
    keep = keep and local_s3.status() is not None
    with times.step("s3"):
        server = local_s3.start()
    try:
        yield {**environment, **server.environment(), **signing_environment()}
    finally:
        if not keep:
            # Nothing of ours writes by now, so nothing is worth the 16 s that it takes to say goodbye to itself.
            local_s3.stop(patience_s=0)
            say("s3: stopped")


def signing_environment() -> dict[str, str]:
    """A key pair of this machine's own, made once, with which it signs its models and checks them before serving.

    Nothing where settings name keys. Raises BadParams, BadSecret.
    """
    if load_settings(Settings).signing.model_fields_set:
        return {}
    private_key, public_key = SIGNING_FOLDER.absolute() / "private.pem", SIGNING_FOLDER.absolute() / "public.pem"
    if not public_key.exists():
        private_key.unlink(missing_ok=True)
        make_key_pair(private_key, public_key)
    return {
        "FAIRMARK_SIGNING__PRIVATE_KEY_FILE": str(private_key),
        "FAIRMARK_SIGNING__PUBLIC_KEY_FILE": str(public_key),
    }


def has_own_store() -> bool:
    """Whether the environment, a secret or fairmark.toml says anything about the store. Raises BadParams, BadSecret."""
    named = bool(load_settings(Settings).store.model_fields_set)
    return named or bool({"AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"} & os.environ.keys())


def report(times: Times) -> None:
    """Say how long each step took, and keep it in a file."""
    if ENVIRONMENT_TIME_FILE.exists():
        times.seconds = {"environment": float(ENVIRONMENT_TIME_FILE.read_text("utf-8")), **times.seconds}
        ENVIRONMENT_TIME_FILE.unlink()
    times.write()
    say(times.table())


def require_free(port: int, remedy: str | None = None) -> None:
    """Raises UpFailed naming who listens on this port: before any work, not after twenty minutes."""
    if owner := owner_of_port(port):
        remedy = remedy or f"make up PORT={port + 1}"
        raise UpFailed(f"port {port} is taken by {owner}; stop it, or choose another: {remedy}")


def down() -> int:
    """End what an `up` that was killed left behind: services of this checkout, and its object store."""
    for word in (str(front.FOLDER.absolute()), "bentoml"):
        for pid in left_behind(word, Path.cwd()):
            say(f"service: stopping {describe(pid)}")
            end(pid)
    say("s3: stopped" if local_s3.stop(patience_s=0) else "s3: was not running")
    return EXIT_DONE


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m deploy.up", description="From essays to a served page.")
    parser.add_argument("--host", default="127.0.0.1", help="address to serve at (default: %(default)s)")
    parser.add_argument("--port", type=int, default=3000, help="port to serve at (default: %(default)s)")
    parser.add_argument(
        "--https-port", type=int, help="two instances, at --port and the next, behind nginx at this one, with API keys"
    )
    parser.add_argument("--no-pipeline", dest="pipeline", action="store_false", help="serve what is published already")
    parser.add_argument("--served", action="store_true", help="the models of all prompts instead of params.yaml's")
    parser.add_argument("--override", metavar="REASON", help="with --served: promote against the gate")
    parser.add_argument("--no-serve", dest="serve", action="store_false", help="end when all is published")
    parser.add_argument("--exit-when-ready", action="store_true", help="stop everything once the service is ready")
    parser.add_argument("--down", action="store_true", help="only stop what a killed `make up` left running")
    return parser.parse_args()


def interrupt(_number: int, _frame: FrameType | None) -> None:
    """What a signal to stop does: one KeyboardInterrupt, however many come."""
    # Once is enough: what follows is the stopping, which must not be broken off half way.
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def _require(what: str, code: int) -> None:
    if code:
        raise UpFailed(f"{what} ended with code {code}; its message stands above")


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _ignore(_line: str) -> None:
    """What a step prints that needs no reading by us."""


if __name__ == "__main__":
    sys.exit(main())
