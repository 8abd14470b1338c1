"""The locks: complete, consistent, and without anything that would bring gigabytes or a machine's address along."""

import re
import subprocess
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

PIN = re.compile(r"^(?P<name>[a-z0-9][a-z0-9.\[\],-]*)==(?P<version>\S+)", re.I)


def pins(path: Path) -> dict[str, str]:
    """Version by normal name."""
    found = map(PIN.match, path.read_text("utf-8").splitlines())
    return {re.sub(r"[._]+", "-", match["name"].split("[")[0].lower()): match["version"] for match in found if match}


LOCKS = ["requirements.txt", *(f"requirements/{name}.txt" for name in ("serve", "weights", "fuzz", "audit"))]


@pytest.mark.parametrize("lock", LOCKS)
def test_every_line_of_a_lock_is_one_release(root: Path, lock: str) -> None:
    lines = [line for line in (root / lock).read_text("utf-8").splitlines() if line and not line.startswith(("#", " "))]
    assert [line for line in lines if not PIN.match(line)] == []


@pytest.mark.parametrize("lock", LOCKS)
def test_every_release_of_a_lock_has_its_hashes_and_nothing_else_has_a_say(root: Path, lock: str) -> None:
    releases = (root / lock).read_text("utf-8").replace(" \\\n", " ").splitlines()
    wrong = [line[:60] for line in releases if not re.fullmatch(r"\S+==\S+( +--hash=sha256:[0-9a-f]{64})+", line)]
    assert wrong == []


def test_what_is_locked_installs_on_the_python_that_debian_12_has(root: Path) -> None:
    """As `.ci/run` does on a bare machine. By what the installed releases say of themselves."""
    asked = {name: distribution(name).metadata.get("Requires-Python") for name in pins(root / "requirements.txt")}
    assert len(asked) > 300
    assert {name: text for name, text in asked.items() if text and "3.11.2" not in SpecifierSet(text)} == {}


def test_no_lock_with_hashes_is_a_constraint(root: Path) -> None:
    """pip then wants every name on its command line to be pinned there, and installs nothing."""
    files = [*(root / ".github/workflows").glob("*.yml"), *(root / "deploy").rglob("*ockerfile*"), root / "Makefile"]
    assert len(files) >= 8
    asked = {
        (path.name, constraint)
        for path in files
        for constraint in re.findall(r"\bpip install[^|&]*--constraint[ =](\S+)", path.read_text("utf-8"))
    }
    assert {name for name, _ in asked} == {"pages.yml", "mlflow.Dockerfile"}
    assert [each for each in asked if each[1].endswith(tuple(LOCKS))] == []


def test_what_the_gpus_image_takes_out_of_the_lock_goes_with_its_hashes(root: Path) -> None:
    """The Dockerfile's own expression, by sed itself."""
    template = (root / "deploy/image/gpu.dockerfile.jinja").read_text("utf-8")
    (expression,) = re.findall(r"RUN sed '([^']+)' /tmp/requirements\.txt", template)
    lock = root / "requirements/serve.txt"
    left = subprocess.run(["sed", expression, lock], capture_output=True, text=True, check=True).stdout
    assert len(lock.read_text("utf-8")) - len(left) > 1000
    releases = left.replace(" \\\n", " ").splitlines()
    assert [line[:60] for line in releases if not re.fullmatch(r"\S+==\S+( +--hash=sha256:[0-9a-f]{64})+", line)] == []
    assert {line.partition("==")[0] for line in releases} == set(pins(lock)) - {"onnxruntime"}


def test_torch_is_a_release_that_any_machine_finds(root: Path) -> None:
    assert [*pins(root / "requirements/torch.txt")] == ["torch"]
    assert re.fullmatch(r"[0-9.]+", pins(root / "requirements/torch.txt")["torch"])
    assert "torch" not in pins(root / "requirements.txt")


def test_no_cuda_is_locked_for_a_machine_without_gpu(root: Path) -> None:
    heavy = [
        name for name in pins(root / "requirements.txt") if re.match(r"nvidia-(?!ml-py)|triton|tensorrt|.*-gpu$", name)
    ]
    assert heavy == []


def test_what_serves_needs_no_training_library(root: Path) -> None:
    served = pins(root / "requirements" / "serve.txt")
    assert {"torch", "transformers", "pandas", "scikit-learn", "mlflow", "dvc"}.isdisjoint(served)
    assert {"bentoml", "boto3", "onnxruntime", "tokenizers", "pydantic"} <= set(served)


def test_both_environments_agree_on_every_version(root: Path) -> None:
    whole, served = pins(root / "requirements.txt"), pins(root / "requirements" / "serve.txt")
    assert {name: version for name, version in served.items() if whole.get(name) != version} == {}


@pytest.mark.parametrize("wish", ["serve", "train", "dev"])
def test_the_lock_holds_what_was_asked_for(root: Path, wish: str) -> None:
    locked = pins(root / "requirements.txt") | pins(root / "requirements/torch.txt")
    asked = pins(root / "requirements" / f"{wish}.in")
    assert asked
    assert {name: version for name, version in asked.items() if locked.get(name) != version} == {}
