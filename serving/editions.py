"""The set of models that is served, and the sets before it until the last request that began with them has ended."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from serving.scorer import Scorer


class _Edition:
    """A scorer with the number of requests that use it."""

    def __init__(self, scorer: Scorer) -> None:
        self.scorer = scorer
        self.num_users = 0
        self.replaced = False

    def close_if_unused(self) -> None:
        if self.replaced and self.num_users == 0:
            self.scorer.pool.close()


class Editions:
    """Hands out the current scorer; a request keeps the one it got, whatever is put in its place meanwhile."""

    def __init__(self) -> None:
        self._current: _Edition | None = None
        # Held for a few instructions: between getting an edition and counting its user it must not be closed.
        self._lock = threading.Lock()

    @property
    def current(self) -> Scorer | None:
        """The scorer that the next request gets; none before the first."""
        edition = self._current
        return edition.scorer if edition else None

    @contextmanager
    def in_use(self) -> Iterator[Scorer | None]:
        """The current scorer, whose lanes stay open until the block ends."""
        with self._lock:
            edition = self._current
            if edition is not None:
                edition.num_users += 1
        try:
            yield edition.scorer if edition else None
        finally:
            if edition is not None:
                with self._lock:
                    edition.num_users -= 1
                    edition.close_if_unused()

    def replace(self, scorer: Scorer) -> None:
        """Let every request from now on have this one; the one before is closed after its last request."""
        with self._lock:
            before, self._current = self._current, _Edition(scorer)
            if before is not None:
                before.replaced = True
                before.close_if_unused()

    def close(self) -> None:
        """Take no more requests."""
        if self._current is not None:
            self._current.scorer.pool.close()
