"""How long a model's run is likely to take, learned from the runs that ended: what the queue is bounded by."""

_MEMORY = 0.9
"""Of what is known, after each run: the last twenty or so count."""
_FIRST_GUESS_S = 0.05
_MOST = 4.0
"""Times what was expected: a run that took longer, its process having been paused, counts as if it had not."""
_SMALLEST = 500
"""Characters: a shorter essay takes hardly less time."""


class Pace:
    """Seconds per character of each flow; whoever shares it holds a lock."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._characters: dict[str, float] = {}

    def expected_s(self, flow: str, num_characters: int) -> float:
        """Of a run on an essay of this length."""
        if flow not in self._seconds:
            return _FIRST_GUESS_S
        return self._seconds[flow] / self._characters[flow] * max(num_characters, _SMALLEST)

    def learn(self, flow: str, num_characters: int, took_s: float) -> None:
        """A run ended. One that went wrong teaches little; a model that has become slow is known for it in ten."""
        if flow in self._seconds:
            took_s = min(took_s, _MOST * self.expected_s(flow, num_characters))
        for known, value in ((self._seconds, took_s), (self._characters, max(num_characters, _SMALLEST))):
            known[flow] = _MEMORY * known.get(flow, value) + (1 - _MEMORY) * value
