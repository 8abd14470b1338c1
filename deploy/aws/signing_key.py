"""The key that signs models, from Secrets Manager into a file that only this user reads."""

import argparse
import os
from pathlib import Path

import boto3

from essays.console import run, wrote
from essays.errors import BadSecret


def main() -> None:
    """Fetch and write."""
    parser = argparse.ArgumentParser(prog="python -m deploy.aws.signing_key", description="Fetch the key that signs.")
    parser.add_argument("--secret", required=True, help="name or ARN of the secret that holds the PEM")
    parser.add_argument("--into", type=Path, required=True, help="the file to write; it must not be there")
    options = parser.parse_args()
    run(lambda: fetch(options.secret, options.into))


def fetch(secret: str, into: Path) -> None:
    """Raises BadSecret where there is no private key in the secret; its value is never shown."""
    value = boto3.client("secretsmanager").get_secret_value(SecretId=secret).get("SecretString", "")
    if "PRIVATE KEY-----" not in value:
        raise BadSecret(f"secret {secret!r}: expected the PEM of a private key (docs/deployment.md)")
    with os.fdopen(os.open(into, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(value)
    wrote(into)


if __name__ == "__main__":
    main()
