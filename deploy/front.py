"""`make front`: two instances of the service behind nginx with TLS and API keys, on this machine, by one command."""

import hashlib
import json
import os
import pwd
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from deploy.beside import Beside
from deploy.nginx.certificate import VALID_DAYS, make_certificate
from deploy.nginx.program import nginx_running
from deploy.nginx.site import Site, write_site
from deploy.nginx.watch import watching
from deploy.processes import UpFailed, running
from deploy.service import serve_command, wait_until_ready
from deploy.times import Times
from essays.console import say
from essays.settings import FILE_VARIABLE, SETTINGS_FILE

FOLDER = Path(".make/front")
KEY_FILE = FOLDER / "api-key"
HOST, LOOPBACK = "localhost", "127.0.0.1"
_STATIC_FOLDER = Path(__file__).parents[1] / "serving" / "web" / "static"
_ACCESS_VARIABLE = "FAIRMARK_SERVICE__ACCESS__"
_LOOK_S = 0.5


@contextmanager
def front_running(
    https_port: int, ports: Sequence[int], environment: Mapping[str, str], times: Times
) -> Iterator[list[subprocess.Popen[bytes]]]:
    """All of it, ready, while the block lasts: nginx first, then an instance for each port. Raises UpFailed."""
    site = local_site(https_port, ports)
    _make_files(site)
    environment = {**environment, **access_environment(environment)}
    with ExitStack() as stack:
        instances = [
            stack.enter_context(running(serve_command(LOOPBACK, port), _own(environment, port))) for port in ports
        ]
        with times.step("service"):
            for port, instance in zip(ports, instances, strict=True):
                wait_until_ready(f"http://{LOOPBACK}:{port}", instance.poll)
        nginx = stack.enter_context(nginx_running(site, environment))
        stack.enter_context(watching(site))
        yield [nginx, *instances]


def wait_for_end(programs: Sequence[subprocess.Popen[bytes]], beside: Sequence[Beside] = ()) -> None:
    """Return never: raises UpFailed when nginx, one of those beside or the last instance ended by itself.

    Says it of each instance.
    """
    nginx, *instances = programs
    while instances:
        time.sleep(_LOOK_S)
        if (code := nginx.poll()) is not None:
            raise UpFailed(f"nginx ended by itself with code {code}; see {FOLDER / 'error.log'}")
        for other in beside:
            if (code := other.process.poll()) is not None:
                raise UpFailed(f"{other.name} ended by itself with code {code}; see {other.log}")
        for instance in [each for each in instances if each.poll() is not None]:
            instances.remove(instance)
            say(f"warning: an instance ended by itself with code {instance.returncode}; {len(instances)} left")
    raise UpFailed("every instance ended by itself; their last words stand above")


def local_site(https_port: int, ports: Sequence[int]) -> Site:
    """The site of this machine alone."""
    folder = FOLDER.absolute()
    return Site(
        folder=folder,
        server_names=(HOST,),
        instances=tuple(f"{LOOPBACK}:{port}" for port in ports),
        certificate_file=folder / "certificate.pem",
        private_key_file=folder / "private.pem",
        static_folder=_STATIC_FOLDER,
        listen_hosts=(LOOPBACK,),
        https_port=https_port,
        http_port=None,
        # As whoever starts it: nobody else may look into this checkout.
        user=pwd.getpwuid(os.geteuid()).pw_name if os.geteuid() == 0 else None,
        # A browser would remember it for every port of localhost.
        hsts_s=0,
    )


def access_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """An API key for this machine, made once and left in a file; nothing where settings say who may."""
    if any(name.startswith(_ACCESS_VARIABLE) for name in environment) or _file_says_who_may():
        return {}
    if not KEY_FILE.exists():
        command = [sys.executable, "-m", "serving.access", "--name", "local", "--scope", "score", "--scope", "admin"]
        made = subprocess.run(command, env=dict(environment), check=True, capture_output=True, text=True)
        with os.fdopen(os.open(KEY_FILE, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(made.stdout)
    digest = hashlib.sha256(KEY_FILE.read_bytes().strip()).hexdigest()
    keys = [{"name": "local", "sha256": digest, "scopes": ["score", "admin"]}]
    say(f"access: the API key is in {KEY_FILE}")
    return {f"{_ACCESS_VARIABLE}REQUIRED": "true", f"{_ACCESS_VARIABLE}KEYS": json.dumps(keys)}


def _file_says_who_may() -> bool:
    path = Path(os.environ.get(FILE_VARIABLE) or SETTINGS_FILE)
    return path.exists() and "access" in tomllib.loads(path.read_text("utf-8")).get("service", {})


def _own(environment: Mapping[str, str], port: int) -> dict[str, str]:
    """An embedded cache belongs to one instance."""
    return {"FAIRMARK_SERVICE__CACHE__FOLDER": f"out/cache/{port}", **environment}


def _make_files(site: Site) -> None:
    write_site(site)
    certificate = site.certificate_file
    # Renewed in time: browsers refuse an old one.
    if not certificate.exists() or time.time() - certificate.stat().st_mtime > VALID_DAYS * 80_000:
        make_certificate(HOST, certificate, site.private_key_file)
