"""What the cache gives and costs, model by model, and whether looking for near-duplicates pays.

It pays where (share of look-ups that find one) x (time to score) is above the time of a look-up. Where it does not, a
few look-ups go on, so that a change is noticed.
"""

import random
import threading
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass

MIN_LOOKUPS = 200
"""Before so many look-ups nobody knows whether they pay, and all are made."""
TRIED_SHARE = 0.05
"""Look-ups that go on where they do not pay."""
_FORGET_AT = 5_000


@dataclass
class Account:
    """One model's numbers since the start."""

    exact: int = 0
    near: int = 0
    computed: int = 0
    bypassed: int = 0
    saved_s: float = 0.0
    """Time that the runs took which were not needed again."""
    lookup_s: float = 0.0
    """Time of all look-ups."""
    computed_s: float = 0.0
    near_lookups: int = 0
    near_found: int = 0
    """Passed the guard, handed out or not."""
    near_lookup_s: float = 0.0
    unsteady: int = 0
    """Near-duplicates that were scored because the grade stood too near to another."""
    # What decides, which forgets: the present matters.
    recent_lookups: float = 0.0
    recent_found: float = 0.0
    recent_lookup_s: float = 0.0

    @property
    def mean_run_s(self) -> float:
        """Time of a run."""
        return self.computed_s / self.computed if self.computed else 0.0

    @property
    def pays(self) -> bool | None:
        """Whether looking for near-duplicates saves more than it costs; None while that is not known."""
        if self.recent_lookups < MIN_LOOKUPS or not self.computed:
            return None
        return self.recent_found * self.mean_run_s > self.recent_lookup_s


class Ledger:
    """Every model's account, by name; may be written by any thread."""

    def __init__(self) -> None:
        self._accounts: defaultdict[str, Account] = defaultdict(Account)
        self._faults: defaultdict[str, int] = defaultdict(int)
        self._lock = threading.Lock()

    def account(self, model: str) -> Account:
        """One model's numbers, to be read."""
        return self._accounts[model]

    @property
    def accounts(self) -> dict[str, Account]:
        """All of them."""
        with self._lock:
            return dict(self._accounts)

    @property
    def faults(self) -> dict[str, int]:
        """How often the cache failed, by kind."""
        with self._lock:
            return dict(self._faults)

    def fault(self, kind: str) -> None:
        """Count a failure."""
        with self._lock:
            self._faults[kind] += 1

    def hit(self, model: str, tier: str, saved_s: float) -> None:
        """A run was not needed."""
        with self._lock:
            account = self._accounts[model]
            if tier == "exact":
                account.exact += 1
            else:
                account.near += 1
            account.saved_s += saved_s

    def computed(self, model: str, run_s: float, *, bypassed: bool) -> None:
        """A run was needed, or asked for."""
        with self._lock:
            account = self._accounts[model]
            account.computed += 1
            account.computed_s += run_s
            account.bypassed += bypassed

    def looked_up(self, model: str, took_s: float) -> None:
        """An exact look-up was made."""
        with self._lock:
            self._accounts[model].lookup_s += took_s

    def looked_near(self, model: str, took_s: float, *, found: bool) -> None:
        """A look-up of near-duplicates was made."""
        with self._lock:
            account = self._accounts[model]
            account.near_lookups += 1
            account.near_found += found
            account.near_lookup_s += took_s
            account.lookup_s += took_s
            account.recent_lookups += 1
            account.recent_found += found
            account.recent_lookup_s += took_s
            if account.recent_lookups > _FORGET_AT:
                account.recent_lookups /= 2
                account.recent_found /= 2
                account.recent_lookup_s /= 2

    def unsteady(self, model: str) -> None:
        """A near-duplicate's grade stood too near to another."""
        with self._lock:
            self._accounts[model].unsteady += 1

    def worth_trying(self, model: str) -> bool:
        """Whether to look for a near-duplicate now, as far as cost goes."""
        pays = self._accounts[model].pays
        return pays is not False or random.random() < TRIED_SHARE  # noqa: S311 - a sample, no secret

    def is_cheap(self, model: str, needed: Collection[str], share: float) -> bool:
        """Whether its run takes less than this share of the time of all that are needed; not before that is known."""
        mean_s = {name: self._accounts[name].mean_run_s for name in needed}
        return all(mean_s.values()) and mean_s[model] < share * sum(mean_s.values())
