"""Bring a corpus's files in: from `data/raw/`, else from a mirror, else from the owner; never without the right digest.

Leaves HTTP to `data.download`.
"""

import os
import shutil
from pathlib import Path

from data.corpora import Corpus, CorpusFile
from data.download import KaggleToken, download
from essays.console import human_size, say
from essays.digests import sha256_of
from essays.errors import BadCorpus

MIRROR_VARIABLE = "ESSAYS_MIRROR"
KAGGLE_VARIABLES = ("KAGGLE_USERNAME", "KAGGLE_KEY")
_REPLACE = "python -m pipelines.add_prompt --replace --csv FILE --prompt-id"


def mirror_folder() -> Path | None:
    """The folder that `$ESSAYS_MIRROR` names, if it is set. Raises BadCorpus when there is no such folder."""
    named = os.environ.get(MIRROR_VARIABLE)
    if not named:
        return None
    if not Path(named).is_dir():
        raise BadCorpus(f"{MIRROR_VARIABLE} is {named!r}, which is no folder; correct it, or unset it to download")
    return Path(named)


def kaggle_token() -> KaggleToken | None:
    """Kaggle's user name and key from the environment, if both are set."""
    username, key = (os.environ.get(variable) for variable in KAGGLE_VARIABLES)
    return (username, key) if username and key else None


def fetch_corpus(corpus: Corpus, raw_folder: Path, mirror: Path | None, token: KaggleToken | None) -> Path:
    """The corpus's folder below `raw_folder`, with every file in place. Raises BadCorpus, saying what to do."""
    folder = raw_folder / corpus.name
    for file in corpus.files:
        source = _fetch_file(corpus, file, folder / file.path, mirror, token)
        say(f"{corpus.name}/{file.path}  {human_size(file.size_bytes)}  {source}")
    return folder


def _fetch_file(corpus: Corpus, file: CorpusFile, target: Path, mirror: Path | None, token: KaggleToken | None) -> str:
    """Put one file in place and tell where it came from."""
    mirrored = mirror / corpus.name / file.path if mirror else None
    if target.exists():
        again = "delete it and fetch again" if file.url else f"if the change is meant: {_REPLACE} {corpus.name}"
        _require_digest(target, file, again)
        return "was here"
    if mirrored and mirrored.exists():
        _require_digest(mirrored, file, f"mend the mirror, or unset {MIRROR_VARIABLE} to download")
        _copy(mirrored, target)
        return "from the mirror"
    if file.optional:
        return "left out: optional, and in no mirror"
    if not file.url:
        raise BadCorpus(f"{target}: not here, and nobody publishes it; {_what_to_do(corpus, file, target)}")
    if file.kaggle and token is None:
        reason = "not here, and Kaggle gives it only to accounts that accepted the rules"
        raise BadCorpus(f"{target}: {reason}; {_what_to_do(corpus, file, target)}")
    _download(corpus, file, target, token)
    return "downloaded"


def _copy(source: Path, target: Path) -> None:
    unfinished = _unfinished(target)
    shutil.copyfile(source, unfinished)
    unfinished.replace(target)


def _download(corpus: Corpus, file: CorpusFile, target: Path, token: KaggleToken | None) -> None:
    unfinished = _unfinished(target)
    try:
        download(file, unfinished, token)
    except BadCorpus as error:
        raise BadCorpus(f"{error}\n{_what_to_do(corpus, file, target)}") from error
    try:
        _require_digest(unfinished, file, f"{file.url} gave other bytes\n{_what_to_do(corpus, file, target)}")
    except BadCorpus:
        unfinished.unlink()  # another run must not go on from wrong bytes
        raise
    unfinished.replace(target)


def _unfinished(target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    return target.with_name(target.name + ".part")


def _require_digest(path: Path, file: CorpusFile, what_to_do: str) -> None:
    found = sha256_of(path)
    if found != file.sha256:
        raise BadCorpus(
            f"{path}: sha256 {found[:12]}, expected {file.sha256[:12]} "
            f"({path.stat().st_size} bytes, expected {file.size_bytes}); {what_to_do}"
        )


def _what_to_do(corpus: Corpus, file: CorpusFile, target: Path) -> str:
    """The ways to this file that are left to a person."""
    by_hand = _download_step(corpus, file, target) if file.url else f"put the file that was added to {target}"
    steps = [by_hand, f"set {MIRROR_VARIABLE} to a folder that holds {corpus.name}/{file.path}"]
    if file.kaggle:
        steps.insert(1, f"accept the rules and set {' and '.join(KAGGLE_VARIABLES)} to your Kaggle token")
    return "do one of these, then fetch again:" + "".join(f"\n  - {step}" for step in steps)


def _download_step(corpus: Corpus, file: CorpusFile, target: Path) -> str:
    page = f"accept the rules at {corpus.page} and " if file.kaggle else ""
    return f"{page}download {Path(file.path).name} from {corpus.page if file.kaggle else file.url} to {target}"
