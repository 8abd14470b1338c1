"""Closed, strict, frozen configuration, and the one reader of `params.yaml`.

Each package states its own sections (`training.config`, `export.config`); this module leaves them to it. A stage reads
only the keys that it names, so that DVC reruns it only when those change.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from essays.errors import BadParams

PARAMS_FILE = Path("params.yaml")


class Section(BaseModel):
    """A part of a configuration: no unknown keys, no silent conversions, no changes after reading."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", use_attribute_docstrings=True)


Value = TypeVar("Value")


def read_params(key: str, kind: type[Value], path: Path = PARAMS_FILE) -> Value:
    """The value under the dotted `key`, checked against `kind`.

    Raises BadParams with every fault at once: a missing key, an unknown one, a string where a number belongs.
    """
    return parse_params(_value_at(_load(path), key, path), key, kind, path)


def parse_params(value: Any, key: str, kind: type[Value], path: Path = PARAMS_FILE) -> Value:
    """`value` checked against `kind`; `key` and `path` only name it in the error."""
    try:
        # Lists are what YAML has; sections hold tuples. Only that one conversion is allowed.
        return TypeAdapter(kind).validate_python(_tuples(value), strict=True)
    except ValidationError as error:
        raise BadParams(_describe(error, key, path)) from error


def section_text(section: Section) -> str:
    """A section as JSON: the same text for the same content."""
    return section.model_dump_json(indent=1) + "\n"


def write_section(section: Section, path: Path) -> None:
    """`section_text` in a file, with its folder made; each kind's own reader checks it again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(section_text(section), encoding="utf-8")


def _load(path: Path) -> Mapping[str, Any]:
    try:
        loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BadParams(f"{path}: no such file; run from the project's root") from error
    except yaml.YAMLError as error:
        raise BadParams(f"{path}: not YAML: {error}") from error
    if not isinstance(loaded, dict):
        raise BadParams(f"{path}: expected sections, found {type(loaded).__name__}")
    return loaded


def _value_at(tree: Mapping[str, Any], key: str, path: Path) -> Any:
    value: Any = tree
    for depth, part in enumerate(key.split(".")):
        if not isinstance(value, Mapping) or part not in value:
            parent = ".".join(key.split(".")[:depth]) or "the top level"
            known = ", ".join(map(str, value)) if isinstance(value, Mapping) else "nothing"
            raise BadParams(f"{path}: no {key!r}: {parent} has {known}")
        value = value[part]
    return value


def _tuples(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(map(_tuples, value))
    if isinstance(value, dict):
        return {key: _tuples(inner) for key, inner in value.items()}
    return value


def _describe(error: ValidationError, key: str, path: Path) -> str:
    faults = [
        f"  {'.'.join([key, *map(str, fault['loc'])])}: {fault['msg']} (found {fault['input']!r:.60})"
        for fault in error.errors()
    ]
    return "\n".join([f"{path}: {len(faults)} fault{'s' * (len(faults) > 1)}", *faults])
