"""The fold whose model is served: its train part also holds what the others test, and nothing is left to test.

What chooses the epoch and calibrates stays out of training: the dev part is fold 0's (docs/decisions/0011).
"""

from collections.abc import Sequence

from data.folds import FoldRow, SplitConfig


def is_refit(fold: int, config: SplitConfig) -> bool:
    """Whether this is the fold for serving: the one after the last that is measured."""
    return fold == config.num_folds


def refit_rows(rows: Sequence[FoldRow], config: SplitConfig) -> list[FoldRow]:
    """The rows of the fold for serving, from those of the measured folds, in their order."""
    return [
        FoldRow(row.essay_id, config.num_folds, "dev" if row.part == "dev" else "train")
        for row in rows
        if row.fold == 0
    ]
