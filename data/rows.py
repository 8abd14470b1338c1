"""What a raw corpus file becomes in memory: essays, their writers' attributes, and the faults that were found."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

FaultKind = Literal[
    "doubly_encoded",
    "undefined_bytes",
    "unclosed_quote",
    "unpaired_quote",
    "number_for_an_id",
    "attribute_missing",
]

FAULTS: Mapping[FaultKind, str] = {
    "doubly_encoded": "characters that were encoded twice; turned back",
    "undefined_bytes": "bytes that the file's encoding leaves undefined, and no repair explains; dropped",
    "unclosed_quote": "a quotation mark that wraps the field and is never closed; dropped",
    "unpaired_quote": "a quotation mark inside a wrapped field that is not doubled; kept",
    "number_for_an_id": "a spreadsheet or an export turned the essay's id into a number; kept as the file has it",
    "attribute_missing": "an attribute of the writer is missing; left empty in the audit table",
}
"""Faults that leave an essay usable: what is wrong, and what was done. Any other fault stops the stage."""


@dataclass(frozen=True)
class Essay:
    """A row of essays.parquet."""

    essay_id: str
    """Unique over all corpora; begins with the corpus's short name."""
    corpus: str
    prompt_id: str
    text: str = field(repr=False)
    """Encoding repaired, in the normal form of `essays.text`. Stays out of logs and tracebacks."""
    score: float
    """The resolved score, on the prompt's scale."""
    assignment: str
    """The corpus's own writing task, to stratify folds by."""
    rater_scores: tuple[float, ...] = ()
    """Single raters in the corpus's order, on one scale of theirs; empty where they are not published."""
    traits: Mapping[str, float] = field(default_factory=dict)
    """Human scores of parts of the writing, by trait; empty where there are none."""


@dataclass(frozen=True)
class Writer:
    """A row of audit.parquet: for validity reports alone, never a model's input."""

    essay_id: str
    gender: str | None
    school_grade: str | None
    race_ethnicity: str | None
    socioeconomic_status: str | None


@dataclass(frozen=True)
class Fault:
    """Something wrong with one row that was kept; `FAULTS` says what."""

    essay_id: str
    kind: FaultKind


@dataclass(frozen=True)
class CorpusRows:
    """All that a corpus's raw file holds."""

    essays: tuple[Essay, ...]
    faults: tuple[Fault, ...]
    num_raw_rows: int
    """Rows of the raw file, the header not counted."""
    writers: tuple[Writer, ...] = ()
