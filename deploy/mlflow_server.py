"""MLflow's server as a program of this machine: runs in PostgreSQL, artifacts in S3."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from deploy.beside import Beside, beside

ARTIFACT_PREFIX = "mlflow"


@contextmanager
def mlflow_running(
    folder: Path, port: int, database_url: str, bucket_url: str, environment: Mapping[str, str]
) -> Iterator[Beside]:
    """The server on loopback while the block lasts, not yet ready; its clients need no credentials of the store."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [
        "mlflow",
        "server",
        "--workers=1",
        "--host=127.0.0.1",
        f"--port={port}",
        f"--backend-store-uri={database_url.replace('postgresql://', 'postgresql+psycopg://', 1)}",
        f"--artifacts-destination={bucket_url}/{ARTIFACT_PREFIX}",
    ]
    # Jobs are for its GenAI features, and cost a second process of hundreds of megabytes.
    environment = {**environment, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    address, log = f"http://127.0.0.1:{port}", folder / "mlflow.log"
    with beside("mlflow", command, environment, address=address, health_path="/health", log=log) as started:
        yield started
