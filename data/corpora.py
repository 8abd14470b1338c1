"""The corpora: whose they are, on what terms, and the exact files that `data.fetch` must find.

One that is a CSV of marked essays on one prompt is brought in by `python -m pipelines.add_prompt`, which lists it in
`corpora.toml` beside this file. To add one of another form: an entry here, a reader beside `ellipse.py` (listed in
`data.prepare`), and its prompts in `essays/prompts.toml`.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from essays.params import Section, parse_params

RAW_FOLDER = Path("data/raw")
OWN_CORPORA_FILE = Path(__file__).with_name("corpora.toml")
OWN_CSV = "essays.csv"
"""The file of a corpus of one's own, below `data/raw/NAME/`."""


def _known(name: str) -> str:
    if name not in all_corpora():
        known = ", ".join(all_corpora())
        raise ValueError(f"no such corpus; known: {known}; `python -m pipelines.add_prompt` adds one of your own")
    return name


CorpusName = Annotated[str, AfterValidator(_known)]
"""As params.yaml names it; one that nobody listed is refused there."""


@dataclass(frozen=True)
class CorpusFile:
    """One file of the owner's, named by its content."""

    path: str
    """Below the corpus's folder, in `data/raw/` and in a mirror alike."""
    sha256: str
    size_bytes: int
    url: str
    """Where the owner publishes it; empty for a file of one's own."""
    kaggle: bool = False
    """Whether the address wants a Kaggle token of somebody who accepted the competition's rules."""
    optional: bool = False
    """Taken when it lies here or in a mirror, never missed: what reads it does without, and says so."""


@dataclass(frozen=True)
class Corpus:
    """A collection of essays with human scores."""

    name: CorpusName
    title: str
    licence: str
    page: str
    """Where people read about it and accept its terms."""
    files: tuple[CorpusFile, ...]


_ELLIPSE_FILES = (
    CorpusFile(
        path="ELLIPSE_Final_github_test.zip",
        sha256="9ecddfcda83f6a99c8a24dda47fb1c30673fedeaf578a0fadac6645fd151a2f8",
        size_bytes=1_900_327,
        url="https://github.com/scrosseye/ELLIPSE-Corpus/raw/main/ELLIPSE_Final_github_test.zip",
    ),
)

_KAGGLE = "https://www.kaggle.com/api/v1/competitions/data/download/asap-aes"
_NEA = "https://raw.githubusercontent.com/nusnlp/nea/master/data"


def _fold_file(fold: int, part: str, size_bytes: int, sha256: str) -> CorpusFile:
    name = f"fold_{fold}/{part}_ids.txt"
    return CorpusFile(path=f"folds/{name}", sha256=sha256, size_bytes=size_bytes, url=f"{_NEA}/{name}")


_ASAP_FILES = (
    CorpusFile(
        path="training_set_rel3.tsv",
        sha256="cf04127eaff3224ce4aab64654e62e5738d3d672c61bb998546dd1674c60d312",
        size_bytes=16_337_165,
        url=f"{_KAGGLE}/training_set_rel3.tsv",
        kaggle=True,
    ),
    CorpusFile(
        path="valid_set.xlsx",
        sha256="3f57a089753d2d235380ad7c01f02efdc31487aeffafebf70aee0ccd4e95614e",
        size_bytes=2_162_049,
        url=f"{_KAGGLE}/valid_set.xlsx",
        kaggle=True,
        optional=True,
    ),
    CorpusFile(
        path="Essay_Set_Descriptions.zip",
        sha256="1ee7dac2284c983fc9e4aaa8ba915b079d5d7b67e2624d58ec0c35652f7c2211",
        size_bytes=218_787,
        url=f"{_KAGGLE}/Essay_Set_Descriptions.zip",
        kaggle=True,
        optional=True,
    ),
    _fold_file(0, "train", 42147, "3e048c1f8de0e8b2ccfc71524fdaffb3f3d2a909e0cdedc7c5d1a5aa129ab7ac"),
    _fold_file(0, "dev", 14083, "4e03bb0a5c42b0c97aee01feee3a3190a1981c926919faab7be44b0531626028"),
    _fold_file(0, "test", 14090, "f2a9b55496ef36e45cdb0260eb004f715ae62013980edfc2f463b15fcb8fd296"),
    _fold_file(1, "train", 42177, "548bc7acbaeae0af465d95fd63e712f4a4ab2084cb02258c0514b6b1691ce01e"),
    _fold_file(1, "dev", 14090, "f2a9b55496ef36e45cdb0260eb004f715ae62013980edfc2f463b15fcb8fd296"),
    _fold_file(1, "test", 14053, "4887e001d4adef3d283f5c5e303c249f2a8d4be0d7ceae6f58896058feeb4432"),
    _fold_file(2, "train", 42211, "eed33e6e97ba07bc3c6f0ad9b56ba8b1f8cbd7d775f86e98e246092e8c641a04"),
    _fold_file(2, "dev", 14053, "4887e001d4adef3d283f5c5e303c249f2a8d4be0d7ceae6f58896058feeb4432"),
    _fold_file(2, "test", 14056, "16f361ccc7a347efc70357b3c3304ab3a7ca23021dcfb1410752367d64053b49"),
    _fold_file(3, "train", 42226, "895f4d7ad56da1eeb20979444fb944f9756821b135d41be3d6ee98af8092aa4c"),
    _fold_file(3, "dev", 14056, "16f361ccc7a347efc70357b3c3304ab3a7ca23021dcfb1410752367d64053b49"),
    _fold_file(3, "test", 14038, "292ec9e06fb4eddb7be899c97979990c62b839e8f1c70310aa324a89dc5981e8"),
    _fold_file(4, "train", 42199, "7b0f9f868ed2740d72d7bd838735020050575f363d1f10d28f15ee23ade41c67"),
    _fold_file(4, "dev", 14038, "292ec9e06fb4eddb7be899c97979990c62b839e8f1c70310aa324a89dc5981e8"),
    _fold_file(4, "test", 14083, "4e03bb0a5c42b0c97aee01feee3a3190a1981c926919faab7be44b0531626028"),
)

_PUBLISHED: Mapping[CorpusName, Corpus] = {
    "ellipse": Corpus(
        name="ellipse",
        title="ELLIPSE (test file): essays by English learners",
        licence="CC BY-NC-SA 4.0",
        page="https://github.com/scrosseye/ELLIPSE-Corpus",
        files=_ELLIPSE_FILES,
    ),
    "asap-aes": Corpus(
        name="asap-aes",
        title="ASAP-AES: essays by US students, with the folds of Taghipour & Ng (2016)",
        licence="Kaggle competition rules (local use only, not to be distributed); folds GPL-3.0",
        page="https://www.kaggle.com/c/asap-aes",
        files=_ASAP_FILES,
    ),
}


class OwnCorpus(Section):
    """An entry of `corpora.toml`: essays of one's own on one prompt, which has the corpus's name."""

    title: str
    licence: str
    """On what terms they may be used; goes into the manifest of every model trained on them."""
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    size_bytes: int = Field(gt=0)


@cache
def all_corpora() -> Mapping[CorpusName, Corpus]:
    """Every known corpus by its name: the published ones, then one's own. Raises BadParams."""
    tables = tomllib.loads(OWN_CORPORA_FILE.read_text(encoding="utf-8"))
    own = {name: parse_params(table, name, OwnCorpus, OWN_CORPORA_FILE) for name, table in tables.items()}
    return {**_PUBLISHED, **{name: _own_corpus(name, listed) for name, listed in own.items()}}


def is_own(name: CorpusName) -> bool:
    """Whether this corpus is a CSV of one's own."""
    return name not in _PUBLISHED


def _own_corpus(name: str, listed: OwnCorpus) -> Corpus:
    file = CorpusFile(path=OWN_CSV, sha256=listed.sha256, size_bytes=listed.size_bytes, url="")
    return Corpus(name=name, title=listed.title, licence=listed.licence, page=str(OWN_CORPORA_FILE), files=(file,))
