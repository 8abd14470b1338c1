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
        self._device = threading.Lock()
        self._waiting: list[_Essay] = []
        # Guards the list.
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
        with self._device:
            if not own.was_in_a_batch:
                self._run(self._batch_with(own))
            if own.outputs is None:
                # Its batch failed, and an error belongs to one essay: each is run alone, on its own thread.
                own.outputs = self._session.outputs(arrays)
        return own.outputs

    def _batch_with(self, own: "_Essay") -> list["_Essay"]:
        """Those that wait and fit beside it, the longest wait first; they wait no more."""
        with self._lock:
            batch, rows, longest = [own], own.rows, own.length
            for each in self._waiting:
                width = max(longest, each.length)
                if each is own or min(own.length, each.length) < LIKE * width:
                    continue
                if width * (rows + each.rows) <= self._token_budget:
                    batch.append(each)
                    rows, longest = rows + each.rows, width
            for each in batch:
                each.was_in_a_batch = True
                self._waiting.remove(each)
        return batch

    def _run(self, batch: Sequence["_Essay"]) -> None:
        """Give each its outputs, or none of them where the run fails."""
        try:
            scores, traits = self._session.outputs(_joined(batch))
        except Exception:  # noqa: BLE001 - libraries' own errors share no base class; whoever waits runs it again
            return
        start = 0
        for each in batch:
            end = start + each.rows
            each.outputs = Outputs(scores[start:end], traits[start:end])
            start = end


class _Essay:
    """Arrays that wait for the device; compared by identity."""

    def __init__(self, arrays: Arrays) -> None:
        self.arrays = arrays
        self.outputs: Outputs | None = None
        self.was_in_a_batch = False
        self.rows = len(next(iter(arrays.values())))
        self.length = max((array.shape[1] for array in arrays.values() if array.ndim > 1), default=1)


def _joined(batch: Sequence[_Essay]) -> Arrays:
    """All rows in one batch, (B, T), short ones with zeros at their ends: masked tokens, or no n-gram."""
    return {name: _stacked([each.arrays[name] for each in batch]) for name in batch[0].arrays}


def _stacked(arrays: Sequence[np.ndarray]) -> np.ndarray:
    if len({array.shape[1:] for array in arrays}) == 1:
        return np.concatenate(arrays)
    return pad_rows([row for array in arrays for row in array], 0)
