"""ASAP's essays without scores (`valid_set.xlsx`): real text on its prompts for a teacher to label.

The file is optional (`data.corpora`). Its ids are apart from the training set's, and it belongs to no fold.
"""

from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import openpyxl

from essays.errors import BadCorpus
from essays.text import normalize_text, repair_encoding

UNLABELLED_FILE = "valid_set.xlsx"
_COLUMNS = ("essay_id", "essay_set", "essay")


@dataclass(frozen=True)
class UnlabelledEssay:
    """A real essay that nobody scored for us."""

    essay_id: str
    prompt_id: str
    text: str = field(repr=False)
    """Encoding repaired, in the normal form of `essays.text`."""


def read_unlabelled(folder: Path) -> list[UnlabelledEssay]:
    """Every row, in the file's order. Raises BadCorpus when the file is missing or has other columns."""
    path = folder / UNLABELLED_FILE
    if not path.exists():
        raise BadCorpus(
            f"{path}: no such file, and `teacher` labels its essays; name asap-aes under `corpora` and fetch, lay the"
            " owner's file there, or take `teacher` out of synthesize.kinds"
        )
    with closing(openpyxl.load_workbook(path, read_only=True)) as book:
        rows = book.worksheets[0].iter_rows(values_only=True)
        header = list(next(rows, ()))
        if missing := [column for column in _COLUMNS if column not in header]:
            raise BadCorpus(f"{path}: no column {', '.join(missing)}; is it the owner's file?")
        places = [header.index(column) for column in _COLUMNS]
        return [_essay(*(row[place] for place in places)) for row in rows if row[places[0]] is not None]


def _essay(number: object, essay_set: object, text: object) -> UnlabelledEssay:
    return UnlabelledEssay(f"asap-valid-{number}", f"asap-{essay_set}", normalize_text(repair_encoding(str(text))))
