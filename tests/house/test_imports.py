"""The import rules hold, and break when a module breaks them."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGES = ("essays", "data", "training", "export", "serving", "pipelines", "benchmarks", "deploy", "fairmark")


@pytest.fixture
def copy(root: Path, tmp_path: Path) -> Path:
    """The packages' sources, to break."""
    for package in PACKAGES:
        for source in (root / package).rglob("*.py"):
            target = tmp_path / source.relative_to(root)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
    shutil.copy(root / "pyproject.toml", tmp_path)
    return tmp_path


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    command = Path(sys.executable).with_name("lint-imports")
    return subprocess.run([command, "--no-cache"], cwd=folder, capture_output=True, text=True)


def test_contracts_hold(copy: Path) -> None:
    linted = lint(copy)
    assert linted.returncode == 0, linted.stdout


@pytest.mark.parametrize(
    ("module", "text", "contract"),
    [
        ("serving/shortcut.py", "import torch\n", "the core and serving never import torch, pandas or their kin"),
        ("serving/shortcut.py", "from training import models\n", "serving knows essays alone"),
        ("essays/shortcut.py", "def late():\n    import data.folds\n", "training side"),
        ("training/shortcut.py", "import serving.errors\n", "nothing on the training side looks at serving"),
        ("deploy/shortcut.py", "import pipelines.fetch\n", "deploy starts the others as programs"),
        ("fairmark/shortcut.py", "import serving.schemas\n", "the client speaks HTTP"),
        ("fairmark/shortcut.py", "from essays import scores\n", "the client speaks HTTP"),
    ],
)
def test_a_forbidden_import_breaks_its_contract(copy: Path, module: str, text: str, contract: str) -> None:
    (copy / module).write_text(f'"""Takes a shortcut."""\n\n{text}', "utf-8")
    linted = lint(copy)
    assert linted.returncode == 1
    broken = [line for line in linted.stdout.splitlines() if line.endswith("BROKEN")]
    assert any(line.startswith(contract) for line in broken), linted.stdout
