"""From the raw files of the chosen corpora to checked rows."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from data.asap import read_asap
from data.checks import check_essays
from data.corpora import CorpusName
from data.ellipse import read_ellipse
from data.rows import CorpusRows

READERS: Mapping[CorpusName, Callable[[Path], CorpusRows]] = {"ellipse": read_ellipse, "asap-aes": read_asap}


def prepare_corpora(names: Sequence[CorpusName], raw_folder: Path) -> dict[CorpusName, CorpusRows]:
    """Every corpus's rows, checked together. Raises BadCorpus with what cannot be used."""
    corpora = {name: READERS[name](raw_folder / name) for name in names}
    check_essays([essay for rows in corpora.values() for essay in rows.essays])
    return corpora
