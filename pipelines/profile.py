"""Turns params.yaml into that of a long run: `profiles/NAME.yaml` holds only what differs, and why.

A profile changes values that params.yaml has, or adds a model's whole section; anything else is a typo and stops here.
`git checkout params.yaml dvc.yaml` goes back.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from essays.console import run, say, wrote
from essays.errors import BadParams
from essays.params import PARAMS_FILE
from pipelines.dependencies import PIPELINE_FILE, load_pipeline, mended, write_pipeline

PROFILES = Path("profiles")
OPEN_SECTIONS = {"train"}
"""Sections that may gain an entry: a model of the user's own."""


def main() -> None:
    """Apply one profile, then bring dvc.yaml up to date with its models."""
    names = sorted(path.stem for path in PROFILES.glob("*.yaml"))
    parser = argparse.ArgumentParser(prog="python -m pipelines.profile", description="Set params.yaml for a long run.")
    parser.add_argument("--name", required=True, choices=names, help="a file of profiles/, without its ending")
    parser.add_argument("--seed", type=int, help="another seed than params.yaml's")
    options = parser.parse_args()
    profile = PROFILES / f"{options.name}.yaml"
    seed = {} if options.seed is None else {"seed": options.seed}
    change_params({**load_yaml(profile), **seed}, str(profile))
    say("now run: make repro")


def change_params(changes: Mapping[str, Any], source: str) -> None:
    """Put the changes into params.yaml, and bring dvc.yaml up to date with its models. Raises BadParams."""
    params = load_yaml(PARAMS_FILE)
    apply(changes, params, source)
    if unknown := [model for model in params["models"] if model not in params["train"]]:
        raise BadParams(f"{source}: section `train` of {PARAMS_FILE} says nothing of {', '.join(unknown)}")
    _yaml().dump(params, PARAMS_FILE)
    wrote(PARAMS_FILE)
    write_pipeline(mended(load_pipeline(PIPELINE_FILE)), PIPELINE_FILE)
    wrote(PIPELINE_FILE)


def load_yaml(path: Path) -> dict[str, Any]:
    """Sections, with their comments."""
    loaded: dict[str, Any] = _yaml().load(path)
    return loaded


def apply(changes: Mapping[str, Any], params: dict[str, Any], source: str, inside: str = "") -> None:
    """Put every change into `params`, in place. Raises BadParams naming a key that params.yaml does not have."""
    for key, value in changes.items():
        path = f"{inside}{key}"
        if key not in params and inside.rstrip(".") not in OPEN_SECTIONS:
            raise BadParams(f"{source}: {path} is not in {PARAMS_FILE}, which has {', '.join(params)}")
        if isinstance(value, Mapping) and isinstance(params.get(key), Mapping):
            apply(value, params[key], source, f"{path}.")
        else:
            params[key] = value


def _yaml() -> YAML:
    yaml = YAML()
    yaml.width = 120
    return yaml


if __name__ == "__main__":
    run(main)
