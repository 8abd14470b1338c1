"""The page that holds a model against a marked class, in Chromium: small and large ones, wrong tables, narrow, axe."""

import csv
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.made_essays import made_essay
from tests.serving.web.test_browser import open_page, require_sound

__all__ = ["open_page"]

pytestmark = pytest.mark.slow

Open = Callable[..., Page]


def table(folder: Path, number: int, head: tuple[str, ...] = ("essay", "score", "rater1", "rater2")) -> Path:
    """Marked essays; one of them cannot be scored."""
    path = folder / "marked.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(head)
        for n in range(number):
            mark = 1 + n % 9 / 2
            writer.writerow([made_essay(n, 4 + n % 5), mark, mark, min(5, mark + 0.5)][: len(head)])
        writer.writerow(["Too short.", 2, 2, 2][: len(head)])
    return path


def compare(page: Page, path: Path) -> Page:
    page.locator("#file").set_input_files(path)
    page.locator("#start").focus()
    page.keyboard.press("Enter")
    return page


def test_a_marked_class_is_answered_in_words_with_a_verdict_for_each_bar(open_page: Open, tmp_path: Path) -> None:
    page = compare(open_page("/class/validity"), table(tmp_path, 40))
    expect(page.locator("#validity-title")).to_be_focused(timeout=60_000)
    assert page.locator("#validity-title").inner_text() in ("No", "Not on this evidence")
    rows = page.locator("#bars tr")
    expect(rows).to_have_count(6)  # the scale has nine grades: one step off says nothing
    assert rows.first.locator(".verdict").inner_text() in ("missed", "missed, not sure")
    expect(page.locator("#rows")).to_contain_text("Not scored.")
    require_sound(page, "validity")


def test_of_a_small_class_nothing_is_claimed(open_page: Open, tmp_path: Path) -> None:
    page = compare(open_page("/class/validity"), table(tmp_path, 8, ("essay", "score")))
    expect(page.locator("#validity-title")).to_have_text("Cannot tell", timeout=60_000)
    expect(page.locator("#validity-answer")).to_contain_text("8 marked essays are too few")
    assert set(page.locator(".verdict").all_inner_texts()) == {"cannot tell"}


def test_a_table_without_marks_is_refused_before_anything_is_sent(open_page: Open, tmp_path: Path) -> None:
    page = open_page("/class/validity")
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url) if request.method == "POST" else None)
    compare(page, table(tmp_path, 3, ("essay",)))
    expect(page.locator("#file-error")).to_contain_text("1: it has no score of yours")
    assert sent == []


def test_a_mark_off_the_scale_is_said_in_words(open_page: Open, tmp_path: Path) -> None:
    path = table(tmp_path, 3, ("essay", "score"))
    path.write_text(path.read_text("utf-8").replace(",1.5\r\n", ",7\r\n").replace(",1.5\n", ",7\n"), "utf-8")
    page = compare(open_page("/class/validity"), path)
    expect(page.locator("#busy")).to_contain_text("Not compared. Score 7 is not one of 1 to 5", timeout=60_000)
