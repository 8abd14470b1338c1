"""The `fairmark` command."""

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from essays.console import EXIT_DONE, EXIT_FAILED, EXIT_MISUSED, say
from essays.errors import FairmarkError
from fairmark.answers import Models
from fairmark.client import DEFAULT_URL, Client
from fairmark.errors import WrongInput
from fairmark.marked import MarkedClass, require_marks, verdict_words
from fairmark.progress import Progress
from fairmark.results import CsvLines, JsonLines, Lines, ResultFile, ResultStream
from fairmark.scoring import Asking, score_all
from fairmark.sources import STDIN, Columns, Essay, count_essays, essays_of, require_paths

URL_VARIABLE, KEY_VARIABLE = "FAIRMARK_URL", "FAIRMARK_API_KEY"
_INTERRUPTED = 130
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
_DESCRIPTIONS = {"score": _SCORE, "batch": _BATCH, "validity": _VALIDITY}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run it, and leave with its exit code."""
    options = parser().parse_args(arguments)
    try:
        sys.exit(options.run(options))
    except WrongInput as error:
        say(f"error: {error}")
        sys.exit(EXIT_MISUSED)
    except FairmarkError as error:
        say(f"error: {error}")
        sys.exit(EXIT_FAILED)
    except BrokenPipeError:  # whoever read the results has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EXIT_FAILED)


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    top = argparse.ArgumentParser(
        prog="fairmark", description="Essay scores from a Fairmark service.", epilog=_EPILOG, formatter_class=_Wide
    )
    commands = top.add_subparsers(metavar="COMMAND", required=True)
    for name, run, words in (
        ("score", score, "score essays from files, folders, tables or standard input"),
        ("batch", score, "score very many into a file, here or on a Ray cluster"),
        ("validity", validity, "say whether a model may be used for a class that its teacher marked"),
        ("models", models, "list the models, and how well they agree with people"),
        ("prompts", prompts, "list the writing tasks and their scales"),
    ):
        description = _DESCRIPTIONS.get(name, f"{words[0].upper()}{words[1:]}.")
        added = commands.add_parser(name, help=words, description=description, epilog=_EPILOG, formatter_class=_Wide)
        added.set_defaults(run=run)
        if name in ("score", "batch"):
            _add_score_options(added, into_file=name == "batch")
        if name == "validity":
            _add_validity_options(added)
        _add_service_options(added)
    return top


def score(options: argparse.Namespace) -> int:
    """Score everything, and say what came of it."""
    if not options.paths:
        if sys.stdin.isatty():
            raise WrongInput("nothing to score: name a file, a folder, or - for standard input")
        options.paths = [STDIN]
    require_paths(options.paths)
    columns = Columns(options.essay_column, options.id_column, options.prompt_column)
    with _service(options) as service:
        served = service.models()
        asking = Asking(service, service.status().limits, None if options.compare else _model(options, served))
        lines = _lines(options, asking.model, served)
        essays = essays_of(
            options.paths, prompt_id=_prompt(options, service), columns=columns, stdin_format=options.stdin
        )
        progress = Progress(count_essays(options.paths, columns=columns))
        work = _on_ray(options, asking) if options.engine == "ray" else partial(score_all, asking)
        return _run(options, lines, partial(work, essays), progress)


def validity(options: argparse.Namespace) -> int:
    """Score a class that its teacher marked, and say whether the model may be used for it."""
    require_paths([options.table])
    columns = Columns(
        options.essay_column, options.id_column, options.prompt_column, (options.score_column, "rater1", "rater2")
    )
    with _service(options) as service:
        model = _model(options, service.models())
        options.paths = [options.table]
        prompt_id = _prompt(options, service)
        essays = list(essays_of(options.paths, prompt_id=prompt_id, columns=columns))
        prompt_id = _only_prompt(essays)
        require_marks(essays)
        marked, progress = MarkedClass(), Progress(len(essays))
        score_all(Asking(service, service.status().limits, model), iter(essays), marked, progress, options.jobs)
        progress.end()
        if not marked.essays:
            raise WrongInput(f"{options.table.name}: no essay got a score: {marked.left_out[0][1].message}")
        found = service.validity(marked.essays, prompt_id, model)
    if options.json:
        sys.stdout.write(found.model_dump_json(indent=1) + "\n")
    else:
        sys.stdout.write(f"{found.answer}\n\n")
        _print_table(
            ("bar", "verdict", "asked", "found"),
            ((bar.title, verdict_words(bar), bar.asked, bar.found) for bar in found.bars),
        )
    for name, detail in marked.left_out:
        say(f"left out: {name}: {detail.message}")
    return EXIT_DONE


def models(options: argparse.Namespace) -> int:
    """One line for each model and prompt."""
    with _service(options) as service:
        served = service.models()
    _print_table(
        ("model", "version", "kind", "runtime", "prompt", "qwk", "interval", "two people"),
        (
            (
                f"{model.name}{' (default)' if model.name == served.default else ''}",
                model.version,
                model.kind,
                model.runtime,
                measured.prompt_id,
                f"{measured.qwk:.3f}",
                f"{measured.qwk_interval[0]:.3f} to {measured.qwk_interval[1]:.3f}",
                "" if measured.human_qwk is None else f"{measured.human_qwk:.3f}",
            )
            for model in served.models
            for measured in model.prompts
        ),
    )
    return EXIT_DONE


def prompts(options: argparse.Namespace) -> int:
    """One line for each writing task."""
    with _service(options) as service:
        known = service.prompts().prompts
    _print_table(
        ("prompt", "scale", "models", "title"),
        (
            (
                prompt.prompt_id,
                f"{prompt.score_range.low:g} to {prompt.score_range.high:g} by {prompt.score_range.step:g}",
                " ".join(prompt.models),
                prompt.title,
            )
            for prompt in known
        ),
    )
    return EXIT_DONE


def _run(
    options: argparse.Namespace,
    lines: Lines,
    work: Callable[[ResultFile | ResultStream, Progress, int], None],
    progress: Progress,
) -> int:
    sink: ResultFile | ResultStream = (
        ResultFile(options.out, lines, overwrite=options.overwrite) if options.out else ResultStream(_write_out, lines)
    )
    where = f" in {options.out}" if options.out else ""
    try:
        work(sink, progress, options.jobs)
    except KeyboardInterrupt:
        progress.end()
        say(f"stopped after {progress.done:,} essays{_how_to_go_on(options)}")
        return _INTERRUPTED
    except FairmarkError:
        progress.end()
        say(f"{progress.done:,} essays are done{where}{_how_to_go_on(options)}")
        raise
    finally:
        sink.close()
    progress.end()
    earlier = f", {progress.earlier:,} of them by an earlier run" if progress.earlier else ""
    without = f"; {progress.failed:,} without a score, each with its reason" if progress.failed else ""
    rate = f", {progress.rate:.0f}/s" if progress.done > progress.earlier else ""
    say(f"{progress.done:,} essays{where}{earlier}{rate}{without}")
    return EXIT_FAILED if progress.failed else EXIT_DONE


def _on_ray(options: argparse.Namespace, asking: Asking) -> Callable[..., None]:
    # Ray is there only where it is asked for.
    from fairmark import ray_engine

    ray_engine.connect(options.ray_address)
    key = os.environ.get(KEY_VARIABLE)
    ask = ray_engine.AskOnNode(asking.service.url, asking.limits, asking.model, asking.service.patience_s, key)
    return partial(ray_engine.score_on_ray, ask, hold=options.hold)


def _how_to_go_on(options: argparse.Namespace) -> str:
    return "; the same command goes on behind them" if options.out else ""


def _service(options: argparse.Namespace) -> Client:
    url = options.url or os.environ.get(URL_VARIABLE) or DEFAULT_URL
    return Client(url, api_key=os.environ.get(KEY_VARIABLE), patience_s=options.patience)


def _model(options: argparse.Namespace, served: Models) -> str:
    names = [model.name for model in served.models]
    wanted = options.model or served.default
    if wanted not in names:
        raise WrongInput(f"no model {wanted!r}; known: {', '.join(names)}")
    return str(wanted)


def _prompt(options: argparse.Namespace, service: Client) -> str:
    """The writing task of essays that name none: the one asked for, or the only one that there is."""
    known = [prompt.prompt_id for prompt in service.prompts().prompts]
    if options.prompt is None:
        if len(known) > 1 and all(path.is_dir() or path == STDIN for path in options.paths):
            raise WrongInput(f"which writing task? --prompt with one of: {', '.join(known)}")
        return known[0] if len(known) == 1 else ""
    if options.prompt not in known:
        raise WrongInput(f"no prompt {options.prompt!r}; known: {', '.join(known)}")
    return str(options.prompt)


def _only_prompt(essays: Sequence[Essay]) -> str:
    """The writing task of all these essays: scores on different scales say nothing together."""
    if not essays:
        raise WrongInput("the table holds no essay")
    found = sorted({essay.prompt_id for essay in essays})
    if len(found) > 1 or not found[0]:
        raise WrongInput(
            f"expected one writing task, found {', '.join(map(repr, found))}: give --prompt or split the table"
        )
    return found[0]


def _lines(options: argparse.Namespace, model: str | None, served: Models) -> Lines:
    suffix = options.out.suffix.lower() if options.out else ""
    kind = options.results or ("jsonl" if suffix in (".jsonl", ".ndjson") else "csv")
    compared = [] if model else [each.name for each in served.models]
    if kind == "jsonl":
        return JsonLines(model or "", compared)
    # Two prompts may share a trait, which is one column.
    traits = dict.fromkeys(info.trait for each in served.models if each.name == model for info in each.traits)
    return CsvLines(model or "", compared, list(traits))


def _write_out(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _print_table(head: Sequence[str], rows: Iterator[Sequence[str]]) -> None:
    """Tabs between columns: for `cut` and `column -t`, and readable as it is."""
    for row in (head, *rows):
        sys.stdout.write("\t".join(row) + "\n")


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
    add("--json", action="store_true", help="the whole report as JSON")
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
