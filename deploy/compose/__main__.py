"""Makes what deploy/compose.yaml reads and git must not hold: passwords, keys, a certificate for trying it out.

Files that are there stay as they are, so that it may be run again; a certificate of an authority's goes in their place.
Nobody else on this machine gets into the folder. Two files in it may be read by all, because containers read them whose
user is not root: compose mounts secrets with the modes that they have here.
"""

import argparse
import hashlib
import json
import os
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path

from deploy import local_s3, up
from deploy.nginx.certificate import make_certificate
from essays.console import EXIT_DONE, EXIT_FAILED, say
from essays.errors import FairmarkError
from essays.signatures import make_key_pair

FOLDER = Path(".make/compose")
_KEY_BYTES = 32


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m deploy.compose", description="Secrets for deploy/compose.yaml.")
    parser.add_argument("--server-name", default="localhost", help="host that the certificate is for (%(default)s)")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where they lie (%(default)s)")
    options = parser.parse_args()
    try:
        make_files(options.folder, options.server_name, up.SIGNING_FOLDER)
    except FairmarkError as error:
        say(f"error: {error}")
        return EXIT_FAILED
    say(f"wrote {options.folder}; the API key is in {options.folder / 'api-key'}")
    return EXIT_DONE


def make_files(folder: Path, server_name: str, signing_folder: Path) -> None:
    """Everything that compose.yaml names below .make."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    if not (signing_folder / "public.pem").exists():
        make_key_pair(signing_folder / "private.pem", signing_folder / "public.pem")
    if not (folder / "certificate.pem").exists():
        make_certificate(server_name, folder / "certificate.pem", folder / "private.pem")
    password, api_key = _secret(folder / "postgresql-password"), _secret(folder / "api-key")
    _secret(folder / "grafana-password")
    secret_key = local_s3.secret_key_of(folder)
    for name in ("grafana-password", "s3.json"):
        (folder / name).chmod(0o644)
    store = local_s3.LocalS3(0, "", local_s3.BUCKET, local_s3.ACCESS_KEY, secret_key)
    database = f"postgresql://fairmark:{password}@postgresql"
    inside = {**store.environment(), "AWS_ENDPOINT_URL_S3": "http://s3:8333"}
    keys = [{"name": "first", "sha256": hashlib.sha256(api_key.encode()).hexdigest(), "scopes": ["score", "admin"]}]
    _write(
        folder / "service.env",
        {
            **inside,
            "FAIRMARK_SERVICE__CACHE__STORE": f"{database}/cache",
            "FAIRMARK_SERVICE__ACCESS__REQUIRED": "true",
            "FAIRMARK_SERVICE__ACCESS__KEYS": json.dumps(keys),
            "FAIRMARK_SIGNING__PUBLIC_KEY_FILE": "/run/secrets/signing-key",
        },
    )
    mlflow = {"MLFLOW_BACKEND_STORE_URI": f"{database.replace('://', '+psycopg://', 1)}/mlflow"}
    _write(folder / "mlflow.env", {**inside, **mlflow, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"})
    outside = {
        **store.environment(),
        "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:8333",
        "FAIRMARK_SIGNING__PRIVATE_KEY_FILE": str((signing_folder / "private.pem").absolute()),
        "MLFLOW_TRACKING_URI": "http://127.0.0.1:5000",
    }
    _write(folder / "host.env", outside)


def _secret(path: Path) -> str:
    """The secret in this file, made where there is none."""
    if not path.exists():
        _private(path, secrets.token_urlsafe(_KEY_BYTES))
    return path.read_text("utf-8").strip()


def _write(path: Path, variables: Mapping[str, str]) -> None:
    path.unlink(missing_ok=True)
    _private(path, "".join(f"{name}={value}\n" for name, value in variables.items()))


def _private(path: Path, text: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)


if __name__ == "__main__":
    sys.exit(main())
