"""What the tree must look like: rules that no single module can keep."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

PACKAGES = ("essays", "data", "training", "export", "serving", "pipelines", "benchmarks", "deploy", "fairmark")
# In two parts each, so that this file is not what it looks for.
MACHINE_TRACES = re.compile(
    "|".join(
        ["/wo" + "rk/", "/ro" + "ot/", "/ho" + r"me/\w", "/opt/" + "pypi", "/tmp/" + "boot", "files.python" + "hosted"]
    )
)

# Calls that answer otherwise in every process.
CHANGING = re.compile(
    r"(.*\.)?(now|utcnow|today|time|time_ns|monotonic|getpid|urandom|uuid[14]|random|randint|choice|token_\w+|mkdtemp)"
)


@pytest.fixture(scope="module")
def committed(root: Path) -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, text=True, check=True).stdout
    return [root / name for name in listed.split("\0") if name and (root / name).is_file()]


def test_tests_are_no_packages(committed: list[Path], root: Path) -> None:
    """An `__init__.py` below tests would make `tests/training` hide `training`."""
    assert [path for path in committed if path.is_relative_to(root / "tests") and path.name == "__init__.py"] == []


def test_the_names_of_tests_are_the_same_in_every_process(committed: list[Path], root: Path) -> None:
    """What a clock or chance says in `parametrize` becomes a name, and workers that name tests otherwise run none."""
    found = [
        f"{path.relative_to(root)}: {call}"
        for path in committed
        if path.suffix == ".py" and path.is_relative_to(root / "tests")
        for call in changing_calls(path.read_text("utf-8"))
    ]
    assert found == []


def test_a_clock_in_a_decorator_is_found() -> None:
    assert changing_calls("@mark('value', [(text(datetime.now(UTC)), 0)])\ndef test(value): ...") == [
        "datetime.now(UTC)"
    ]


def changing_calls(source: str) -> list[str]:
    """The calls within decorators that answer otherwise in every process."""
    definitions = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef | ast.ClassDef))
    decorators = (decorator for definition in definitions for decorator in definition.decorator_list)
    calls = (node for decorator in decorators for node in ast.walk(decorator) if isinstance(node, ast.Call))
    return [ast.unparse(call) for call in calls if CHANGING.fullmatch(ast.unparse(call.func))]


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_and_module_says_what_it_is_for(root: Path, package: str) -> None:
    modules = sorted((root / package).rglob("*.py"))
    assert modules, f"{package} holds no module"
    assert [path for path in modules if not ast.get_docstring(ast.parse(path.read_bytes()))] == []


def test_nothing_committed_names_a_machine(committed: list[Path]) -> None:
    found = [
        f"{path}: {match.group()}"
        for path in committed
        if path.suffix not in {".png", ".html", ".parquet"}
        for match in [MACHINE_TRACES.search(path.read_text("utf-8", errors="replace"))]
        if match
    ]
    assert found == []


def test_the_trace_pattern_finds_what_it_is_for() -> None:
    assert MACHINE_TRACES.search("see /wo" + "rk/main")
    assert not MACHINE_TRACES.search("a network/main and homework/")


@pytest.mark.parametrize(
    "path",
    [".venv/x", ".make/x", "data/raw/x", "data/processed/x", "out/x", "mlruns/x", "fairmark.toml", ".env"],
)
def test_bytes_and_secrets_are_ignored_by_git(root: Path, path: str) -> None:
    assert subprocess.run(["git", "check-ignore", "--quiet", path], cwd=root).returncode == 0


def test_every_root_package_is_watched_and_typed(root: Path) -> None:
    import tomllib

    tools = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["tool"]
    assert sorted(tools["importlinter"]["root_packages"]) == sorted(tools["mypy"]["packages"]) == sorted(PACKAGES)


def test_make_help_lists_every_target(root: Path) -> None:
    targets = set(re.findall(r"^\.PHONY: (.+)$", (root / "Makefile").read_text("utf-8"), re.M))
    assert set(_helped(root)) == targets


def test_every_make_command_in_the_readme_exists(root: Path) -> None:
    named = set(re.findall(r"\bmake ([a-z][a-z-]*)", _without_prose((root / "README.md").read_text("utf-8"))))
    assert named >= {"up", "test"}
    assert named <= set(_helped(root))


def test_every_path_in_the_readme_exists(root: Path) -> None:
    text = (root / "README.md").read_text("utf-8")
    tree = re.findall(r"^([a-z_.]+/?) {3,}", text, re.M)
    linked = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    spans = re.findall(r"`([\w./-]+\.(?:md|yaml|toml\.example|in))`", text)
    assert len(tree) > 10
    assert linked
    # Reports are there once the pipeline ran and its results were committed.
    named = [path for path in [*tree, *linked, *spans] if not path.startswith("reports/")]
    assert [path for path in named if not (root / path).exists()] == []


def test_the_index_of_decisions_lists_every_page(root: Path) -> None:
    folder = root / "docs" / "decisions"
    pages = sorted(path.name for path in folder.glob("[0-9]*.md"))
    listed = re.findall(r"\((\d{4}-[a-z0-9-]+\.md)\)", (folder / "README.md").read_text("utf-8"))
    assert listed == pages
    numbers = [name[:4] for name in pages]
    assert len(set(numbers)) == len(numbers), "two pages with the same number"


def _helped(root: Path) -> list[str]:
    text = subprocess.run(["make", "help"], cwd=root, capture_output=True, encoding="utf-8", check=True).stdout
    return re.findall(r"^  make ([a-z-]+)", text, re.M)


def _without_prose(markdown: str) -> str:
    """Only what stands in code: blocks and spans."""
    return "\n".join(re.findall(r"```.*?```|`[^`\n]+`", markdown, re.S))
