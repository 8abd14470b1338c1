"""What an operator can set: `FAIRMARK_SERVICE__DRIFT__…`, `[service.drift]`."""

from pathlib import Path

from pydantic import Field

from essays.settings import SettingsSection


class DriftSettings(SettingsSection):
    """How drift is watched."""

    window_essays: int = Field(default=1000, ge=100, le=1_000_000)
    """About so many of the last essays on a prompt are looked at: at most all, at least half of them."""
    least_essays: int = Field(default=50, ge=20)
    """With fewer nothing is said: neither would it be sure, nor should a single essay's numbers be seen."""
    file: Path | None = None
    """Where the counts outlive a restart; without it they do not."""
    save_s: float = Field(default=30.0, gt=0)
    """How often they are written there, in seconds, where there is something new."""
