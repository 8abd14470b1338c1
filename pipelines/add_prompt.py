"""Brings a prompt of one's own in: a CSV of marked essays, and what the prompt is.

Checks every row, then writes the prompt into `essays/prompts.toml`, the corpus into `data/corpora.toml` and the essays
to `data/raw/ID/`. With `--train` it also sets params.yaml, so that `make up` trains and serves this prompt alone.
docs/adding-a-prompt.md walks through it.
"""

import argparse
import json
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data.checks import check_essays
from data.corpora import OWN_CORPORA_FILE, OWN_CSV, RAW_FOLDER, OwnCorpus, all_corpora, is_own
from data.duplicates import near_duplicates
from data.own import read_own
from data.rows import Essay
from essays.console import run, say, wrote
from essays.digests import sha256_of
from essays.errors import BadParams, StageFailed
from essays.params import PARAMS_FILE, Section, parse_params
from essays.prompts import PROMPTS_FILE, Prompt, all_prompts
from pipelines.profile import change_params

MIN_ESSAYS = 25
"""Five folds of five: with fewer there is nothing to calibrate or to test on."""

OF_A_NEW_PROMPT = ("title", "description", "writers", "low", "high", "step", "resolution", "licence")
"""Options that say what a prompt is."""


def main() -> None:
    """Read the options, check the essays, write what they make."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.add_prompt", description="Add a prompt of your own.")
    parser.add_argument("--csv", type=Path, required=True, help="marked essays: columns essay and score, also essay_id")
    parser.add_argument("--prompt-id", required=True, help="its name: lower case, digits and -, for instance town-1")
    parser.add_argument("--title", help="a few words for a list")
    parser.add_argument("--description", default="", help="what writers were asked, in your words")
    parser.add_argument("--writers", default="not said", help="who wrote the essays")
    parser.add_argument("--low", type=float, help="the lowest score that a rater could give")
    parser.add_argument("--high", type=float, help="the highest")
    parser.add_argument("--step", type=float, default=1.0, help="distance between scores (default: %(default)g)")
    parser.add_argument("--resolution", default="one mark for each essay", help="how the score came about")
    parser.add_argument("--licence", default="not to be passed on", help="on what terms the essays may be used")
    parser.add_argument("--replace", action="store_true", help="new essays for a prompt that was added before")
    parser.add_argument("--train", nargs="+", metavar="MODEL", help="set params.yaml: this prompt alone, these models")
    options = parser.parse_args()
    if not options.replace and None in (options.title, options.low, options.high):
        parser.error("a new prompt needs --title, --low and --high")
    if options.replace and (given := [name for name in OF_A_NEW_PROMPT if _is_given(parser, options, name)]):
        parser.error(f"--replace brings essays alone, the prompt stays as it is: leave out --{', --'.join(given)}")
    run(lambda: add(options))


def add(options: argparse.Namespace) -> None:
    """Check, then write. Raises BadParams, BadCorpus, StageFailed; nothing is written before all checks passed."""
    name: str = options.prompt_id
    prompt = _listed(name) if options.replace else _new(options)
    essays = read_own(options.csv, name).essays
    check_essays(essays, lambda _: prompt)
    _require_enough(essays)
    say(f"{name}  {len(essays)} essays, about {len(essays) // 5} of them to test on; {_spread(essays)}")
    if pairs := near_duplicates([essay.text for essay in essays]):
        say(f"{name}  {len(pairs)} pairs of essays are nearly the same; each pair stays in one part")
    target = RAW_FOLDER / name / OWN_CSV
    target.parent.mkdir(parents=True, exist_ok=True)
    if options.csv.resolve() != target.resolve():
        shutil.copyfile(options.csv, target)
    wrote(target)
    _list_corpus(name, options, target)
    if not options.replace:
        with PROMPTS_FILE.open("a", encoding="utf-8") as file:
            file.write("\n" + toml_table(name, _fields(prompt, {"prompt_id"})))
        wrote(PROMPTS_FILE)
    if options.train:
        change_params({"corpora": [name], "models": options.train}, "--train")
    else:
        say(f"now name it in {PARAMS_FILE}, `corpora: [{name}]`, alone or beside others")
    say("then: make up")


def _is_given(parser: argparse.ArgumentParser, options: argparse.Namespace, name: str) -> bool:
    return getattr(options, name) != parser.get_default(name)


def toml_table(name: str, fields: dict[str, Any]) -> str:
    """One table; a JSON string is a TOML string too."""
    return "\n".join([f"[{name}]", *(f"{key} = {_toml(value)}" for key, value in fields.items())]) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(inner)}" for key, inner in value.items()) + " }"
    return json.dumps(value, ensure_ascii=False)


def _new(options: argparse.Namespace) -> Prompt:
    name = options.prompt_id
    if name in all_prompts() or name in all_corpora():
        raise BadParams(f"{name}: there is a prompt or corpus of this name; choose another, or give --replace")
    if not name.replace("-", "").isalnum() or name != name.lower() or not name.isascii():
        raise BadParams(f"--prompt-id {name!r:.40}: expected lower-case letters, digits and -")
    given = {key: getattr(options, key) for key in ("title", "description", "writers", "resolution")}
    bounds = {key: getattr(options, key) for key in ("low", "high", "step")}
    return parse_params(
        {"prompt_id": name, "corpus": name, **given, "score_range": bounds}, "options", Prompt, options.csv
    )


def _listed(name: str) -> Prompt:
    if name not in all_prompts() or name not in all_corpora() or not is_own(name):
        raise BadParams(f"{name}: no prompt of your own has this name, so there is nothing to replace")
    return all_prompts()[name]


def _require_enough(essays: Sequence[Essay]) -> None:
    if len(essays) < MIN_ESSAYS:
        raise StageFailed(f"{len(essays)} essays; at least {MIN_ESSAYS} are needed to train, calibrate and test")
    if len({essay.score for essay in essays}) == 1:
        raise StageFailed("every essay has the same score, so there is nothing to learn")


def _spread(essays: Sequence[Essay]) -> str:
    counts = Counter(essay.score for essay in essays)
    return "scores " + ", ".join(f"{score:g}: {counts[score]}" for score in sorted(counts))


def _list_corpus(name: str, options: argparse.Namespace, csv: Path) -> None:
    text = OWN_CORPORA_FILE.read_text("utf-8")
    comment = "".join(line for line in text.splitlines(keepends=True) if line.startswith("#"))
    own = {known: _own(corpus.title, corpus.licence, corpus.files[0].sha256, corpus.files[0].size_bytes)
           for known, corpus in all_corpora().items() if is_own(known)}  # fmt: skip
    title, licence = (own[name].title, own[name].licence) if name in own else (options.title, options.licence)
    own[name] = _own(title, licence, sha256_of(csv), csv.stat().st_size)
    tables = [toml_table(known, _fields(corpus)) for known, corpus in own.items()]
    OWN_CORPORA_FILE.write_text("\n".join([comment, *tables]), "utf-8")
    wrote(OWN_CORPORA_FILE)


def _own(title: str, licence: str, sha256: str, size_bytes: int) -> OwnCorpus:
    return OwnCorpus(title=title, licence=licence, sha256=sha256, size_bytes=size_bytes)


def _fields(section: Section, without: set[str] | None = None) -> dict[str, Any]:
    return section.model_dump(exclude=without, exclude_none=True)


if __name__ == "__main__":
    main()
