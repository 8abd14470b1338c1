"""What Fairmark must show beside its peers: bars that a run meets, misses, or did not measure."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

Row = Mapping[str, Any]
FAIRMARK, ALL_MODELS = "fairmark", "fairmark-all"


@dataclass(frozen=True)
class Bar:
    """One promise, and what came of it."""

    what: str
    bound: float
    at_most: bool
    """Else at least."""
    found: float | None
    """None where something that it needs was not measured, or is void."""

    @property
    def met(self) -> bool | None:
        """None where it was not measured."""
        if self.found is None:
            return None
        return self.found <= self.bound if self.at_most else self.found >= self.bound

    def as_tree(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "met": self.met}


def bars_of(rows: Sequence[Row]) -> list[Bar]:
    """Every bar, from the rows of one run."""
    own = _Figures(rows, FAIRMARK)
    every = _Figures(rows, ALL_MODELS)
    padded, eager = _Figures(rows, "fastapi-pytorch-512"), _Figures(rows, "raw-pytorch")
    ratios = [
        _at_most("p50 at concurrency 1 / fastapi-pytorch-512", 1 / 5, _ratio(own, padded, "p50_ms", 1)),
        _at_least("essays/s at 8 / fastapi-pytorch-512", 5.0, _ratio(own, padded, "essays_per_s", 8)),
        _at_most("CPU ms per essay / raw-pytorch", 1 / 2.8, _ratio(own, eager, "cpu_ms_per_essay", 1)),
    ]
    for peer, bound in (("bentoml-batchable", 2.5), ("infinity-emb", 1.8), ("litserve", 2.0)):
        for concurrency in (8, 64):
            ratio = _ratio(own, _Figures(rows, peer), "essays_per_s", concurrency)
            ratios.append(_at_least(f"essays/s at {concurrency} / {peer}", bound, ratio))
    return [
        *ratios,
        _at_most("CPU ms per essay / raw loop of the same runtime", 1.10, own.at(1, "cpu_over_loop")),
        _at_most("server's own CPU ms per request", 2.5, own.at(1, "cpu_ms_over_loop")),
        _at_most("p99 / p50 at concurrency 8", 3.0, _quotient(own.at(8, "p99_ms"), own.at(8, "p50_ms"))),
        _at_most("first request / its usual time", 1.5, own.at(1, "first_over_usual")),
        _at_most("seconds to ready after a restart, all models", 5.0, every.at(1, "ready_s")),
        _at_most("PSS in MB, all models, after load", 900.0, every.last("pss_mb")),
    ]


class _Figures:
    """The rows of one server; void ones have no figures."""

    def __init__(self, rows: Sequence[Row], server: str) -> None:
        self._rows = {row["concurrency"]: row for row in rows if row["server"] == server and row["void"] is None}

    def at(self, concurrency: int, key: str) -> float | None:
        row = self._rows.get(concurrency)
        return None if row is None else row[key]

    def last(self, key: str) -> float | None:
        return self.at(max(self._rows), key) if self._rows else None


def _at_most(what: str, bound: float, found: float | None) -> Bar:
    return Bar(what, bound, at_most=True, found=found)


def _at_least(what: str, bound: float, found: float | None) -> Bar:
    return Bar(what, bound, at_most=False, found=found)


def _ratio(own: _Figures, peer: _Figures, key: str, concurrency: int) -> float | None:
    return _quotient(own.at(concurrency, key), peer.at(concurrency, key))


def _quotient(above: float | None, below: float | None) -> float | None:
    return above / below if above is not None and below else None
