"""Who trains, who tunes, who tests: published folds where the literature has them, folds of our own where it has none.

In either kind the dev part of fold k is the test part of fold k - 1, and the test parts hold every essay once.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from data.rows import Essay
from essays.errors import BadCorpus
from essays.params import Section

Part = Literal["train", "dev", "test"]
PARTS: tuple[Part, ...] = ("train", "dev", "test")


class SplitConfig(Section):
    """Section `split` of params.yaml."""

    num_folds: int = Field(ge=3)
    """Folds made where none are published; with 5, 60 % of the essays train, 20 % tune and 20 % test."""
    seed: int
    """Decides which of two essays with the same assignment and score goes where."""


@dataclass(frozen=True)
class FoldRow:
    """A row of folds.parquet."""

    essay_id: str
    fold: int
    part: Part


def make_folds(essays: Sequence[Essay], groups: Sequence[int], config: SplitConfig) -> list[FoldRow]:
    """Folds of essays that have none: like mixes of scores and assignments in each, no group torn apart.

    `groups` names each essay's group of near-duplicates (`data.duplicates.duplicate_groups`). Neither the order of the
    essays nor essays of another assignment and score change the tie between two that compete for a place.
    """
    test_fold_of_group = _deal(essays, groups, config)
    return [
        FoldRow(essay.essay_id, fold, _part(test_fold_of_group[group], fold, config.num_folds))
        for fold in range(config.num_folds)
        for essay, group in zip(essays, groups, strict=True)
    ]


def published_folds(essays: Sequence[Essay], folds: Sequence[Mapping[str, Sequence[str]]]) -> list[FoldRow]:
    """The folds as they were published, in the essays' order. Raises BadCorpus when they do not cover the essays."""
    rows: list[FoldRow] = []
    for number, ids_by_part in enumerate(folds):
        part_of = {essay_id: part for part in PARTS for essay_id in ids_by_part[part]}
        _require_cover(number, ids_by_part, {essay.essay_id for essay in essays})
        rows += [FoldRow(essay.essay_id, number, part_of[essay.essay_id]) for essay in essays]
    return rows


def check_folds(rows: Sequence[FoldRow]) -> None:
    """Pass folds whose test parts partition the essays and whose dev parts are the test parts of the fold before."""
    num_folds = max(row.fold for row in rows) + 1
    tests = Counter(row.essay_id for row in rows if row.part == "test")
    wrong = [essay_id for essay_id in dict.fromkeys(row.essay_id for row in rows) if tests[essay_id] != 1]
    if wrong:
        raise BadCorpus(f"{len(wrong)} essays are not in the test part of exactly one fold, the first is {wrong[0]}")
    test_fold = {row.essay_id: row.fold for row in rows if row.part == "test"}
    for row in rows:
        expected = _part(test_fold[row.essay_id], row.fold, num_folds)
        if row.part != expected:
            raise BadCorpus(f"fold {row.fold}: {row.essay_id} is in {row.part}, expected {expected}")


def torn_pairs(rows: Sequence[FoldRow], pairs: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """The pairs whose two essays are tested in different folds, so that a model may have trained on a copy."""
    test_fold = {row.essay_id: row.fold for row in rows if row.part == "test"}
    return [(first, second) for first, second in pairs if test_fold[first] != test_fold[second]]


def _deal(essays: Sequence[Essay], groups: Sequence[int], config: SplitConfig) -> dict[int, int]:
    """The fold in which each group is tested: groups in order of score and assignment, dealt like cards.

    So each score, and each assignment within a score, differs by at most one between folds (but for groups).
    """
    leaders: dict[int, Essay] = {}
    for essay, group in zip(essays, groups, strict=True):
        leaders[group] = min(leaders.get(group, essay), essay, key=lambda member: member.essay_id)
    ordered = sorted(leaders, key=lambda group: _dealing_order(leaders[group], config.seed))
    return {group: place % config.num_folds for place, group in enumerate(ordered)}


def _dealing_order(essay: Essay, seed: int) -> tuple[str, float, str, bytes]:
    # A digest, not a generator's draws: the same on every machine and version, whatever else is in the corpus.
    shuffle = hashlib.sha256(f"{seed}:{essay.essay_id}".encode()).digest()
    return essay.prompt_id, essay.score, essay.assignment, shuffle


def _part(test_fold: int, fold: int, num_folds: int) -> Part:
    if test_fold == fold:
        return "test"
    return "dev" if (test_fold + 1) % num_folds == fold else "train"


def _require_cover(number: int, ids_by_part: Mapping[str, Sequence[str]], essay_ids: set[str]) -> None:
    listed = [essay_id for part in PARTS for essay_id in ids_by_part[part]]
    repeated = len(listed) - len(set(listed))
    missing, unknown = essay_ids - set(listed), set(listed) - essay_ids
    if repeated or missing or unknown:
        raise BadCorpus(
            f"published fold {number}: {repeated} ids stand twice, {len(missing)} essays are in no part, "
            f"{len(unknown)} ids belong to no essay"
        )
