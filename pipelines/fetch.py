"""Stage `fetch`: the corpora's files into data/raw/, each with the right sha256."""

import argparse

from data.corpora import RAW_FOLDER, CorpusName, all_corpora
from data.fetch import fetch_corpus, kaggle_token, mirror_folder
from essays import console
from essays.params import read_params


def main() -> None:
    """Fetch what `corpora` in params.yaml names."""
    argparse.ArgumentParser(
        prog="python -m pipelines.fetch",
        description="Fetch the files of every corpus in params.yaml's `corpora` into data/raw/ and check their sha256.",
        epilog="Looks in data/raw/, then in $ESSAYS_MIRROR, then at the owner's address. "
        "asap-aes needs $KAGGLE_USERNAME and $KAGGLE_KEY, or the file put into data/raw/asap-aes/ by hand.",
    ).parse_args()
    mirror, token = mirror_folder(), kaggle_token()
    for name in read_params("corpora", tuple[CorpusName, ...]):
        console.wrote(fetch_corpus(all_corpora()[name], RAW_FOLDER, mirror, token))


if __name__ == "__main__":
    console.run(main)
