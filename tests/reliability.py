"""Which rows of the goal table (reliability.toml) a run of the tests proved, written to reports/reliability.*.

`@pytest.mark.row(3, 4)` binds a test to rows; the fixture `figure` notes what it measured. With `--reliability` the
report takes up every row's test that ran, and keeps the others as they were: slow and quick runs add up. A row without
a test stands there as open.
"""

import json
import tomllib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROWS_FILE = Path(__file__).with_name("reliability.toml")
JSON_FILE = ROOT / "reports" / "reliability.json"
PAGE_FILE = JSON_FILE.with_suffix(".md")
PAGE_HEAD = """# Faults and bad input: what was shown

Made by `make reliability` and `make chaos`; not edited by hand. A row is shown when every test bound to it passed; a
row without a test is open. Cut short: what must happen stands in full in `tests/reliability.toml`.

"""


@dataclass(frozen=True, order=True)
class Proof:
    """A test's word on a row; no test means that the row is open."""

    row: int
    test: str | None
    passed: bool
    figure: str | None
    missing: str | None = None
    """What this run of the test did not show of it."""


@dataclass
class Outcome:
    """A test's runs, one for each of its parameters."""

    rows: tuple[int, ...]
    passed: bool = True
    figures: dict[str, None] = field(default_factory=dict)
    missing: dict[str, None] = field(default_factory=dict)


def read_rows() -> dict[int, dict[str, str]]:
    """Fault and what must happen, by row."""
    return {int(number): row for number, row in tomllib.loads(ROWS_FILE.read_text("utf-8")).items()}


class Collector:
    """Hears of every test that ran."""

    def __init__(self) -> None:
        self.outcomes: dict[str, Outcome] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        properties = dict(report.user_properties)
        rows = properties.get("rows")
        if not isinstance(rows, tuple) or report.skipped or (report.when != "call" and report.passed):
            return
        outcome = self.outcomes.setdefault(report.nodeid.split("[")[0], Outcome(rows))
        outcome.passed &= report.passed
        for name, noted in (("figure", outcome.figures), ("missing", outcome.missing)):
            noted |= {str(value): None for kind, value in report.user_properties if kind == name}

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.outcomes and session.config.getoption("--reliability"):
            write(merge(read(), self.outcomes))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--reliability", action="store_true", help="write reports/reliability.* from the tests that ran")
    parser.addoption("--chaos-kills", type=int, default=6, help="random kills in the kill test (default: %(default)s)")
    parser.addoption("--chaos-requests", type=int, default=300, help="requests under each fault (default: %(default)s)")
    parser.addoption("--chaos-seed", type=int, default=5, help="the same seed kills at the same points")
    parser.addoption(
        "--fuzz-seconds", type=int, default=0, help="time of schemathesis; 0 asks a few times of each call"
    )
    parser.addoption("--table-rows", type=int, default=50_000, help="rows of a long table (default: %(default)s)")
    parser.addoption("--image", help="tag of a built image whose layers are searched, as fairmark:cpu")
    parser.addoption("--soak-requests", type=int, default=600, help="requests in the soak (default: %(default)s)")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "row(*numbers): proves these rows of tests/reliability.toml")
    config.addinivalue_line("markers", "chaos: the kill and fault matrix; `make chaos` runs it at full length")
    config.pluginmanager.register(Collector(), "reliability-collector")


def pytest_collection_modifyitems(items: Iterable[pytest.Item]) -> None:
    known = read_rows()
    for item in items:
        rows = tuple(sorted({number for mark in item.iter_markers("row") for number in mark.args}))
        if unknown := [row for row in rows if row not in known]:
            raise pytest.UsageError(f"{item.nodeid}: no such rows: {unknown}")
        if rows:
            item.user_properties.append(("rows", rows))


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Notes a figure for the report: `figure("resumed after 312 kB")`."""
    return lambda text: request.node.user_properties.append(("figure", text))


@pytest.fixture
def claim_nothing(request: pytest.FixtureRequest) -> Callable[[], None]:
    """For a run that is shorter than its rows ask for: it must pass, but the report keeps what a long one showed."""

    def withdraw() -> None:
        request.node.user_properties[:] = [each for each in request.node.user_properties if each[0] != "rows"]

    return withdraw


@pytest.fixture
def claim_partly(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """For a run that could not show all, as on a busy machine: the row is partly shown, unless an earlier run did."""
    return lambda missing: request.node.user_properties.append(("missing", missing))


def read() -> list[Proof]:
    """What earlier runs left."""
    if not JSON_FILE.exists():
        return []
    return [Proof(**entry) for entry in json.loads(JSON_FILE.read_text("utf-8")) if entry["test"] is not None]


def merge(before: Sequence[Proof], outcomes: dict[str, Outcome]) -> list[Proof]:
    """Earlier proofs of tests that still are there and did not run now, these runs, and the open rows."""
    kept = [proof for proof in before if proof.test not in outcomes and _is_there(proof.test)]
    new = [
        Proof(row, test, outcome.passed, "; ".join(outcome.figures) or None, "; ".join(outcome.missing) or None)
        for test, outcome in outcomes.items()
        for row in outcome.rows
    ]
    whole = {(proof.row, proof.test): proof for proof in before if proof.passed and not proof.missing}
    new = [whole.get((each.row, each.test), each) if each.passed and each.missing else each for each in new]
    shown = {proof.row for proof in [*kept, *new]}
    opened = [Proof(row, None, False, None) for row in read_rows() if row not in shown]
    return sorted([*kept, *new, *opened], key=lambda proof: (proof.row, proof.test or ""))


def write(proofs: list[Proof]) -> None:
    """Leave both files."""
    JSON_FILE.parent.mkdir(exist_ok=True)
    rows = ",\n".join(f" {json.dumps(asdict(proof), ensure_ascii=False)}" for proof in proofs)
    JSON_FILE.write_text(f"[\n{rows}\n]\n", "utf-8")
    PAGE_FILE.write_text(page(proofs), "utf-8")


def page(proofs: list[Proof]) -> str:
    """The report for people."""
    rows = read_rows()
    by_row = {row: [proof for proof in proofs if proof.row == row and proof.test] for row in rows}
    passed = [row for row, own in by_row.items() if own and all(proof.passed for proof in own)]
    missing = {row: _missing(rows[row], by_row[row]) for row in passed}
    partly = [row for row in passed if missing[row]]
    failed = [row for row, own in by_row.items() if not all(proof.passed for proof in own)]
    opened = [row for row, own in by_row.items() if not own]
    lines = [
        PAGE_HEAD
        + f"{len(passed) - len(partly)} of {len(rows)} rows shown, {len(partly)} partly, {len(failed)} failed,"
        f" {len(opened)} open"
        f"{': ' + ', '.join(map(str, opened)) if opened else ''}.\n",
        "| # | fault | must happen | shown | figure | tests |",
        "|---|---|---|---|---|---|",
    ]
    for row, own in by_row.items():
        state = "open" if row in opened else "**failed**" if row in failed else "partly" if row in partly else "yes"
        not_shown = [f"not shown: {each}" for each in missing.get(row, ())]
        figures = "; ".join(dict.fromkeys([*(proof.figure for proof in own if proof.figure), *not_shown]))
        tests = "<br>".join(f"`{proof.test}`" for proof in own)
        cells = (row, rows[row]["fault"], rows[row]["must"], state, figures, tests)
        lines.append("| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _missing(row: dict[str, str], proofs: Iterable[Proof]) -> list[str]:
    """What no test shows of a row, and what a run of one did not."""
    return [*([row["missing"]] if "missing" in row else []), *(proof.missing for proof in proofs if proof.missing)]


def _is_there(test: str | None) -> bool:
    file, _, name = (test or "").partition("::")
    return bool(name) and (ROOT / file).exists() and f"def {name.split('::')[-1]}(" in (ROOT / file).read_text("utf-8")
