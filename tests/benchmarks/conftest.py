"""Essays of ours, and contestants that are small programs of ours."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from benchmarks.speed.chosen import ChosenEssay
from benchmarks.speed.measure import Bench
from benchmarks.speed.results import Plan
from benchmarks.speed.subject import Expected, Subject


@pytest.fixture
def essays() -> list[ChosenEssay]:
    """Forty, of different lengths."""
    return [ChosenEssay(f"essay-{number}", "asap-1", 0, "word " * (20 + number)) for number in range(40)]


@pytest.fixture
def make_bench(essays: list[ChosenEssay], tmp_path: Path) -> Callable[..., Bench]:
    """A bench whose reference gives each essay the hundredth part of its number of words."""

    def make(plan: Plan | None = None) -> Bench:
        expected = {
            essay.essay_id: Expected(len(essay.text.split()) / 100, len(essay.text.split()) / 100, 3.0, 100)
            for essay in essays
        }
        subject = Subject("tiny", "0" * 64, tmp_path / "tiny.zip", tmp_path, cast(Any, None), tmp_path / "weights")
        return Bench(
            subject, essays, expected, lambda _, raw: 3.0, plan or Plan(40, (1, 4), (0.5,)), tmp_path / "bench"
        )

    return make
