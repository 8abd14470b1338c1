"""The neighbour search of the embedded store: an HNSW graph in memory (usearch), filled anew at every start.

It only proposes. What it forgot costs a hit; what it holds too much finds no row in the store.
"""

import threading
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from usearch.index import Index

from serving.cache.settings import Metric
from serving.cache.sketch import DIMENSIONS

_METRICS: dict[Metric, str] = {"cosine": "cos", "inner_product": "ip", "euclidean": "l2sq"}


class NearIndex:
    """Vectors by number."""

    def __init__(self, metric: Metric) -> None:
        self._metric = _METRICS[metric]
        self._lock = threading.Lock()
        self.clear()

    def __len__(self) -> int:
        return len(self._index)

    def clear(self) -> None:
        """Forget all."""
        # bfloat16 finds the same neighbours in half the memory and time; int8 loses one in five.
        self._index = Index(ndim=DIMENSIONS, metric=self._metric, dtype="bf16", connectivity=16)

    def add(self, numbers: Sequence[int], vectors: Sequence[NDArray[np.float32]]) -> None:
        """Put vectors in, over those of the same number; what is not finite stays out."""
        for number, vector in zip(numbers, vectors, strict=True):
            # One at a time: whoever looks up waits a millisecond, not for a batch.
            with self._lock:
                if np.isfinite(vector).all():
                    self._index.remove(number)
                    self._index.add(number, vector, threads=1)

    def remove(self, numbers: Sequence[int]) -> None:
        """Take vectors out."""
        with self._lock:
            for number in numbers:
                self._index.remove(number)

    def nearest(self, vector: NDArray[np.float32], count: int) -> list[int]:
        """Numbers of the nearest vectors, nearest first."""
        with self._lock:
            if not len(self._index):
                return []
            return [int(number) for number in self._index.search(vector, count, threads=1).keys]
