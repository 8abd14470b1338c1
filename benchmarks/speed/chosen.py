"""The essays of the benchmark: fixed by their ids, of natural lengths, never written to a report."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from essays.errors import BadInput, BadParams
from essays.gate import scorable_text

ESSAYS_FILE = Path("data/processed/essays.parquet")
_SALT = "fairmark-speed-1"


@dataclass(frozen=True)
class ChosenEssay:
    """One request's content."""

    essay_id: str
    prompt_id: str
    prompt_index: int
    """The prompt's place in the model's own order."""
    text: str
    """In the normal form, so that every peer sees the same characters."""


def choose_essays(path: Path, prompt_ids: Sequence[str], number: int) -> list[ChosenEssay]:
    """The essays of these prompts whose salted ids hash lowest: a fair draw, and the same one in every run.

    A smaller number gives the first ones of a larger. Raises BadParams when there are not as many.
    """
    if not path.exists():
        raise BadParams(f"{path}: no such file; run `dvc repro prepare`, or name another table (--table)")
    table = pq.read_table(path, columns=["essay_id", "prompt_id", "text"])
    rows = sorted(table.to_pylist(), key=lambda row: _draw(row["essay_id"]))
    found = list(_scorable(rows, prompt_ids, number))
    if len(found) < number:
        raise BadParams(f"{path}: {len(found)} essays of {', '.join(prompt_ids)}; {number} were asked for (--essays)")
    return found


def digest_of(essays: Iterable[ChosenEssay]) -> str:
    """Names a choice of essays, texts included."""
    parts = [f"{essay.essay_id}\0{essay.prompt_index}\0{essay.text}" for essay in essays]
    return hashlib.sha256("\0\0".join(parts).encode()).hexdigest()


def middling(essays: Sequence[ChosenEssay]) -> ChosenEssay:
    """The essay of median length."""
    return sorted(essays, key=lambda essay: (len(essay.text), essay.essay_id))[len(essays) // 2]


def _scorable(rows: Iterable[dict[str, str]], prompt_ids: Sequence[str], number: int) -> Iterable[ChosenEssay]:
    places = {prompt_id: index for index, prompt_id in enumerate(prompt_ids)}
    left = number
    for row in rows:
        if left and row["prompt_id"] in places:
            try:
                text = scorable_text(row["text"])
            except BadInput:
                continue  # the service refuses it, and a refusal is no score to time
            yield ChosenEssay(row["essay_id"], row["prompt_id"], places[row["prompt_id"]], text)
            left -= 1


def _draw(essay_id: str) -> str:
    return hashlib.sha256(f"{_SALT}\0{essay_id}".encode()).hexdigest()
