"""`make stack`: all that a site runs, on this machine and without Docker, by one command.

nginx before two instances of the service, PostgreSQL (the cache that both share, and MLflow's runs), SeaweedFS (models,
and MLflow's artifacts), MLflow's server, Prometheus with the alerts. Ctrl-C stops all of it; what they keep lies below
`.make/` and is there again next time. The models are those that `make up` published.
"""

import argparse
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from deploy import front, local_postgres, local_s3, up
from deploy.beside import Beside
from deploy.mlflow_server import mlflow_running
from deploy.processes import UpFailed, end, left_behind, only_one
from deploy.prometheus.program import prometheus_running
from deploy.times import Times
from essays.console import EXIT_DONE, EXIT_FAILED, EXIT_MISUSED, say
from essays.errors import BadParams, FairmarkError
from essays.ports import describe
from essays.settings import Settings, load_settings

FOLDER = Path(".make/stack")
CACHE_VARIABLE = "FAIRMARK_SERVICE__CACHE__STORE"
_DATABASES = ("cache", "mlflow")
_LOOPBACK = "127.0.0.1"
_MLFLOW_WORD = "--backend-store-uri=postgresql+psycopg://"


@dataclass(frozen=True)
class Ports:
    """Where what listens, on loopback; SeaweedFS and PostgreSQL choose free ones."""

    https: int
    services: tuple[int, ...]
    mlflow: int
    prometheus: int

    @property
    def all(self) -> list[int]:
        """Every one that must be free."""
        return [self.https, *self.services, self.mlflow, self.prometheus]


def main() -> int:
    """The command line; 0 ran and stopped, 1 failed, 2 misused, 130 interrupted on the way."""
    options = _parse()
    up.STATE.mkdir(exist_ok=True)
    if options.down:
        return down()
    ports = Ports(options.https_port, (options.port, options.port + 1), options.mlflow_port, options.prometheus_port)
    for number in up.STOP_SIGNALS:
        signal.signal(number, up.interrupt)
    times = Times()
    try:
        for port in ports.all:
            up.require_free(port, "make stack PORT=… HTTPS_PORT=… (python -m deploy.stack --help names all)")
        with only_one(up.LOCK_FILE), up.object_store(times, keep=False) as environment:
            _run(ports, environment, times, exit_when_ready=options.exit_when_ready)
    except BadParams as error:
        say(f"error: {error}")
        return EXIT_MISUSED
    except (FairmarkError, local_s3.LocalS3Error, local_postgres.LocalPostgresError) as error:
        say(f"error: {error}")
        return EXIT_FAILED
    except KeyboardInterrupt:
        say("stopped")
        return up.INTERRUPTED
    return EXIT_DONE


@contextmanager
def stack_running(
    ports: Ports, environment: Mapping[str, str], times: Times
) -> Iterator[tuple[list[subprocess.Popen[bytes]], list[Beside]]]:
    """All of it, ready, while the block lasts: nginx and the instances, and what runs beside. Raises UpFailed."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    instances = [f"{_LOOPBACK}:{port}" for port in ports.services]
    with ExitStack() as stack:
        with times.step("postgresql"):
            server = stack.enter_context(local_postgres.started(FOLDER / "postgresql", keep=True))
            urls = _databases(server)
        environment = {CACHE_VARIABLE: urls["cache"], **environment}
        mlflow = stack.enter_context(
            mlflow_running(FOLDER / "mlflow", ports.mlflow, urls["mlflow"], _bucket(environment), environment)
        )
        prometheus = stack.enter_context(
            prometheus_running(FOLDER / "prometheus", ports.prometheus, instances, environment)
        )
        programs = stack.enter_context(front.front_running(ports.https, ports.services, environment, times))
        for program in (prometheus, mlflow):
            with times.step(program.name):
                program.wait_until_ready()
        yield programs, [mlflow, prometheus]


def down() -> int:
    """End what a `make stack` or `make up` that was killed left behind."""
    for word in (str(FOLDER.absolute()), _MLFLOW_WORD):
        for pid in left_behind(word, Path.cwd()):
            say(f"stack: stopping {describe(pid)}")
            end(pid)
    if server := local_postgres.left_running(FOLDER / "postgresql"):
        say(f"stack: stopping {describe(server)}")
        end(server)
    return up.down()


def _run(ports: Ports, environment: Mapping[str, str], times: Times, *, exit_when_ready: bool) -> None:
    with stack_running(ports, environment, times) as (programs, others):
        up.report(times)
        say(f"page and API  https://{front.HOST}:{ports.https}  (key in {front.KEY_FILE})")
        say(f"MLflow        http://{_LOOPBACK}:{ports.mlflow}  (MLFLOW_TRACKING_URI)")
        say(f"Prometheus    http://{_LOOPBACK}:{ports.prometheus}")
        say("ready: Ctrl-C stops all of it")
        if exit_when_ready:
            return
        try:
            front.wait_for_end(programs, others)
        except KeyboardInterrupt:
            say("stopping")


def _databases(server: str) -> dict[str, str]:
    """Addresses of our databases, made where they are missing."""
    with psycopg.connect(server, autocommit=True) as connection:
        there = {name for (name,) in connection.execute("SELECT datname FROM pg_database")}
        for name in set(_DATABASES) - there:
            connection.execute(f'CREATE DATABASE "{name}"')
    return {name: f"{server.rpartition('/')[0]}/{name}" for name in _DATABASES}


def _bucket(environment: Mapping[str, str]) -> str:
    url = environment.get("FAIRMARK_STORE__URL") or load_settings(Settings).store.url
    if not url.startswith("s3://"):
        raise UpFailed(f"store.url is {url}; the stack keeps MLflow's artifacts beside the models, in an s3:// bucket")
    return url


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m deploy.stack", description="All that a site runs, without Docker.")
    parser.add_argument("--https-port", type=int, default=8443, help="nginx (%(default)s)")
    parser.add_argument("--port", type=int, default=3000, help="two instances, here and at the next port (%(default)s)")
    parser.add_argument("--mlflow-port", type=int, default=5000, help="MLflow (%(default)s)")
    parser.add_argument("--prometheus-port", type=int, default=9090, help="Prometheus (%(default)s)")
    parser.add_argument("--exit-when-ready", action="store_true", help="stop everything once all of it is ready")
    parser.add_argument("--down", action="store_true", help="only stop what a killed `make stack` left running")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
