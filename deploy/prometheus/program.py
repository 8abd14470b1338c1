"""Prometheus as a program of this machine, asking these instances."""

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from deploy.beside import Beside, beside
from deploy.processes import UpFailed

_HERE = Path(__file__).parent
_KEPT_FOR = "15d"


@contextmanager
def prometheus_running(
    folder: Path, port: int, instances: Sequence[str], environment: Mapping[str, str]
) -> Iterator[Beside]:
    """Prometheus on loopback, with the alerts, while the block lasts. Its data stays in the folder. Raises UpFailed."""
    program = shutil.which("prometheus", path=environment.get("PATH"))
    if program is None:
        raise UpFailed("there is no Prometheus here; on Debian: apt-get install --no-install-recommends prometheus")
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("prometheus.yaml", "alerts.yaml"):
        shutil.copyfile(_HERE / name, folder / name)
    (folder / "targets.json").write_text(json.dumps([{"targets": list(instances)}]) + "\n", "utf-8")
    command = [
        program,
        f"--config.file={folder.absolute() / 'prometheus.yaml'}",
        f"--storage.tsdb.path={folder.absolute() / 'data'}",
        f"--storage.tsdb.retention.time={_KEPT_FOR}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
    ]
    address = f"http://127.0.0.1:{port}"
    log = folder / "prometheus.log"
    with beside("prometheus", command, environment, address=address, health_path="/-/ready", log=log) as started:
        yield started
