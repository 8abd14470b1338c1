"""A bare loop: an essay a line on stdin, its score a line on stdout. No server, no queue, no second essay at a time."""

import json
import sys
from collections.abc import Callable

Score = Callable[[str, str, int], float]
"""From text, prompt id and prompt index."""


def serve(score: Score, runtime: str = "") -> None:
    """Say `ready`, and on what it runs where only it knows, then answer until stdin ends."""
    print(f"ready {runtime}".strip(), flush=True)  # noqa: T201 - stdout is the answer
    for line in sys.stdin:
        essay = json.loads(line)
        answer = {"score": score(essay["text"], essay["prompt_id"], essay["prompt_index"])}
        print(json.dumps(answer), flush=True)  # noqa: T201
