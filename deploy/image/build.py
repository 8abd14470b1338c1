"""`make image`: a Bento from this checkout, and an image from the Bento.

`--variant gpu` is for machines with an NVIDIA GPU. `--base debian` makes the base image from Debian packages, where no
registry can be reached. What follows `--` goes to the engine: a package index of yours is `-- --build-arg …`.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Literal, get_args

from deploy.image.engine import Buildah, ImageFailed, find_engine
from essays.console import human_time, run, say

Variant = Literal["cpu", "gpu"]
BENTO_FILES = {"cpu": "bentofile.yaml", "gpu": "deploy/image/gpu.yaml"}
OWN_BASE = "localhost/fairmark-base:bookworm"


def main() -> None:
    """Build one variant."""
    parser = argparse.ArgumentParser(prog="python -m deploy.image.build", description="Build the container image.")
    parser.add_argument("--variant", choices=get_args(Variant), default="cpu", help="for which machine")
    parser.add_argument("--tag", help="name of the image (default: fairmark:VARIANT)")
    parser.add_argument("--base", help="another base image; debian makes one from Debian's packages (buildah)")
    parser.add_argument("engine_options", nargs="*", metavar="OPTION", help="after --: for docker or buildah build")
    options = parser.parse_args()
    tag = options.tag or f"fairmark:{options.variant}"
    run(lambda: build(options.variant, tag, options.base, options.engine_options))


def build(variant: Variant, tag: str, base: str | None, engine_options: list[str]) -> None:
    """The image `tag`. Raises ImageFailed."""
    engine, started = find_engine(), time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        bento = build_bento(variant, Path(scratch))
        if base == "debian":
            if not isinstance(engine, Buildah):
                raise ImageFailed("--base debian is buildah's; Docker takes its base from a registry")
            engine.own_base(OWN_BASE, Path(scratch))
            base = OWN_BASE
        base_options = ["--build-arg", f"BASE={base}"] if base else []
        say(f"{engine.name}: building {tag}")
        engine.build(bento, tag, [*base_options, *engine_options])
    say(f"built {tag} with {engine.name} in {human_time(time.monotonic() - started)}")


def build_bento(variant: Variant, home: Path) -> Path:
    """The Bento's folder, in a BentoML home of its own. Raises ImageFailed."""
    command = [sys.executable, "-m", "bentoml", "build", "--bentofile", BENTO_FILES[variant], "--output", "tag", "."]
    done = subprocess.run(command, env={**os.environ, "BENTOML_HOME": str(home)}, capture_output=True, text=True)
    if done.returncode:
        raise ImageFailed(f"bentoml build: {done.stderr.strip()}")
    return next(path for path in (home / "bentos").glob("*/*") if path.is_dir())


if __name__ == "__main__":
    main()
