"""Children made by rules: changes that leave a train essay's score (`vary`), and some that lower it (`degrade`).

What a change is stands in `training.perturbations`, where the robustness suite takes it from too. None is used here
that puts in a text of the suite's own (its song, speech and article), so that those stay unseen.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from data.rows import Essay
from data.synthetic.children import Child, child_seed, name_child
from data.synthetic.config import DegradeConfig, VaryConfig
from data.synthetic.parents import drawn
from essays.prompts import get_prompt
from essays.text import normalize_text, sentences
from training.perturbations import (
    Perturb,
    curly,
    deleted,
    fillers,
    one_line,
    repeated_lines,
    shuffled,
    swapped,
    typos,
)

LEAST_SENTENCES = 5
"""Of an essay that can be shuffled and cut."""

PRESERVING: Sequence[Perturb] = (
    partial(swapped, table="synonyms", share=0.5),
    partial(swapped, table="contractions"),
    partial(typos, share=0.01),
    curly,
    one_line,
)
"""Two of these make a `vary` child."""
MILD, HARD = 1, 2
LOWERING: Mapping[str, tuple[Perturb, int]] = {
    "shuffled": (shuffled, MILD),
    "a quarter deleted": (partial(deleted, share=0.25), MILD),
    "half deleted": (partial(deleted, share=0.5), HARD),
    "lines repeated": (repeated_lines, MILD),
    "grammar broken": (partial(swapped, table="breaks"), MILD),
    "um, erm": (fillers, MILD),
}
"""One of these makes a `degrade` child: the change, and how many drops it costs."""


def varied(train: Sequence[Essay], config: VaryConfig, fold: int, seed: int) -> list[Child]:
    """Train essays with two changes each that no rater would mark; their score stays."""

    def change(text: str, rng: random.Random) -> tuple[str, int]:
        for perturb in rng.sample(PRESERVING, 2):
            text = perturb(text, rng)
        return text, 0

    parents = drawn(train, config.num_children, seed, "vary")
    return _changed(parents, "vary", change, 0.0, fold, seed)


def degraded(train: Sequence[Essay], config: DegradeConfig, fold: int, seed: int) -> list[Child]:
    """Train essays with one change each that every rater would mark; their score falls by one or two drops."""

    def change(text: str, rng: random.Random) -> tuple[str, int]:
        perturb, hardness = rng.choice(list(LOWERING.values()))
        return perturb(text, rng), hardness

    long_enough = [essay for essay in train if len(sentences(essay.text)) >= LEAST_SENTENCES]
    parents = drawn(long_enough, config.num_children, seed, "degrade")
    return _changed(parents, "degrade", change, config.drop, fold, seed)


def _changed(
    parents: Sequence[Essay],
    kind: str,
    change: Callable[[str, random.Random], tuple[str, int]],
    drop: float,
    fold: int,
    seed: int,
) -> list[Child]:
    """A child of each parent, but where the change found nothing to do."""
    children = []
    for parent in parents:
        child_id = name_child(parent.essay_id, kind, 0)  # type: ignore[arg-type]
        own_seed = child_seed(seed, child_id)
        text, hardness = change(parent.text, random.Random(own_seed))  # noqa: S311
        text = normalize_text(text)
        if text == parent.text:
            continue
        unit_score = float(get_prompt(parent.prompt_id).score_range.to_unit(parent.score))
        lowered = max(unit_score - hardness * drop, 0.0)
        children.append(Child(child_id, fold, kind, parent.essay_id, own_seed, parent.prompt_id, lowered, text))  # type: ignore[arg-type]
    return children
