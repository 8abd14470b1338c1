"""A synthetic essay, a *child*: what it was made from, for which fold, and what stops one from leaking.

A child is made of a train essay of its fold and is trained on in that fold alone. `teacher` is the one kind without a
labelled parent: its text is a real unlabelled essay, which is its own parent and no essay of any fold.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa

from data.tables import PROCESSED_FOLDER, read_table
from essays.errors import BadCorpus

Kind = Literal["continue", "vary", "degrade", "teacher"]
KINDS: tuple[Kind, ...] = ("continue", "vary", "degrade", "teacher")
SYNTHETIC_FILE = PROCESSED_FOLDER / "synthetic.parquet"
CHILDREN_SCHEMA = pa.schema(
    [
        pa.field("child_id", pa.string(), nullable=False),
        pa.field("fold", pa.int32(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("parent_id", pa.string(), nullable=False),
        pa.field("seed", pa.int64(), nullable=False),
        pa.field("prompt_id", pa.string(), nullable=False),
        pa.field("unit_score", pa.float64(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
    ]
)


@dataclass(frozen=True)
class Child:
    """A row of synthetic.parquet."""

    child_id: str
    """Unique in its fold; begins with the parent's id."""
    fold: int
    """The one fold whose models may learn it."""
    kind: Kind
    parent_id: str
    """The essay that it was made from."""
    seed: int
    """Of the generator that made it, and of nothing else."""
    prompt_id: str
    unit_score: float
    """What is learned; between the grades for soft labels."""
    text: str = field(repr=False)
    """In the normal form of `essays.text`. Stays out of logs and tracebacks."""


def name_child(parent_id: str, kind: Kind, number: int) -> str:
    """The id of a parent's child; `number` counts its children of this kind."""
    return f"{parent_id}~{kind}-{number}"


def child_seed(seed: int, child_id: str) -> int:
    """A child's own seed, below 2**63: neither the fold nor the other children change it."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{child_id}".encode()).digest()[:8], "big") >> 1


def child_random(seed: int) -> np.random.Generator:
    """The generator of a child's seed."""
    return np.random.default_rng(seed)


def check_children(children: Iterable[Child], parts: Mapping[str, str]) -> None:
    """Pass children whose parents may be learned from in their fold; `parts` gives each essay's part there.

    Raises BadCorpus, naming the first that may not: a parent in dev or test, or one that no essay has.
    """
    for child in children:
        part = parts.get(child.parent_id)
        expected = None if child.kind == "teacher" else "train"
        if part != expected or child.child_id in parts:
            raise BadCorpus(
                f"synthetic essay {child.child_id} of fold {child.fold}: its parent {child.parent_id} is in"
                f" {part or 'no part'}, expected {expected or 'no part: an unlabelled essay'}; run the synthesize stage"
            )


def children_table(children: Sequence[Child]) -> pa.Table:
    """Rows of `CHILDREN_SCHEMA`, in the order given."""
    return pa.Table.from_pylist([asdict(child) for child in children], schema=CHILDREN_SCHEMA)


def read_children(fold: int, path: Path = SYNTHETIC_FILE) -> list[Child]:
    """The children of one fold; none where no kind is chosen."""
    rows = read_table(path, CHILDREN_SCHEMA).to_pylist()
    return [Child(**row) for row in rows if row["fold"] == fold]
