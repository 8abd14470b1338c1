"""What an operator can set for the cache: `FAIRMARK_SERVICE__CACHE__…`, `[service.cache]` in fairmark.toml."""

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, field_validator

from essays.settings import SettingsSection

OFF, EMBEDDED, POSTGRES_SCHEME = "off", "embedded", "postgresql://"
Metric = Literal["cosine", "inner_product", "euclidean"]


class CacheSettings(SettingsSection):
    """Where scores are kept, for how long, and when a near-duplicate may have one."""

    store: SecretStr = SecretStr(EMBEDDED)
    """`off`, `embedded` (SQLite and an index in memory), or `postgresql://USER:PASSWORD@HOST/DATABASE` with pgvector,
    which several instances may share."""
    folder: Path = Path("out/cache")
    """Where the embedded store keeps its file and its key."""
    key: SecretStr | None = Field(default=None, min_length=16)
    """What texts are hashed with; instances that share a store share it. None makes one and keeps it with the store."""
    ttl_s: float = Field(default=30 * 86_400.0, gt=0)
    """An older score is computed again, in seconds."""
    max_entries: int = Field(default=100_000, ge=1)
    """Essays kept; beyond it those that were not asked for longest go first."""
    max_bytes: int = Field(default=1_000_000_000, ge=200_000)
    """Largest file of the embedded store."""
    near: Literal["auto", "on", "off"] = "auto"
    """Answers for near-duplicates: `auto` where they pay, `on` without asking whether they do. Either way no such
    answer is given before enough of them were scored anyway and had the same grade."""
    metric: Metric = "cosine"
    """How far two sketches are apart. They have length one, so all three put candidates into the same order."""
    verified_share: float = Field(default=0.02, ge=0, le=1)
    """Share of near-duplicates that are scored anyway, once the tier has been proved."""
    patience_ms: float = Field(default=200.0, gt=0, le=5_000)
    """The longest that a request waits for the cache before it counts as a miss."""

    @field_validator("store")
    @classmethod
    def _known(cls, store: SecretStr) -> SecretStr:
        value = store.get_secret_value()
        if value in (OFF, EMBEDDED) or value.startswith(POSTGRES_SCHEME):
            return store
        raise ValueError(f"expected {OFF}, {EMBEDDED} or {POSTGRES_SCHEME}USER:PASSWORD@HOST/DATABASE")

    @property
    def kind(self) -> Literal["off", "embedded", "postgresql"]:
        """The store's kind, without its address."""
        value = self.store.get_secret_value()
        if value == OFF:
            return "off"
        return "embedded" if value == EMBEDDED else "postgresql"
