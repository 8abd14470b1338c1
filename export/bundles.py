"""Where packaged models lie, for who publishes them; needs neither torch nor graphs."""

from pathlib import Path

from essays.errors import StageFailed

BUNDLE_FOLDER = Path("out/bundles")


def find_bundle(model: str, folder: Path = BUNDLE_FOLDER) -> Path:
    """The one bundle of a model. Raises StageFailed when there is none, or more than one."""
    found = sorted((folder / model).glob("*.zip"))
    if len(found) != 1:
        raise StageFailed(f"{folder / model}: expected one bundle, found {len(found)}; package {model} again")
    return found[0]
