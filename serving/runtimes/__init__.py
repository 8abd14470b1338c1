"""What runs graphs: one small interface, the runtimes behind it, and the choice among them.

A session belongs to one lane and scores one essay at a time, on one thread: on a CPU that is faster than batches of
mixed lengths, whose padding costs more than it saves, and a score never depends on its neighbours. On a GPU all lanes
share one session, which runs those of like length together (`serving.runtimes.batched`).
"""

from serving.runtimes.choice import Runtimes
from serving.runtimes.interface import Runtime, Session

__all__ = ["Runtime", "Runtimes", "Session"]
