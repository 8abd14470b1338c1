"""Keeps each stage's `deps` in dvc.yaml equal to what the stage really reads.

`python -m pipelines.dependencies` prints how the two differ and exits 1 when they do; `--write` mends dvc.yaml and
keeps its comments. Kept by hand there: data, and outputs of other stages. Written here: the modules that a stage's
command imports, directly or not; the files beside those modules that they name; and, where one stage reads the output
of every model, an entry for each of `models`. (Such a stage cannot depend on the whole folder: DVC refuses it when the
stage also writes there, and a folder's digest would count what an earlier choice of models left behind.)
"""

import argparse
import ast
import tomllib
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import grimp
from ruamel.yaml import YAML

from essays.console import run, wrote
from essays.ensemble import ENSEMBLE
from essays.errors import StageFailed
from essays.params import read_params

PIPELINE_FILE = Path("dvc.yaml")

EVERY_MODEL = {
    "ensemble": ["out/scores/{model}", "out/calibration/{model}"],
    "evaluate": ["out/scores/{model}", "out/calibration/{model}"],
    "robustness": ["out/models/{model}", "out/calibration/{model}"],
    "traits-report": ["out/traits/{model}"],
    "package-ensemble": ["out/bundles/{model}", "out/calibration/{model}", "out/export/{model}"],
    "publish": ["out/bundles/{model}"],
}
"""What a stage reads of each model, by stage. What it reads of the ensemble is kept by hand."""


def main() -> None:
    """Compare, or mend with `--write`."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.dependencies", description="Compare dvc.yaml's deps.")
    parser.add_argument("--write", action="store_true", help="mend dvc.yaml instead of listing the differences")
    options = parser.parse_args()
    pipeline = load_pipeline(PIPELINE_FILE)
    differences = list(differing(pipeline))
    if options.write:
        write_pipeline(mended(pipeline), PIPELINE_FILE)
        wrote(PIPELINE_FILE, f"{len(differences)} entries changed")
    elif differences:
        print("\n".join(differences))
        raise StageFailed(f"{len(differences)} differences; `python -m pipelines.dependencies --write` mends them")


def load_pipeline(path: Path) -> dict[str, Any]:
    """dvc.yaml with its comments."""
    loaded: dict[str, Any] = _yaml().load(path)
    return loaded


def write_pipeline(pipeline: dict[str, Any], path: Path) -> None:
    """dvc.yaml from what `load_pipeline` gave."""
    _yaml().dump(pipeline, path)


def differing(pipeline: dict[str, Any]) -> Iterable[str]:
    """A line for each missing (`+`) and each needless (`-`) entry, with its stage."""
    for name, stage in pipeline["stages"].items():
        listed, wanted = set(stage.get("deps", [])), set(wanted_dependencies(name, stage))
        yield from (f"{name}: + {entry}" for entry in sorted(wanted - listed))
        yield from (f"{name}: - {entry}" for entry in sorted(listed - wanted))


def mended(pipeline: dict[str, Any]) -> dict[str, Any]:
    """The pipeline with every stage's `deps` as they should be."""
    for name, stage in pipeline["stages"].items():
        stage["deps"] = wanted_dependencies(name, stage)
    return pipeline


def wanted_dependencies(name: str, stage: dict[str, Any]) -> list[str]:
    """What stands under a stage's `deps`: entries kept by hand, then each model's, then files of ours, sorted."""
    patterns = EVERY_MODEL.get(name, [])
    by_hand = [entry for entry in stage.get("deps", []) if not _is_source(entry) and not _is_one_of(entry, patterns)]
    return [*by_hand, *_every_model(patterns), *files_read_by(stage_module(stage["cmd"]))]


def stage_module(command: str) -> str:
    """`pipelines.train` of `python -m pipelines.train --model …`."""
    python, option, module = command.split()[:3]
    if (python, option) != ("python", "-m"):
        raise ValueError(f"a stage's command starts with `python -m MODULE`, found {command!r}")
    return module


@cache
def files_read_by(module: str) -> list[str]:
    """Paths of every module in the import closure of `module`, and of the files beside them that they name."""
    graph = import_graph()
    if module not in graph.modules:
        raise StageFailed(f"{PIPELINE_FILE}: a stage runs {module}, but there is no {_source(module)}")
    modules = {module} | {found for found in graph.find_upstream_modules(module) if "." in found}
    sources = {_source(name) for name in modules}
    # Importing a.b.c runs a/__init__.py and a/b/__init__.py too, whether or not anything names them.
    sources |= {package / "__init__.py" for source in sources for package in source.parents if package.name}
    named = {beside for source in sources for beside in files_named_beside(source)}
    return sorted(path.as_posix() for path in sources | named)


@cache
def import_graph() -> grimp.ImportGraph:
    """Imports between the root packages, those for type checkers left out."""
    return grimp.build_graph(*root_packages(), exclude_type_checking_imports=True, cache_dir=None)


@cache
def root_packages() -> tuple[str, ...]:
    """The packages that import-linter watches, from pyproject.toml."""
    return tuple(tomllib.loads(Path("pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["root_packages"])


def files_named_beside(source: Path) -> Iterable[Path]:
    """Files in a module's folder, or below it, that the module names in a string: what it reads when it runs."""
    for node in ast.walk(ast.parse(source.read_bytes())):
        if not (isinstance(node, ast.Constant) and isinstance(node.value, str) and 0 < len(node.value) < 100):
            continue
        path = source.parent / node.value
        if path.suffix not in ("", ".py") and path.is_file():
            yield path


def _source(module: str) -> Path:
    path = Path(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _is_source(entry: str) -> bool:
    """Whether this is a file of a package, rather than data: `data/raw` is none, `data/rows.py` is one."""
    path = Path(entry)
    return path.parts[0] in root_packages() and path.suffix != "" and not entry.startswith("data/processed/")


def _is_one_of(entry: str, patterns: Iterable[str]) -> bool:
    folder, _, model = entry.rpartition("/")
    return f"{folder}/{{model}}" in patterns and model != ENSEMBLE


def _every_model(patterns: Iterable[str]) -> list[str]:
    models = read_params("models", tuple[str, ...])
    return [pattern.format(model=model) for pattern in patterns for model in models]


def _yaml() -> YAML:
    yaml = YAML()
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.width = 120
    return yaml


if __name__ == "__main__":
    run(main)
