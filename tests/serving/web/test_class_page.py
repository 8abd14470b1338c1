"""The page for a class in Chromium: by keyboard, through axe, with bad rows, files, a reload and a failing server."""

import csv
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, Request, Response, expect

from serving.access import digest_of
from serving.catalogue import LocalArtifact
from serving.desk import Desk
from tests.essays.test_documents import docx, paragraph, pdf
from tests.fault_proxy import fault_proxy
from tests.made_essays import made_essay
from tests.page_server import page_served
from tests.serving.web.test_browser import ESSAY, open_page, require_sound

__all__ = ["open_page"]

pytestmark = pytest.mark.slow

Open = Callable[..., Page]
NUM_ESSAYS = 20


def table(folder: Path, number: int = NUM_ESSAYS) -> Path:
    """Essays of growing length, then three rows that cannot be scored."""
    path = folder / "class.csv"
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.writer(file)
        writer.writerow(["essay_id", "essay"])
        writer.writerows([[f"pupil {n}", f"{made_essay(n, 3 + n)} “{n}”"] for n in range(number)])
        writer.writerows([["=cmd()", "Too short."], ["<b>bold</b>", ESSAY], ["lost"]])
    return path


def archive(folder: Path) -> Path:
    path = folder / "class.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("a/ann.txt", ESSAY)
        packed.writestr("bob.docx", docx(paragraph(made_essay(1))))
        packed.writestr("cleo.pdf", pdf([made_essay(2)[:110], made_essay(2)[110:]]))
        packed.writestr("broken.docx", b"nothing")
        packed.writestr("__MACOSX/._ann.txt", b"\x00")
        packed.writestr("picture.png", b"\x89PNG")
    return path


def choose(page: Page, path: Path) -> None:
    page.locator("#file").set_input_files(path)


def score(page: Page, path: Path) -> Page:
    choose(page, path)
    page.locator("#start").click()
    expect(page.locator("#busy")).to_contain_text("Done", timeout=60_000)
    return page


def cells(page: Page) -> list[list[str]]:
    return [
        [cell.inner_text() for cell in row.locator("th, td").all()] for row in page.locator("#rows tr").all()
    ]  # fmt: skip


def saved(page: Page) -> list[dict[str, str]]:
    with page.expect_download() as download:
        page.locator("#save").click()
    return list(csv.DictReader(io.StringIO(Path(download.value.path()).read_text("utf-8-sig"))))


def test_a_table_becomes_scores_a_drawing_and_a_csv(open_page: Open, tmp_path: Path) -> None:
    page = score(open_page("/class"), table(tmp_path))
    rows = cells(page)
    assert [row[0] for row in rows] == [*(f"pupil {n}" for n in range(NUM_ESSAYS)), "=cmd()", "<b>bold</b>", "lost"]
    assert rows[20][3] == (
        "Not scored. The essay has 2 words; at least 21 are needed for a score. Write or paste the whole essay."
    )
    assert rows[22][3] == "Not scored. The row has 1 cells; the first line names 2."
    expect(page.locator("#results-title")).to_be_focused()
    expect(page.locator("#summary")).to_contain_text("21 essays have a score (class.csv).")
    expect(page.locator("#summary")).to_contain_text("2 could not be scored")
    found = saved(page)
    assert [row["essay_id"] for row in found] == ["'=cmd()" if row[0] == "=cmd()" else row[0] for row in rows]
    assert [row["score"] for row in found] == ["" if row[1] == "–" else row[1] for row in rows]
    words = page.locator("#distribution-words").inner_text()
    drawn = dict(part.split(": ") for part in words.removeprefix("Essays by score: ").rstrip(".").split(", "))
    assert sum(map(int, drawn.values())) == 21
    assert {float(grade) for grade in drawn} == {float(row["score"]) for row in found if row["score"]}


def test_scores_are_those_of_the_api(open_page: Open, tmp_path: Path, page_address: str) -> None:
    page = open_page("/class")
    page.get_by_label("Writing task").select_option("asap-1")
    page.get_by_label("Model").select_option("lexical")
    score(page, table(tmp_path, 3))
    body = {"essay": f"{made_essay(1, 4)} “1”", "prompt_id": "asap-1", "model": "lexical"}
    answer = page.request.post(f"{page_address}/score", data=body).json()
    assert float(cells(page)[1][1]) == answer["score"]
    assert saved(page)[1]["model"] == f"lexical {answer['model']['version']}"


def test_files_and_archives_are_read_whatever_they_hold(open_page: Open, tmp_path: Path) -> None:
    page = score(open_page("/class"), archive(tmp_path))
    rows = {row[0]: row for row in cells(page)}
    assert list(rows) == ["a/ann.txt", "bob.docx", "cleo.pdf", "broken.docx"]
    assert all(rows[name][1] != "–" for name in ("a/ann.txt", "bob.docx", "cleo.pdf"))
    assert "this is no Word document" in rows["broken.docx"][3]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("class.csv", b"name,mark\nann,3\n", "needs a column named essay; found: name, mark"),
        ("class.csv", b'essay\n"never closed\n', "a quote is opened and never closed"),
        ("class.zip", b"no archive", "no zip archive"),
        ("class.xlsx", b"PK", "expected .csv, .zip"),
    ],
)
def test_a_file_that_cannot_be_used_is_said_beside_its_field(
    open_page: Open, tmp_path: Path, name: str, content: bytes, reason: str
) -> None:
    (tmp_path / name).write_bytes(content)
    page = open_page("/class")
    choose(page, tmp_path / name)
    page.locator("#start").click()
    expect(page.get_by_role("alert")).to_contain_text(reason)
    expect(page.locator("#file")).to_be_focused()


def test_after_a_failing_server_and_a_reload_no_essay_is_answered_twice(
    open_page: Open, tmp_path: Path, page_address: str
) -> None:
    answered: list[str] = []
    path = table(tmp_path)
    with fault_proxy(page_address) as proxy:
        page = open_page("/class", address=proxy.endpoint)

        def note(response: Response) -> None:
            if response.url.endswith("/score_batch") and response.status == 200:
                answered.extend(_essays_of(response.request))
                proxy.refuse = len(answered) < NUM_ESSAYS

        page.on("response", note)
        choose(page, path)
        page.locator("#start").click()
        expect(page.locator("#busy")).to_contain_text("The service does not answer: trying again in", timeout=30_000)
        page.locator("#stop").click()
        expect(page.locator("#busy")).to_contain_text("left; what is scored stays", timeout=30_000)
        expect(page.locator("#start")).to_have_text("Go on")
        done = len(cells(page))
        assert 0 < done == len(answered) < NUM_ESSAYS
        proxy.refuse = False
        page.remove_listener("response", note)
        page.on("request", lambda request: answered.extend(_essays_of(request)))
        page.reload()
        score(page, path)
    assert len(cells(page)) == NUM_ESSAYS + 3
    assert len(answered) == len(set(answered)) == NUM_ESSAYS + 2
    page.locator("#forget").click()
    expect(page.locator("#results")).to_be_hidden()
    assert page.evaluate("sessionStorage.length") == 0


def test_a_wrong_key_costs_no_essay_and_the_right_one_goes_on(
    open_page: Open, artifacts: list[LocalArtifact], open_desk: Callable[..., Desk], tmp_path: Path
) -> None:
    key = {"name": "school", "sha256": digest_of("fm_school"), "scopes": ["score"]}
    with page_served(open_desk(artifacts, access={"required": True, "keys": [key]})) as address:
        page = open_page("/class", address=address)
        choose(page, table(tmp_path, 4))
        page.get_by_label("API key").fill("fm_wrong")
        page.locator("#start").click()
        expect(page.locator("#busy")).to_contain_text("Stopped, since this needs an API key, and none that is known")
        expect(page.locator("#rows tr")).to_have_count(0)
        page.get_by_label("API key").fill("fm_school")
        page.locator("#start").click()
        expect(page.locator("#busy")).to_contain_text("Done", timeout=60_000)
        assert [row[1] != "–" for row in cells(page)] == [True] * 4 + [False, True, False]


def _essays_of(request: Request) -> list[str]:
    if not request.url.endswith("/score_batch"):
        return []
    return [each["essay"] for each in json.loads(request.post_data or "")["essays"]]


def test_a_class_can_be_scored_by_keyboard_alone(open_page: Open, tmp_path: Path) -> None:
    page = open_page("/class")
    # A listener has Chromium hand dialogues over; asked for beside the key, it may come after it.
    page.on("filechooser", lambda _: None)
    reached = []
    for _ in range(12):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id"))
        if reached[-1] == "file":
            with page.expect_file_chooser() as chooser:
                page.keyboard.press("Space")
            chooser.value.set_files(table(tmp_path, 2))
        if reached[-1] == "start":
            page.keyboard.press("Enter")
            break
    assert [name for name in reached if name] == ["prompt_id", "model", "file", "start"]
    expect(page.locator("#results-title")).to_be_focused(timeout=30_000)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "save"


def test_axe_finds_nothing_and_nothing_sticks_out_of_the_class_page(open_page: Open, tmp_path: Path) -> None:
    page = open_page("/class")
    for state in ("empty", "scored"):
        if state == "scored":
            score(page, table(tmp_path))
        require_sound(page, f"class-{state}")


def test_without_javascript_the_class_page_says_what_to_use_instead(open_page: Open) -> None:
    page = open_page("/class", javascript=False)
    expect(page.locator("noscript p")).to_be_visible()
    expect(page.locator("noscript p")).to_contain_text("This page needs JavaScript")
