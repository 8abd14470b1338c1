"""Where the files of Swagger UI lie: BentoML brings them, so that /docs needs no network."""

from importlib.resources import files
from pathlib import Path


def swagger_folder() -> Path:
    """The folder with `swagger-ui.css` and `swagger-ui-bundle.js`."""
    return Path(str(files("bentoml"))) / "_internal" / "server" / "static_content"
