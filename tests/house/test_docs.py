"""README and docs tell the truth: every command is one that there is, every link leads somewhere, the site builds."""

import importlib.util
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
import yaml

from deploy.site import turned

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "data/README.md", *ROOT.glob("docs/*.md")])
OTHER_PROGRAMS = {
    "apt-get", "aws", "bentoml", "cat", "curl", "docker", "dvc", "git", "jq", "nginx", "pip", "ray", "rm",
}  # fmt: skip
"""Programs that are not ours: what is said of them is theirs to check."""
PLACEHOLDER = "…"


@dataclass(frozen=True)
class Command:
    """One command of a page."""

    page: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.page}: {' '.join(self.words)}"


def commands() -> Iterator[Command]:
    """Those of every `sh` block, and what is in back quotes and begins like one of ours."""
    for path in PAGES:
        text = path.read_text("utf-8")
        blocks = re.findall(r"```sh\n(.*?)```", text, re.S)
        joined = "\n".join(blocks).replace("\\\n", " ")
        inline = re.findall(r"`((?:make|python -m|fairmark) [a-z][^`]*)`", re.sub(r"```.*?```", "", text, flags=re.S))
        for line in [*joined.splitlines(), *inline]:
            yield from _commands_of(path.relative_to(ROOT).as_posix(), line)


def _commands_of(page: str, line: str) -> Iterator[Command]:
    lexer = shlex.shlex(re.sub(r"\s#.*", "", line), posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] = []
    for word in [*lexer, ";"]:
        if not words and re.fullmatch(r"[A-Z_]+=\S*", word):
            continue  # a variable of the command's environment
        if word in (";", "|", "&&"):
            if words:
                yield Command(page, tuple(words))
            words = []
        else:
            words.append(word)


COMMANDS = sorted(set(commands()), key=str)


@cache
def help_of(*command: str) -> str:
    """What a command of ours says of itself."""
    done = subprocess.run([sys.executable, *command, "--help"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-500:]
    return done.stdout


@cache
def targets() -> dict[str, str]:
    """Make's targets with their recipes."""
    blocks = re.findall(r"^([a-z-]+):[^\n]*\n((?:\t[^\n]*\n)*)", (ROOT / "Makefile").read_text("utf-8"), re.M)
    return dict(blocks)


def test_there_are_commands_to_check() -> None:
    assert len(COMMANDS) > 40
    assert {command.page for command in COMMANDS} >= {"README.md", "docs/adding-a-prompt.md", "docs/deployment.md"}


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.words[0] == "make"], ids=str)
def test_a_target_and_its_variables_are_in_the_makefile(command: Command) -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for word in command.words[1:]:
        name, is_variable, _ = word.partition("=")
        if is_variable:
            assert f"$({name})" in makefile or f"$(if $({name})" in makefile, name
        elif re.fullmatch(r"[a-z-]+", word):
            assert word in targets(), word


def modules() -> dict[str, set[str]]:
    """Options that pages give to each module of ours."""
    asked: dict[str, set[str]] = {}
    for command in COMMANDS:
        if command.words[:2] == ("python", "-m"):
            options = {word.partition("=")[0] for word in command.words[3:] if re.match(r"--[a-z]", word)}
            asked.setdefault(command.words[2], set()).update(options)
    return asked


# Starting Python takes a second or more for each; those whose parser is known otherwise are only looked for.
@pytest.mark.parametrize("module", sorted(modules()))
def test_a_module_is_there_and_knows_the_options(module: str) -> None:
    options = modules()[module]
    path = ROOT.joinpath(*module.split("."))
    source = next((each for each in (path.with_suffix(".py"), path / "__main__.py") if each.exists()), None)
    assert source is not None, f"no module {module}"
    text = source.read_text("utf-8")
    for option in options:
        if f'"{option}"' not in text:
            assert option in help_of("-m", module), f"{module} knows no {option}"


def test_options_of_our_command_are_those_of_its_help() -> None:
    asked = [command.words for command in COMMANDS if command.words[0] == "fairmark"]
    assert asked
    for words in asked:
        assert f" {words[1]} " in help_of("-m", "fairmark"), words
        said = help_of("-m", "fairmark", words[1])
        assert [word for word in words if word.startswith("--") and word not in said] == []


def test_no_command_is_of_a_program_that_nobody_named() -> None:
    ours = {"make", "python", "fairmark", ".", "cd"}
    assert {command.words[0] for command in COMMANDS} - ours - OTHER_PROGRAMS == set()


def test_every_link_leads_to_a_file() -> None:
    broken = [
        f"{path.relative_to(ROOT)}: {target}"
        for path in [*PAGES, *ROOT.glob("docs/decisions/*.md")]
        for target in re.findall(r"\]\(([^)#\s]+)", path.read_text("utf-8"))
        if "://" not in target and not (path.parent / target).exists()
    ]
    assert broken == []


def test_what_a_page_names_in_the_tree_is_there() -> None:
    named = {
        (path.relative_to(ROOT).as_posix(), name)
        for path in PAGES
        for name in re.findall(
            r"`((?:data|docs|deploy|essays|export|fairmark|pipelines|serving|tests|training)/[\w./-]+\.\w+)`",
            path.read_text("utf-8"),
        )
    }
    made = {"data/raw/asap-aes/training_set_rel3.tsv", "data/processed/synthetic.parquet"}
    assert {each for each in named if not (ROOT / each[1]).exists() and each[1] not in made} == set()


def test_a_link_out_of_docs_goes_to_the_repository_or_stays_text() -> None:
    page = "See [the sheet](../data/README.md#folds), [why](decisions/README.md) and [how](../../README.md)."
    assert turned(page, "trust.md", None) == "See the sheet, [why](decisions/README.md) and how."
    turned_to = turned("[x](../../data/README.md#folds)", "decisions/0001.md", "https://example.org/ours")
    assert turned_to == "[x](https://example.org/ours/blob/main/data/README.md#folds)"


@pytest.mark.slow
def test_the_site_builds_strictly_and_asks_nobody(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    index = (tmp_path / "index.html").read_text("utf-8")
    assert "Quick start" in index
    loaded = re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="(https?://[^"]+)"', index)
    assert loaded == []


def test_numbers_of_the_page_on_trust_are_those_of_the_reports() -> None:
    page = (ROOT / "docs/trust.md").read_text("utf-8")
    for report, column in (("reports/asap/evaluation.md", 1), ("reports/evaluation.md", 2)):
        rows = re.findall(r"^\| ([a-z-]+) \|.*?\| (\.\d+ \[[^\]]+\]) \|", (ROOT / report).read_text("utf-8"), re.M)
        measured = dict(reversed(rows))
        for name in ("ensemble", "minilm", "lexical", "lstm"):
            (row,) = [line for line in page.splitlines() if line.startswith(f"| `{name}` |")]
            assert row.split("|")[1 + column].strip() == measured[name], (report, name)


@pytest.mark.parametrize("workflow", sorted((ROOT / ".github/workflows").glob("*.yml")), ids=lambda path: path.stem)
def test_every_action_is_pinned_by_commit_and_nothing_is_allowed_by_default(workflow: Path) -> None:
    text = workflow.read_text("utf-8")
    for action, note in re.findall(r"uses: (\S+)(.*)", text):
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", action), action
        assert re.fullmatch(r" # v\d+\.\d+\.\d+", note), f"{action}: no version beside it"
    assert yaml.safe_load(text)["permissions"] == {}
    for module in re.findall(r"python -m ([\w.]+)", text):
        assert module in ("pip", "venv") or importlib.util.find_spec(module), module


@pytest.mark.slow
def test_zizmor_finds_nothing_in_the_workflows() -> None:
    command = [Path(sys.executable).with_name("zizmor"), "--quiet", "--offline", ROOT / ".github/workflows"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def actionlint(*workflows: Path) -> subprocess.CompletedProcess[str]:
    command = [Path(sys.executable).with_name("actionlint"), "-no-color", *workflows]
    return subprocess.run(command, capture_output=True, text=True)


def test_actionlint_finds_nothing_in_the_workflows_and_what_is_wrong_in_others(tmp_path: Path) -> None:
    workflows = sorted((ROOT / ".github/workflows").glob("*.yml"))
    done = actionlint(*workflows)
    assert done.returncode == 0, done.stdout + done.stderr
    (release,) = (each for each in workflows if each.stem == "release")
    for right, wrong, reason in (
        ("needs: image", "needs: picture", "picture"),
        ("steps.push.outputs.image", "steps.pushed.outputs.image", 'property "pushed" is not defined'),
        ("timeout-minutes: 60", "timeout-minute: 60", "unexpected key"),
    ):
        broken = tmp_path / "release.yml"
        broken.write_text(release.read_text("utf-8").replace(right, wrong), "utf-8")
        done = actionlint(broken)
        assert done.returncode == 1
        assert reason in done.stdout
