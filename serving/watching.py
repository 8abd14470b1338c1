"""Notices in the parent process that champions moved, fetches and verifies them, and offers them to the worker.

Asked are the ETags of the champion pointers of the models that are served: a few bytes. Only when one is another, the
pointers are read and what is missing here is fetched. A set is offered whole or not at all, and what is wrong with it
is offered as a refusal, so that the worker's `/status` and metrics say it. Where every champion is served, a model of a
new name is noticed with the next change of another, or after SIGHUP.
"""

import threading
import time
from collections.abc import Callable, Collection, Sequence

from essays.backoff import Backoff
from essays.console import say
from essays.errors import ArtifactError, FairmarkError, ObjectMissing, StoreUnreachable
from essays.registry import ChampionPointer, champion_etags, read_champion
from essays.store import Store
from serving.catalogue import LocalArtifact
from serving.local_copies import DiskFull
from serving.offers import Offer, Offers

SETTLE_S = 0.5
"""Champions move one after the other: a set is read when none moved for so long."""
_POLL_TAKEN_S = 0.1

Fetch = Callable[[dict[str, str]], tuple[list[LocalArtifact], list[ChampionPointer]]]
"""What a set is fetched with; told there are models that were left out, by name, with the reason."""
Settle = Callable[[Sequence[ChampionPointer], Collection[str]], None]
"""Told the champions that are served now, if they changed, and the digests that the worker holds."""


class Watcher:
    """One for a parent process, from the moment when its models were handed over."""

    def __init__(
        self,
        store: Store,
        served: Sequence[LocalArtifact],
        offers: Offers,
        *,
        fetch: Fetch,
        settle: Settle,
        watch_s: float,
    ) -> None:
        self.store = store
        self.offers = offers
        self.served = {artifact.name: artifact.digest for artifact in served}
        self.watch_s = watch_s
        self._fetch, self._settle = fetch, settle
        # What began as stale is asked anew, so that it counts as fresh when the store says that it is.
        self._look_closer = any(artifact.stale for artifact in served)
        self._seen: dict[str, str | None] | None = None
        self._number = 0
        self._failures = 0
        self._asked = threading.Event()

    def start(self) -> None:
        """Watch in a thread until the process ends."""
        threading.Thread(target=self._watch, name="watching", daemon=True).start()

    def look_now(self, *_: object) -> None:
        """Look at once, and for models of new names too; may be called by a signal's handler."""
        self._look_closer = True
        self._asked.set()

    def _watch(self) -> None:
        backoff = Backoff(base_s=max(self.watch_s, 1.0), cap_s=60.0)
        while True:
            pause_s = backoff.pause_s(self._failures) if self._failures else self.watch_s
            self._asked.wait(pause_s or None)
            self._asked.clear()
            try:
                self.look()
            except Exception as error:  # noqa: BLE001 - watching must outlive our mistakes
                self._failures += 1
                if self._failures == 1:
                    why = error if isinstance(error, FairmarkError) else repr(error)
                    say(f"cannot see whether champions moved: {why}; what is served stays, and it is asked again")
            else:
                if self._failures:
                    say(f"{self.store.url} answers again")
                self._failures = 0

    def look(self) -> None:
        """One look, and all that follows from it. Raises a StoreError, or DiskFull: then nothing was decided."""
        closer, self._look_closer = self._look_closer, False
        try:
            etags = champion_etags(self.store, self.served)
            if etags == self._seen and not closer:
                return
            while (later := self._after_a_moment()) != etags:
                etags = later
            if closer or self._are_others():
                self._offer(*self._changed())
        except FairmarkError:
            self._look_closer |= closer
            raise
        self._seen = etags

    def _are_others(self) -> bool:
        """Whether champions are not those that are served, or the last offer was another and refused."""
        taken = self.offers.taken()
        if taken and taken.outcome != "served":
            return True
        try:
            return any(read_champion(self.store, name).pointer.sha256 != digest for name, digest in self.served.items())
        except (ArtifactError, ObjectMissing):
            return True

    def _offer(
        self, artifacts: Sequence[LocalArtifact], pointers: Sequence[ChampionPointer], refused: str | None
    ) -> None:
        self._number += 1
        started = time.monotonic()
        self.offers.make(Offer(number=self._number, artifacts=tuple(artifacts), refused=refused))
        against = self._wait_until_taken(self._number)
        if against is None:
            digests = {artifact.name: artifact.digest for artifact in artifacts}
            self._settle(pointers, digests.values())
            self.served = digests
            names = ", ".join(f"{artifact.name}@{artifact.version}" for artifact in artifacts)
            say(f"serving {names}; loading and warming took {time.monotonic() - started:.1f} s")
        else:
            self._settle([], self.served.values())
            say(f"error: changed champions are not served, what was served stays: {against}")

    def _changed(self) -> tuple[list[LocalArtifact], list[ChampionPointer], str | None]:
        """The champions as they are now, or why they may not be offered."""
        refusals: dict[str, str] = {}
        try:
            artifacts, pointers = self._fetch(refusals)
        except (StoreUnreachable, DiskFull):
            raise  # the outside failed: ask again
        except FairmarkError as error:
            return [], [], str(error)
        # A model that was served and now is bad: the whole set stays away, as an ensemble fits one version of each.
        if lost := [reason for name, reason in refusals.items() if name in self.served]:
            return [], [], "; ".join(lost)
        return artifacts, pointers, None

    def _after_a_moment(self) -> dict[str, str | None]:
        time.sleep(SETTLE_S)
        return champion_etags(self.store, self.served)

    def _wait_until_taken(self, number: int) -> str | None:
        """None when the worker serves this offer now, or why it does not. A worker that ends is followed by another."""
        while True:
            taken = self.offers.taken()
            if taken and taken.number == number and taken.outcome != "trying":
                return None if taken.outcome == "served" else taken.reason or "refused"
            time.sleep(_POLL_TAKEN_S)
