"""The `fairmark` command."""

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from essays.console import EXIT_DONE, EXIT_FAILED, EXIT_MISUSED, say
from essays.errors import FairmarkError
from fairmark.answers import Models
from fairmark.client import DEFAULT_URL, Client
from fairmark.drift import HEAD, in_words, rows_of
from fairmark.errors import WrongInput
from fairmark.marked import MarkedClass, require_marks, verdict_words
from fairmark.options import KEY_VARIABLE, URL_VARIABLE, parser
from fairmark.progress import Progress
from fairmark.results import CsvLines, JsonLines, Lines, ResultFile, ResultStream
from fairmark.scoring import Asking, score_all
from fairmark.sources import STDIN, Columns, Essay, count_essays, essays_of, require_paths

_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> None:
    """Run it, and leave with its exit code."""
    options = parser(RUNS).parse_args(arguments)
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


def drift(options: argparse.Namespace) -> int:
    """Whether essays are still like those that the models were made for."""
    with _service(options) as service:
        found = service.drift()
    if options.json:
        sys.stdout.write(found.model_dump_json(indent=1) + "\n")
    else:
        sys.stdout.write(f"{in_words(found)}\n\n")
        _print_table(HEAD, rows_of(found))
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


RUNS = {"score": score, "batch": score, "validity": validity, "drift": drift, "models": models, "prompts": prompts}
