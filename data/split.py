"""Folds for every corpus: the published ones where there are, ours where there are none."""

from collections.abc import Sequence
from pathlib import Path

from data.asap import NUM_PUBLISHED_FOLDS, read_published_folds
from data.duplicates import duplicate_groups, near_duplicates
from data.folds import FoldRow, SplitConfig, check_folds, make_folds, published_folds, torn_pairs
from data.refit import refit_rows
from data.rows import Essay
from essays.console import say
from essays.errors import BadParams


def split_corpora(
    essays: Sequence[Essay], raw_folder: Path, config: SplitConfig, with_refit: bool = False
) -> list[FoldRow]:
    """A row for each essay and fold, checked, corpus by corpus; with one fold more where a model is to be served.

    Says what it did, and which duplicates are torn.
    """
    names = list(dict.fromkeys(essay.corpus for essay in essays))
    if "asap-aes" in names and config.num_folds != NUM_PUBLISHED_FOLDS:
        raise BadParams(
            f"params.yaml: split.num_folds is {config.num_folds}, but asap-aes comes with {NUM_PUBLISHED_FOLDS} folds"
        )
    rows = [row for name in names for row in _split_corpus(name, essays, raw_folder / name, config)]
    return [*rows, *refit_rows(rows, config)] if with_refit else rows


def _split_corpus(name: str, essays: Sequence[Essay], folder: Path, config: SplitConfig) -> list[FoldRow]:
    ours = [essay for essay in essays if essay.corpus == name]
    duplicates = near_duplicates([essay.text for essay in ours])
    pairs = [(ours[pair.first].essay_id, ours[pair.second].essay_id) for pair in duplicates]
    if name == "asap-aes":
        rows = published_folds(ours, read_published_folds(folder))
    else:
        rows = make_folds(ours, duplicate_groups(len(ours), duplicates), config)
    check_folds(rows)
    torn = torn_pairs(rows, pairs)
    say(f"{name}  {len(ours)} essays, {len(pairs)} pairs of near-duplicates, {len(torn)} across test folds")
    for first, second in torn:
        say(f"  {first} and {second} are near-duplicates, tested in different published folds; left as published")
    return rows
