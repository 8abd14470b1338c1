"""One session for many lanes on a device that scores a batch of essays in little more time than one of them: a GPU.

There is no waiting for a batch to fill. While one runs, others' essays gather; whoever gets the device next takes those
of like length along, as many as the token budget holds. So an essay that comes alone starts at once, and the busier the
device, the fuller its batches.
"""

import threading
from collections.abc import Sequence

import numpy as np

from essays.encoding import Arrays, pad_rows
from essays.manifest import Precision
from essays.outputs import Outputs
from serving.runtimes.interface import Session

TOKEN_BUDGET = 16_384
"""Tokens of a batch, filled-up ones counted in: 32 essays of 512."""
LIKE = 0.75
"""An essay goes along with another of at least this share of its length; the rest would be spent on filling up."""


class BatchedSession:
    """Another session, which one caller at a time runs for all whose essays fit beside its own."""

    def __init__(self, session: Session, token_budget: int = TOKEN_BUDGET) -> None:
        """`session` is run by one thread at a time, on batches of up to `token_budget` tokens."""
        self._session = session
        self._token_budget = token_budget
        self._waiting: list[_Essay] = []
        self._is_free = True
        # Guards the two above.
        self._lock = threading.Lock()

    @property
    def runtime(self) -> str:
        """The other's."""
        return self._session.runtime

    @property
    def precision(self) -> Precision:
        """The other's."""
        return self._session.precision

    def outputs(self, arrays: Arrays) -> Outputs:
        """As `Session.outputs`, from any number of threads."""
        own = _Essay(arrays)
        with self._lock:
            self._waiting.append(own)
            if self._is_free:
                self._is_free = False
                own.turn.set()
        own.turn.wait()
        if own.outputs is None:
            try:
                own.outputs = self._run(self._batch_with(own))
            finally:
                self._hand_on()
        return own.outputs

    def _batch_with(self, own: "_Essay") -> list["_Essay"]:
        """It, and those that wait and fit beside it, the longest wait first; they wait no more."""
        with self._lock:
            batch, rows, longest = [own], own.rows, own.length
            for each in self._waiting:
                width = max(longest, each.length)
                if each is own or own.goes_alone or each.goes_alone or min(own.length, each.length) < LIKE * width:
                    continue
                if width * (rows + each.rows) <= self._token_budget:
                    batch.append(each)
                    rows, longest = rows + each.rows, width
            for each in batch:
                self._waiting.remove(each)
        return batch

    def _run(self, batch: Sequence["_Essay"]) -> Outputs:
        """The first one's outputs; the others, given theirs, go on at once, while the next batch runs."""
        first, *others = batch
        try:
            scores, traits = self._session.outputs(_joined(batch))
        except Exception:
            if not others:
                raise
            # An error belongs to one essay: each is run alone, on its own thread.
            with self._lock:
                for each in others:
                    each.goes_alone = True
                self._waiting[:0] = others
            return self._session.outputs(first.arrays)
        start = first.rows
        for each in others:
            end = start + each.rows
            each.outputs = Outputs(scores[start:end], traits[start:end])
            each.turn.set()
            start = end
        return Outputs(scores[: first.rows], traits[: first.rows])

    def _hand_on(self) -> None:
        """The device to whoever has waited longest."""
        with self._lock:
            if self._waiting:
                self._waiting[0].turn.set()
            else:
                self._is_free = True


class _Essay:
    """Arrays that wait for the device; compared by identity."""

    def __init__(self, arrays: Arrays) -> None:
        self.arrays = arrays
        self.outputs: Outputs | None = None
        self.turn = threading.Event()
        """Set with its outputs, or without them when its thread is to run the device."""
        self.goes_alone = False
        self.rows = len(next(iter(arrays.values())))
        self.length = max((array.shape[1] for array in arrays.values() if array.ndim > 1), default=1)


def _joined(batch: Sequence[_Essay]) -> Arrays:
    """All rows in one batch, (B, T), short ones with zeros at their ends: masked tokens, or no n-gram."""
    return {name: _stacked([each.arrays[name] for each in batch]) for name in batch[0].arrays}


def _stacked(arrays: Sequence[np.ndarray]) -> np.ndarray:
    if len({array.shape[1:] for array in arrays}) == 1:
        return np.concatenate(arrays)
    return pad_rows([row for array in arrays for row in array], 0)
