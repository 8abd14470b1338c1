"""The cache as a whole: look up, keep, verify, purge, and say how it stands. Whatever fails in it is a miss.

It knows texts and runs. Grades, prompts and lanes are `runs`' matter.
"""

import hashlib
import logging
import random
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, TypeVar

from essays.encoding import Arrays
from serving.cache.clock import FUTURE_TOLERANCE_S, SteadyClock, live_age
from serving.cache.economics import Ledger
from serving.cache.guard import MAX_EDITS, edits_between
from serving.cache.keys import Keyring, key_in, new_key, new_salt
from serving.cache.proof import KEPT_CHECKS, Proof
from serving.cache.rows import NewEntry, PrintRow, RunRow, Space, pack_run, print_seal, run_seal, unpack_run
from serving.cache.settings import CacheSettings
from serving.cache.sketch import sketch_of, tokens_of
from serving.cache.sql_store import Check, PurgeScope, SqlStore
from serving.cache.sqlite_store import SqliteStore
from serving.cache.writer import Writer
from serving.errors import CacheFault
from serving.inference import Run

NEIGHBOURS = 4
FAULTS_IN_A_ROW = 3
"""After so many the cache is left alone for a while."""
REST_S = 5.0
_KEY_FILE = "key"
_THREADS = 4
_DROPPED_AT_ONCE = 200
_NO_ROWS: list[RunRow] = []

Answer = TypeVar("Answer")
logger = logging.getLogger("bentoml.fairmark")


class EssayText:
    """A normalized essay with what the cache derives from it, each once."""

    def __init__(self, text: str, keyring: Keyring) -> None:
        self.text = text
        self.key = keyring.essay_key(text)

    @cached_property
    def tokens(self) -> list[str]:
        """As the guard counts them."""
        return tokens_of(self.text)


@dataclass(frozen=True)
class Found:
    """A run that was kept."""

    run: Run
    tier: Literal["exact", "near"]
    age_s: float
    edits: int = 0
    """Tokens in which a near one's essay differs."""


@dataclass(frozen=True)
class Pending:
    """A run to be kept."""

    essay: EssayText
    space: Space
    input_key: bytes
    run: Run


class ResultCache:
    """Runs of models on essays, for as long as the settings say."""

    def __init__(self, settings: CacheSettings) -> None:
        self.settings = settings
        self.clock = SteadyClock()
        self.ledger = Ledger()
        self.proof = Proof()
        self.threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="cache")
        self.fault: str | None = None
        """What went wrong last, while it lasts."""
        self.entries: int | None = None
        """Essays kept, when last counted."""
        self._store: SqlStore | None = None
        self._keyring = Keyring(new_key())
        self._uses: dict[int, float] = {}
        self._lock = threading.Lock()
        self._faults_in_a_row = 0
        self._looks_damaged = False
        self._rests_until = 0.0
        self._closed = False
        self._open_store()
        self._writer: Writer[Pending] = Writer(self._keep, self.tend)

    @property
    def is_local(self) -> bool:
        """Whether an exact look-up may be made without leaving the thread."""
        return self._store is not None and self._store.is_local

    @property
    def store(self) -> SqlStore | None:
        """The store, while there is one."""
        return self._store

    def essay(self, text: str) -> EssayText:
        """A normalized essay as the cache's methods take it."""
        return EssayText(text, self._keyring)

    def space(self, *, model: str, digest: str, runtime: str, prompt_id: str, schema: int) -> Space:
        """Where runs of this model on this prompt are kept: other bytes, another runtime or schema is another space."""
        key = self._keyring.space(model, digest, runtime, prompt_id, str(schema))
        return Space(key, model, digest, prompt_id)

    def input_key(self, arrays: Arrays) -> bytes:
        """Of what a graph is given."""
        return self._keyring.input_key(arrays)

    def exact(self, essay: EssayText, spaces: Sequence[Space]) -> dict[bytes, Found]:
        """What is kept of this very text, by the spaces' keys. All spaces are of one prompt."""
        if not spaces:
            return {}
        keys = [space.key for space in spaces]
        rows = self._ask(lambda store: store.runs(essay.key, spaces[0].prompt_id, keys), _NO_ROWS)
        return {row.space: found for row in rows if (found := self._believed(row, "exact"))}

    def same_input(self, space: Space, input_key: bytes) -> Found | None:
        """What is kept of another text that gives the graph the same input."""
        rows = self._ask(lambda store: store.run_on(space.key, input_key), _NO_ROWS)
        return next((found for row in rows if (found := self._believed(row, "exact"))), None)

    def near(self, essay: EssayText, spaces: Sequence[Space]) -> dict[bytes, Found]:
        """What is kept of a text that differs by a slip, by the spaces' keys. All spaces are of one prompt."""
        if not spaces or not self.searchable:
            return {}
        return self._ask(lambda store: self._near(store, essay, spaces), {})

    @property
    def searchable(self) -> bool:
        """Whether near-duplicates can be found yet."""
        return self._store is not None and self._store.searchable

    def keep(self, pending: Pending) -> None:
        """Keep a run, soon."""
        if not self._writer.offer(pending):
            self.ledger.fault("dropped")

    def once_kept(self, work: Callable[[], None]) -> None:
        """Do this when everything offered so far is kept, or cannot be."""
        if not self._writer.later(work):
            work()

    def verify(self, checks: Iterable[Check]) -> None:
        """Learn from near-duplicates that were scored anyway."""
        taken = list(checks)
        with self._lock:
            raised = [(check.subject, reason) for check in taken if (reason := self.proof.add(check))]
        for subject, reason in raised:
            logger.error("ALARM: the cache gives no near-duplicates for artifact %s: %s", subject[:12], reason)

        def note() -> None:
            now = self.clock.now()
            self._ask(lambda store: store.add_checks(taken, now), None)
            for subject, reason in raised:
                self._ask(lambda store, subject=subject, reason=reason: store.add_alarm(subject, reason, now), None)  # type: ignore[misc]

        if not self._writer.later(note):
            self.ledger.fault("dropped")

    def is_sample(self) -> bool:
        """Whether this near-duplicate is one of those that are scored anyway."""
        return random.random() < self.settings.verified_share  # noqa: S311 - a sample, no secret

    def purge(self, *, model: str | None = None, prompt_id: str | None = None, text: str | None = None) -> int:
        """Forget the runs that fit all that is given; how many. Blocks. Raises CacheFault when it cannot be done."""
        scope = PurgeScope(model, prompt_id, None if text is None else self._keyring.essay_key(text))

        def work() -> int:
            if self._store is None:
                raise CacheFault(f"nothing was purged: {self.fault or 'the cache is closed'}", kind="unreachable")
            purged = self._store.purge(scope)
            if text is None:
                # What was verified may be gone, too.
                self._learn(self._store)
            self.entries = self._store.count()
            return purged

        return self._writer.call(work).result()

    def settle(self) -> None:
        """Block until everything offered so far is kept."""
        self._writer.call(lambda: None).result()

    def tend(self) -> None:
        """What is done every few seconds: open or mend the store, note uses, sweep, learn from other instances."""
        if self._closed:
            return
        if self._store is None:
            self._open_store()
        else:
            self._recover(self._store)
        with self._lock:
            uses, self._uses = self._uses, {}
        if self._store is None:
            return
        now = self.clock.now()
        if uses:
            self._ask(lambda store: store.touch(uses), None)
        self._ask(
            lambda store: store.sweep(
                oldest=now - self.settings.ttl_s,
                newest=now + FUTURE_TOLERANCE_S,
                max_entries=self.settings.max_entries,
            ),
            0,
        )
        self._ask(self._learn, None)
        self.entries = self._ask(lambda store: store.count(), None)

    def close(self) -> None:
        """Keep what waits, then close the store."""
        self._writer.close(timeout_s=5)
        self._closed = True
        self.threads.shutdown(wait=False, cancel_futures=True)
        if self._store is not None:
            self._store.close()
            self._store = None

    def note_fault(self, kind: str, message: str) -> None:
        """Count a failure; several in a row, and the cache is left alone for a while."""
        self.ledger.fault(kind)
        with self._lock:
            self.fault = message
            self._faults_in_a_row += 1
            self._looks_damaged |= kind == "corrupt"
            if self._faults_in_a_row < FAULTS_IN_A_ROW or self._rests_until > time.monotonic():
                return
            self._rests_until = time.monotonic() + REST_S
        logger.warning("the cache is left alone for %g s: %s", REST_S, message)

    def _ask(self, ask: Callable[[SqlStore], Answer], otherwise: Answer) -> Answer:
        """The store's answer; where there is none, the other."""
        store = self._store
        if store is None or time.monotonic() < self._rests_until:
            return otherwise
        try:
            answer = ask(store)
        except CacheFault as fault:
            self.note_fault(fault.kind, str(fault))
            return otherwise
        except Exception as error:  # noqa: BLE001 - our mistake in the cache must not cost an answer
            self.note_fault("mistake", type(error).__name__)
            return otherwise
        if self._faults_in_a_row:
            self._faults_in_a_row, self.fault = 0, None
        return answer

    def _near(self, store: SqlStore, essay: EssayText, spaces: Sequence[Space]) -> dict[bytes, Found]:
        prompt_id = spaces[0].prompt_id
        vector = sketch_of(essay.tokens, self._keyring.sketch_key(prompt_id))
        wanted = {space.key for space in spaces}
        found: dict[bytes, Found] = {}
        for row in store.nearest(vector, NEIGHBOURS):
            edits = self._edits(row, essay, prompt_id)
            if edits is None:
                continue
            for run in store.runs_of(row.print_id, sorted(wanted - found.keys())):
                if believed := self._believed(run, "near"):
                    found[run.space] = replace(believed, edits=edits)
            if len(found) == len(wanted):
                break
        return found

    def _edits(self, row: PrintRow, essay: EssayText, prompt_id: str) -> int | None:
        """How many tokens differ; None when these are two essays."""
        if row.prompt_id != prompt_id or row.essay_key == essay.key:
            return None
        digests = row.word_digests if len(row.words) % 4 == 0 else None
        if digests is None or abs(len(digests) - len(essay.tokens)) > MAX_EDITS:
            return None
        if row.seal != print_seal(self._keyring, row.essay_key, row.prompt_id, row.salt, row.words):
            self._forget(lambda store: store.drop_print(row.print_id))
            return None
        return edits_between(self._keyring.word_digests(row.salt, essay.tokens), digests)

    def _believed(self, row: RunRow, tier: Literal["exact", "near"]) -> Found | None:
        age_s = live_age(row.created, self.clock.now(), self.settings.ttl_s)
        if age_s is None:
            return None
        try:
            if row.seal != run_seal(self._keyring, row.space, row.essay_key, row.value, row.created):
                raise ValueError("the row was changed")
            run = unpack_run(row.value)
        except ValueError:
            self._forget(lambda store: store.drop_run(row))
            return None
        with self._lock:
            self._uses[row.print_id] = self.clock.now()
        return Found(run, tier, age_s)

    def _forget(self, drop: Callable[[SqlStore], None]) -> None:
        self.ledger.fault("bad_row")
        self._writer.later(lambda: self._ask(drop, None))

    def _keep(self, batch: Sequence[Pending]) -> None:
        entries = [self._entry(pending) for pending in batch]

        def write(store: SqlStore) -> None:
            try:
                store.write(entries)
            except CacheFault as fault:
                if fault.kind != "full" or not store.drop_unused(max(_DROPPED_AT_ONCE, len(entries))):
                    raise
                self.ledger.fault("full")
                store.write(entries)

        self._ask(write, None)
        if self._looks_damaged and self._store is not None:
            self._recover(self._store)

    def _entry(self, pending: Pending) -> NewEntry:
        essay, space, keyring, now = pending.essay, pending.space, self._keyring, self.clock.now()
        salt, value = new_salt(), pack_run(pending.run)
        words = keyring.word_digests(salt, essay.tokens).tobytes()
        return NewEntry(
            space=space,
            essay_key=essay.key,
            salt=salt,
            words=words,
            vector=sketch_of(essay.tokens, keyring.sketch_key(space.prompt_id)),
            print_seal=print_seal(keyring, essay.key, space.prompt_id, salt, words),
            input_key=pending.input_key,
            value=value,
            created=now,
            run_seal=run_seal(keyring, space.key, essay.key, value, now),
        )

    def _open_store(self) -> None:
        try:
            store = _open(self.settings)
            try:
                self._keyring = Keyring(self._key(store))
                self._learn(store)
            except BaseException:
                store.close()
                raise
        except (CacheFault, OSError) as error:
            self.ledger.fault(error.kind if isinstance(error, CacheFault) else "unreachable")
            if self.fault is None:
                logger.warning("no cache, every score is computed: %s", error)
            self.fault = str(error)
            return
        self._store, self.fault, self._faults_in_a_row = store, None, 0
        self.entries = self._ask(lambda store: store.count(), None)

    def _key(self, store: SqlStore) -> bytes:
        if self.settings.key is not None:
            return hashlib.sha256(self.settings.key.get_secret_value().encode()).digest()
        return key_in(self.settings.folder / _KEY_FILE) if store.is_local else store.key(new_key())

    def _learn(self, store: SqlStore) -> None:
        checks, alarms = store.checks(KEPT_CHECKS), store.alarms()
        with self._lock:
            self.proof.load(checks, alarms)

    def _recover(self, store: SqlStore) -> None:
        try:
            rebuilt = store.recover(damaged=self._looks_damaged)
            self._looks_damaged = False
        except CacheFault as fault:
            self.fault = str(fault)
            return
        if rebuilt:
            self.ledger.fault("rebuilt")
            logger.warning("the cache's file was damaged or gone: a new one was begun")
            self._rests_until = 0.0
            self._faults_in_a_row, self.fault = 0, None


def _open(settings: CacheSettings) -> SqlStore:
    if settings.kind == "embedded":
        return SqliteStore(settings.folder, max_bytes=settings.max_bytes, metric=settings.metric)
    from serving.cache.postgres_store import PostgresStore  # psycopg, where there is a PostgreSQL

    return PostgresStore(
        settings.store.get_secret_value(), metric=settings.metric, patience_s=settings.patience_ms / 1000
    )
