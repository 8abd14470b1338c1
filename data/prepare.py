"""From the raw files of the chosen corpora to checked rows."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from data.asap import read_asap
from data.checks import check_essays
from data.corpora import OWN_CSV, CorpusName, is_own
from data.ellipse import read_ellipse
from data.own import read_own
from data.rows import CorpusRows

_READERS: Mapping[CorpusName, Callable[[Path], CorpusRows]] = {"ellipse": read_ellipse, "asap-aes": read_asap}


def read_corpus(name: CorpusName, folder: Path) -> CorpusRows:
    """A corpus's rows from its raw files in `folder`. Raises BadCorpus with every row that is no essay."""
    return read_own(folder / OWN_CSV, name) if is_own(name) else _READERS[name](folder)


def prepare_corpora(names: Sequence[CorpusName], raw_folder: Path) -> dict[CorpusName, CorpusRows]:
    """Every corpus's rows, checked together. Raises BadCorpus with what cannot be used."""
    corpora = {name: read_corpus(name, raw_folder / name) for name in names}
    check_essays([essay for rows in corpora.values() for essay in rows.essays])
    return corpora
