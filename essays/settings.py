"""Settings of a machine: environment, then AWS Secrets Manager, then fairmark.toml, then defaults.

`FAIRMARK_STORE__URL` in the environment is `store.url` in the file and in the secret. What a machine must know stands
here; what a pipeline computes with stands in params.yaml. A package adds a section of its own by a subclass
(`serving.config`); `OTHER_SECTIONS` names those, so that each reader knows a section that is not its own.
"""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from essays.errors import BadParams, BadSecret

SETTINGS_FILE = Path("fairmark.toml")
FILE_VARIABLE = "FAIRMARK_CONFIG"
PREFIX = "FAIRMARK_"
DELIMITER = "__"
OTHER_SECTIONS = frozenset({"service"})


class SettingsSection(BaseModel):
    """A table of fairmark.toml: closed and frozen; not strict, since the environment holds only strings."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, use_attribute_docstrings=True)


class StoreSettings(SettingsSection):
    """Where published models lie, and how to get at them."""

    url: str = "s3://fairmark"
    """`s3://BUCKET`, `s3://BUCKET/PREFIX` or `file:///FOLDER`."""
    endpoint_url: str | None = None
    """Address of an S3 that is not AWS; none leaves it to boto3 (AWS_ENDPOINT_URL_S3, then AWS)."""
    region: str | None = None
    """None leaves it to boto3 (AWS_DEFAULT_REGION, its own files), then us-east-1."""
    access_key_id: str | None = None
    """None leaves both keys to boto3's chain: environment, files, the machine's role."""
    secret_access_key: SecretStr | None = None
    """Belongs to `access_key_id`."""
    connect_timeout_s: float = Field(default=5.0, gt=0)
    """The longest wait for a connection, in seconds."""
    read_timeout_s: float = Field(default=30.0, gt=0)
    """The longest wait for the next bytes, in seconds."""
    max_attempts: int = Field(default=4, ge=1, le=10)
    """How often a request is tried, with growing pauses, before the store counts as unreachable."""

    @field_validator("url")
    @classmethod
    def _known_scheme(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme == "s3" and parts.netloc and not {"@", ":"} & set(parts.netloc):
            return url.rstrip("/")
        if parts.scheme == "file" and not parts.netloc and parts.path.startswith("/"):
            return url
        raise ValueError("expected s3://BUCKET, s3://BUCKET/PREFIX or file:///FOLDER")

    @field_validator("endpoint_url")
    @classmethod
    def _plain_address(cls, url: str | None) -> str | None:
        # Addresses are named in errors and logs, so they must hold no credentials.
        if url is not None and (urlsplit(url).scheme not in ("http", "https") or "@" in urlsplit(url).netloc):
            raise ValueError("expected http://HOST:PORT or https://HOST:PORT, without credentials")
        return url

    @model_validator(mode="after")
    def _keys_together(self) -> "StoreSettings":
        if (self.access_key_id is None) != (self.secret_access_key is None):
            raise ValueError("access_key_id and secret_access_key belong together: set both or neither")
        return self


class SecretsSettings(SettingsSection):
    """The JSON secret in AWS Secrets Manager that holds settings, under the names that fairmark.toml has."""

    id: str | None = None
    """Its name or ARN; none asks nobody."""
    region: str | None = None
    """None leaves it to boto3."""
    endpoint_url: str | None = None
    """Address of a Secrets Manager that is not AWS's own."""
    timeout_s: float = Field(default=5.0, gt=0)
    """The longest wait for a connection and for an answer, in seconds; both are tried three times."""


class SigningSettings(SettingsSection):
    """Who signs published models, and whose signature is asked for (OpenSSF Model Signing, elliptic-curve keys)."""

    private_key_file: Path | None = None
    """PEM with which `publish` signs; none publishes unsigned."""
    public_key_file: Path | None = None
    """PEM of the one key whose models are served; none accepts any, signed or not."""


class Settings(BaseSettings):
    """What every command that touches the outside reads; `load_settings` makes it."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter=DELIMITER,
        env_ignore_empty=True,
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
        use_attribute_docstrings=True,
    )

    secrets: SecretsSettings = Field(default_factory=SecretsSettings)
    store: StoreSettings = Field(default_factory=StoreSettings)
    signing: SigningSettings = Field(default_factory=SigningSettings)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """First wins, key by key within a section. A `.env` file is the shell's matter, not ours."""
        from_file = _own(settings_cls, _read_file())
        secret = _SecretsManagerSource(settings_cls, from_file)
        return init_settings, env_settings, secret, InitSettingsSource(settings_cls, from_file)


AnySettings = TypeVar("AnySettings", bound=Settings)


def load_settings(kind: type[AnySettings]) -> AnySettings:
    """The settings of this machine, now. Raises BadParams with every fault at once, or BadSecret.

    No fault shows a value, since any value may be a secret.
    """
    _require_known_variables(kind)
    try:
        return kind()
    except ValidationError as error:
        faults = [f"  {'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()]
    except SettingsError as error:
        faults = [f"  {error}"]
    raise BadParams(
        "\n".join(
            [f"settings (environment, secret, {_file_path()}): {len(faults)} fault{'s' * (len(faults) > 1)}", *faults]
        )
    )


class _SecretsManagerSource(InitSettingsSource):
    """The JSON secret that the environment or the file names; asked only when one is named."""

    def __init__(self, settings_cls: type[BaseSettings], from_file: Mapping[str, Any]) -> None:
        super().__init__(settings_cls, {})
        self.from_file = from_file

    def __call__(self) -> dict[str, Any]:
        access = self._access()
        if access.id is None:
            return {}
        # AWS's library takes a tenth of a second of every start, and few machines keep a secret there.
        from essays.secrets_manager import read_secret

        read = read_secret(
            access.id, region=access.region, endpoint_url=access.endpoint_url, timeout_s=access.timeout_s
        )
        return _own(self.settings_cls, _nested(access.id, read))

    def _access(self) -> SecretsSettings:
        tables = [tables.get("secrets", {}) for tables in (self.from_file, self.current_state)]
        try:
            return SecretsSettings.model_validate({key: value for table in tables for key, value in table.items()})
        except (ValidationError, AttributeError):
            return SecretsSettings()  # reported with all other faults, when the settings as a whole are checked


def _nested(secret_id: str, flat: Mapping[str, Any]) -> dict[str, Any]:
    """`{"store__url": …}`, as the AWS console's form makes it, as `{"store": {"url": …}}`; nested values stay."""
    tree: dict[str, Any] = {}
    for key, value in flat.items():
        *parents, last = key.lower().split(DELIMITER)
        branch = tree
        for parent in parents:
            branch = branch.setdefault(parent, {})
            if not isinstance(branch, dict):
                raise BadSecret(f"secret {secret_id!r}: {parent} is a value, and {key} wants it to be a table")
        branch[last] = value
    return tree


def _own(kind: type[BaseSettings], tables: Mapping[str, Any]) -> dict[str, Any]:
    """The tables without those of other readers."""
    return {key: value for key, value in tables.items() if key in kind.model_fields or key not in OTHER_SECTIONS}


def _file_path() -> Path:
    return Path(os.environ.get(FILE_VARIABLE) or SETTINGS_FILE)


def _read_file() -> dict[str, Any]:
    path = _file_path()
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        if path == SETTINGS_FILE:
            return {}
        raise BadParams(f"{path}: no such file, but {FILE_VARIABLE} names it") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadParams(f"{path}: not TOML: {error}") from None


def _require_known_variables(kind: type[Settings]) -> None:
    # pydantic reads the variables that it knows; a misspelt section would be passed over in silence.
    sections = {name.upper() for name in {*kind.model_fields, *OTHER_SECTIONS}}
    asked = {name for name in os.environ if name.startswith(PREFIX) and DELIMITER in name}
    unknown = sorted(name for name in asked if name.removeprefix(PREFIX).split(DELIMITER)[0] not in sections)
    if unknown:
        raise BadParams(f"environment: no such setting: {', '.join(unknown)}; sections: {', '.join(sorted(sections))}")
