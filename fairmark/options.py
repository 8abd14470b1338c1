"""What can be asked of the `fairmark` command."""

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path

from fairmark.client import DEFAULT_URL

Run = Callable[[argparse.Namespace], int]

URL_VARIABLE, KEY_VARIABLE = "FAIRMARK_URL", "FAIRMARK_API_KEY"
_EPILOG = f"""\
environment:
  {URL_VARIABLE}      address of the service, where --url is not given
  {KEY_VARIABLE}  key that the service asks for, if it does; there is no option for it, since others see those

exit codes:
  0  every essay has a score      1  some have none, or the service failed      2  misused
"""
_SCORE = """\
Score essays. PATH is a file of text, Word (.docx) or PDF; a folder of them; a table (.csv, .tsv, .jsonl) with a column
for the essay; or - for standard input. Results are lines of CSV or JSON, one for each essay, in order; an essay that
cannot be scored has its reason there. With --out, a run that was stopped or killed goes on where it was when the same
command is given again, and no essay is written twice.
"""
_BATCH = """\
As `fairmark score`, always into a file. With --engine ray the nodes of a Ray cluster ask the service, each at --url: a
service of its own (http://127.0.0.1:3000) or one for all. Nodes may come and go; each essay has one line all the same.
"""

_VALIDITY = """\
Say whether a model may be used for a class. TABLE (.csv, .tsv, .jsonl) holds essays and, in the column `score`, what
their teacher gave them on the writing task's scale; rater1 and rater2 too, where two people marked each essay. The
service scores them, and its scores are held against the bars of the validity report, with intervals: of a small class
it says that it cannot tell. Essays that the service refuses to score are listed and left out.
"""
_DRIFT = """\
Say where the last essays differ from those that the models were made for: by writing task, the length of essays, their
words, and each model's scores, with PSI, KS and what each of them must pass to be an alarm. The key must have the scope
`admin`. Each instance of a service counts its own essays, so --url names the instance, not what stands before it.
"""
_DESCRIPTIONS = {"score": _SCORE, "batch": _BATCH, "validity": _VALIDITY, "drift": _DRIFT}
_COMMANDS = {
    "score": "score essays from files, folders, tables or standard input",
    "batch": "score very many into a file, here or on a Ray cluster",
    "validity": "say whether a model may be used for a class that its teacher marked",
    "drift": "say whether essays are still like those that the models were made for",
    "models": "list the models, and how well they agree with people",
    "prompts": "list the writing tasks and their scales",
}


def parser(runs: Mapping[str, Run]) -> argparse.ArgumentParser:
    """The command's options; `runs` says what each command does."""
    top = argparse.ArgumentParser(
        prog="fairmark", description="Essay scores from a Fairmark service.", epilog=_EPILOG, formatter_class=_Wide
    )
    commands = top.add_subparsers(metavar="COMMAND", required=True)
    for name, words in _COMMANDS.items():
        description = _DESCRIPTIONS.get(name, f"{words[0].upper()}{words[1:]}.")
        added = commands.add_parser(name, help=words, description=description, epilog=_EPILOG, formatter_class=_Wide)
        added.set_defaults(run=runs[name])
        if name in ("score", "batch"):
            _add_score_options(added, into_file=name == "batch")
        if name == "validity":
            _add_validity_options(added)
        if name in ("validity", "drift"):
            added.add_argument("--json", action="store_true", help="the whole report as JSON")
        _add_service_options(added)
    return top


def _positive(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 64:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number from 1 to 64")
    return int(text)


def _many(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number, 1 or more")
    return int(text)


class _Wide(argparse.RawDescriptionHelpFormatter):
    """The same text on every terminal, since the documentation holds it."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=28, width=118)


def _add_score_options(added: argparse.ArgumentParser, *, into_file: bool) -> None:
    add = added.add_argument
    add("paths", metavar="PATH", nargs="*", type=Path, help="files and folders; - is standard input")
    add("--prompt", metavar="ID", help="writing task of essays that name none (`fairmark prompts` lists them)")
    which = added.add_mutually_exclusive_group()
    which.add_argument("--model", metavar="NAME", help="model to ask; the service's default otherwise")
    which.add_argument("--compare", action="store_true", help="ask every model, and say how far they disagree")
    otherwise = "" if into_file else "; standard output otherwise"
    add("--out", metavar="FILE", type=Path, required=into_file, help=f"file of results, .csv or .jsonl{otherwise}")
    add("--overwrite", action="store_true", help="begin --out anew in place of going on")
    add("--results", choices=("csv", "jsonl"), help="form of the results; that of --out, or csv")
    add("--stdin", choices=("text", "csv", "jsonl"), default="text", help="what - holds: one essay, or a table")
    add("--essay-column", metavar="NAME", default="essay", help="column of the text (essay)")
    add("--id-column", metavar="NAME", default="essay_id", help="column of its name (essay_id); else its number")
    add("--prompt-column", metavar="NAME", default="prompt_id", help="column of the writing task (prompt_id)")
    add("--jobs", metavar="N", type=_positive, default=4, help="requests in flight at once (4)")
    added.set_defaults(engine="local")
    if into_file:
        add("--engine", choices=("local", "ray"), default="local", help="who asks the service: this machine (local)")
        add("--hold", metavar="N", type=_many, default=2048, help="with ray: essays in hand at once (2048)")
        add("--ray-address", metavar="ADDRESS", help="cluster to join (RAY_ADDRESS, else one on this machine)")


def _add_validity_options(added: argparse.ArgumentParser) -> None:
    add = added.add_argument
    add("table", metavar="TABLE", type=Path, help="marked essays: .csv, .tsv or .jsonl")
    add("--prompt", metavar="ID", help="writing task, where the table names none (`fairmark prompts` lists them)")
    add("--model", metavar="NAME", help="model to ask; the service's default otherwise")
    add("--score-column", metavar="NAME", default="score", help="column of the teacher's score (score)")
    add("--essay-column", metavar="NAME", default="essay", help="column of the text (essay)")
    add("--id-column", metavar="NAME", default="essay_id", help="column of its name (essay_id); else its number")
    add("--prompt-column", metavar="NAME", default="prompt_id", help="column of the writing task (prompt_id)")
    add("--jobs", metavar="N", type=_positive, default=4, help="requests in flight at once (4)")


def _add_service_options(added: argparse.ArgumentParser) -> None:
    added.add_argument("--url", help=f"address of the service ({DEFAULT_URL})")
    added.add_argument(
        "--patience", metavar="SECONDS", type=float, default=120.0,
        help="how long to ask again while the service is busy or away (120)",
    )  # fmt: skip
