"""Which train essays get children: those of scarce scores for continuations, a seeded draw for the rest."""

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence

from data.rows import Essay

Level = tuple[str, float]
"""A prompt and a score on it."""


def drawn(essays: Sequence[Essay], num_essays: int, seed: int, what: str) -> list[Essay]:
    """Up to `num_essays` of them in an order that the seed, `what` and each essay's own id decide."""
    return sorted(essays, key=lambda essay: _order(essay, seed, what))[:num_essays]


def scarce_parents(train: Sequence[Essay], num_children: int, most_per_parent: int, seed: int) -> list[Essay]:
    """A parent for each continuation, as often as it gets one: scores that a prompt has seldom, up to its mean level.

    Where `num_children` does not reach for all, each scarce level gets the same share of what it lacks. Parents of a
    level take turns, none more than `most_per_parent` times.
    """
    by_level: dict[Level, list[Essay]] = defaultdict(list)
    for essay in train:
        by_level[essay.prompt_id, essay.score].append(essay)
    lacking = _lacking({level: len(essays) for level, essays in by_level.items()}, most_per_parent)
    share = min(1.0, num_children / max(sum(lacking.values()), 1))
    chosen: list[Essay] = []
    for level, number in sorted(lacking.items()):
        turns = drawn(by_level[level], len(by_level[level]), seed, "continue")
        chosen += [turns[place % len(turns)] for place in range(int(share * number))]
    return chosen


def _lacking(counts: Mapping[Level, int], most_per_parent: int) -> dict[Level, int]:
    """How many essays each level is short of its prompt's mean, as far as its own essays can be continued."""
    levels_of: dict[str, list[int]] = defaultdict(list)
    for (prompt_id, _), count in counts.items():
        levels_of[prompt_id].append(count)
    means = {prompt_id: sum(found) / len(found) for prompt_id, found in levels_of.items()}
    return {
        level: min(int(means[level[0]]) - count, count * most_per_parent)
        for level, count in counts.items()
        if count < int(means[level[0]])
    }


def _order(essay: Essay, seed: int, what: str) -> bytes:
    # A digest, as for folds: the same on every machine and version, whatever else is in the corpus.
    return hashlib.sha256(f"{seed}:{what}:{essay.essay_id}".encode()).digest()
