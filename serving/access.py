"""Who may ask for what: API keys with scopes, of which only digests are kept, and the origins whose pages may call.

`python -m serving.access --name school-a --scope score` makes a key, prints it once, and what settings keep of it. A
key holds 256 random bits, so a plain SHA-256 of it can be neither guessed nor looked up; a slow hash, as passwords need
it, would only let strangers keep this machine busy. To revoke a key, remove its entry and start again.
"""

import argparse
import hashlib
import hmac
import secrets
import sys
from collections.abc import Mapping, Sequence
from typing import Literal, get_args
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from essays.console import EXIT_DONE, say
from essays.settings import SettingsSection
from serving.errors import NotAllowed, NotAuthenticated

Scope = Literal["score", "admin"]
PREFIX = "fm_"
_HINT = "send Authorization: Bearer KEY; whoever runs this service gives out keys"


class ApiKey(SettingsSection):
    """What is kept of one key."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")
    """Whose it is, for those who run the service."""
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """Of the key, as `python -m serving.access` prints it."""
    scopes: tuple[Scope, ...] = Field(min_length=1)
    """`score`: may have essays scored. `admin`: may purge the cache and see drift."""


class AccessSettings(SettingsSection):
    """Who may call."""

    required: bool = False
    """Whether scoring needs a key of scope `score`. Purging the cache and drift always need one of scope `admin`."""
    keys: tuple[ApiKey, ...] = ()
    """Everybody's keys, as digests."""
    allowed_origins: tuple[str, ...] = ()
    """Pages of these origins, such as `https://school.example`, may call from a browser (CORS)."""

    @field_validator("allowed_origins")
    @classmethod
    def _origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            parts = urlsplit(origin)
            whole = parts.scheme in ("http", "https") and parts.netloc and origin == f"{parts.scheme}://{parts.netloc}"
            if not whole:
                raise ValueError("expected origins such as https://school.example, with no path and no *")
        return origins

    @model_validator(mode="after")
    def _somebody(self) -> "AccessSettings":
        if len({key.name for key in self.keys}) < len(self.keys):
            raise ValueError("two keys have the same name")
        if self.required and not any("score" in key.scopes for key in self.keys):
            raise ValueError("a key is required, but no key has the scope 'score': nobody could have an essay scored")
        return self


def require_scope(access: AccessSettings, scope: Scope | None, headers: Mapping[str, str]) -> None:
    """Pass whoever may do this. Raises NotAuthenticated, or NotAllowed where a known key has another scope."""
    if scope == "admin" or (scope == "score" and access.required):
        require_key(access.keys, scope, _bearer_token(headers))


def require_key(keys: Sequence[ApiKey], scope: Scope, given: str, *, field: str | None = None) -> None:
    """The same with the key in hand. `field` is where it was asked for, if that was not a header."""
    key = _known(keys, given)
    if key is None:
        # Missing, wrong and revoked are told apart by nobody.
        raise NotAuthenticated("this needs an API key, and none that is known was sent", field=field, hint=_HINT)
    if scope not in key.scopes:
        raise NotAllowed(f"this key has no scope '{scope}'")


def _known(keys: Sequence[ApiKey], given: str) -> ApiKey | None:
    """The key's entry. All are compared, each in constant time, so that the time says nothing about any of them."""
    digest = digest_of(given)
    found = [key for key in keys if hmac.compare_digest(key.sha256, digest)]
    return found[0] if found else None


def _bearer_token(headers: Mapping[str, str]) -> str:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def digest_of(key: str) -> str:
    """What settings keep of a key."""
    return hashlib.sha256(key.encode()).hexdigest()


def make_key() -> str:
    """A new key: 256 bits from the system's own randomness."""
    return PREFIX + secrets.token_urlsafe(32)


def main() -> int:
    """The command line: the key goes to stdout, the entry for fairmark.toml to stderr."""
    parser = argparse.ArgumentParser(prog="python -m serving.access", description="Make an API key.")
    parser.add_argument("--name", required=True, help="whose it is: lower-case letters, digits and -")
    parser.add_argument("--scope", action="append", required=True, choices=get_args(Scope), help="may be repeated")
    options = parser.parse_args()
    key = make_key()
    scopes = ", ".join(f'"{scope}"' for scope in dict.fromkeys(options.scope))
    say("the key is shown this once; for fairmark.toml:")
    say(f'\n[[service.access.keys]]\nname = "{options.name}"\nsha256 = "{digest_of(key)}"\nscopes = [{scopes}]')
    sys.stdout.write(key + "\n")
    return EXIT_DONE


if __name__ == "__main__":
    sys.exit(main())
