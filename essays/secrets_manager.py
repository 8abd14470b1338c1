"""One JSON secret from AWS Secrets Manager, read once at start. Errors name its id and never its value."""

import json
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError

from essays.errors import BadSecret

_DENIED = "access is denied; allow secretsmanager:GetSecretValue on it for this machine's role"
_ADVICE = {
    "ResourceNotFoundException": "it does not exist in this region; create it or correct secrets.id",
    "AccessDeniedException": _DENIED,
    # Where the answer has no code of AWS's, botocore gives HTTP's.
    "403": _DENIED,
    "DecryptionFailure": "it cannot be decrypted; allow kms:Decrypt on its key for this machine's role",
    "InvalidRequestException": "it cannot be read as it is, for instance because it is scheduled for deletion",
}


def read_secret(
    secret_id: str, *, region: str | None = None, endpoint_url: str | None = None, timeout_s: float = 5.0
) -> dict[str, Any]:
    """The secret's JSON object. Raises BadSecret."""
    try:
        client = boto3.session.Session().client(
            "secretsmanager",
            region_name=region,
            endpoint_url=endpoint_url,
            config=Config(
                connect_timeout=timeout_s, read_timeout=timeout_s, retries={"mode": "standard", "total_max_attempts": 3}
            ),
        )
        answer = client.get_secret_value(SecretId=secret_id)
    except ClientError as error:
        code = error.response["Error"]["Code"]
        raise BadSecret(f"secret {secret_id!r}: {_ADVICE.get(code, f'AWS answers {code}')}") from None
    except (NoCredentialsError, PartialCredentialsError):
        raise BadSecret(f"secret {secret_id!r}: no AWS credentials to read it with; give this machine a role") from None
    except (BotoCoreError, ValueError) as error:
        where = endpoint_url or f"region {region or 'of the environment'}"
        raise BadSecret(f"secret {secret_id!r}: Secrets Manager ({where}) cannot be asked: {error}") from None
    return _parse(secret_id, answer.get("SecretString"))


def _parse(secret_id: str, text: str | None) -> dict[str, Any]:
    if text is None:
        raise BadSecret(f"secret {secret_id!r}: it is binary; expected a JSON object")
    try:
        value = json.loads(text)
    except ValueError:
        # Not chained: the decoder's error holds the whole document.
        raise BadSecret(f"secret {secret_id!r}: it is not JSON; expected an object of settings") from None
    if not isinstance(value, dict):
        raise BadSecret(f"secret {secret_id!r}: expected a JSON object of settings, found {type(value).__name__}")
    return value
