"""The drift report as people see it: the page in Chromium, and `fairmark drift`, where essays have changed."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Page, expect
from starlette.testclient import TestClient

from essays.drift import DriftReference, prompt_reference
from serving.access import digest_of
from serving.config import ServiceSettings
from serving.desk import Desk
from serving.drift.report import drift_response
from serving.routes import create_app
from serving.web.drift import drawing_of, drift_view
from tests.made_essays import made_essay
from tests.page_server import page_served
from tests.serving.web.test_browser import open_page, require_sound

__all__ = ["open_page"]

Open = Callable[..., Page]
KEY, OTHER_KEY = "fm_operator", "fm_teacher"
ACCESS = {
    "keys": [
        {"name": "operator", "sha256": digest_of(KEY), "scopes": ["admin"]},
        {"name": "teacher", "sha256": digest_of(OTHER_KEY), "scopes": ["score"]},
    ]
}


@pytest.fixture(scope="module")
def changed(bundles, tmp_path_factory: pytest.TempPathFactory, extract) -> Iterator[Desk]:
    """A desk of `lexical` that got longer essays than it learned from on one writing task, and none on the other."""
    train = [made_essay(number) for number in range(300)]
    held_out = [(made_essay(number), 0.5 + (number % 10) / 100) for number in range(300, 500)]
    prompts = tuple(prompt_reference(name, train, held_out) for name in ("ellipse-overall", "asap-1"))
    content = DriftReference(prompts=prompts).model_dump_json()
    path = bundles.changed(
        "lexical", lambda folder: (folder / "reference.json").write_text(content), tmp_path_factory.mktemp("changed")
    )
    desk = Desk(ServiceSettings(lanes=1, cache={"store": "off"}, access=ACCESS))
    desk.open(extract([path], tmp_path_factory.mktemp("changed-artifacts")), lambda _: None)
    with TestClient(create_app(lambda: desk, tmp_path_factory.getbasetemp())) as client:
        for number in range(60):
            body = {"essay": made_essay(number, 30), "prompt_id": "ellipse-overall", "model": "lexical"}
            assert client.post("/score", json=body).status_code == 200
    yield desk
    desk.close()


@pytest.fixture(scope="module")
def address(changed: Desk) -> Iterator[str]:
    with page_served(changed) as url:
        yield url


def ask(page: Page, key: str) -> Page:
    """By keyboard alone."""
    page.get_by_label("API key").focus()
    page.keyboard.type(key)
    page.keyboard.press("Enter")
    return page


@pytest.mark.slow
@pytest.mark.parametrize("javascript", [True, False])
def test_an_operator_sees_what_changed_and_by_how_much(open_page: Open, address: str, *, javascript: bool) -> None:
    page = ask(open_page("/drift/report", javascript=javascript, address=address), KEY)
    expect(page.locator("#answer")).to_contain_text("Essays have changed")
    table = page.locator("table[aria-labelledby=ellipse-overall]")
    row = table.get_by_role("row").filter(has_text="Length in words")
    assert re.search(r"\b60\b.* of .* of .*alarm", row.inner_text().replace("\n", " "))
    drawn = page.locator("details[open]").filter(has_text="Length in words")
    expect(drawn.locator("svg.compared rect")).to_have_count(20)
    expect(drawn.locator("figcaption")).to_have_text(re.compile(r"200 held-out essays,\s+the last 60"))
    expect(page.locator("table[aria-labelledby=asap-1]")).to_contain_text("too few essays")
    assert page.title().startswith("Essays have changed")
    assert KEY not in page.content()


@pytest.mark.slow
def test_axe_finds_nothing_on_the_report_and_nothing_sticks_out(open_page: Open, address: str) -> None:
    page = open_page("/drift/report", address=address)
    require_sound(page, "drift-question")
    ask(page, KEY)
    expect(page.locator("#answer")).to_be_visible()
    require_sound(page, "drift")
    numbers = page.get_by_role("table", name="Length in words, shares of essays")
    for visible in (False, True):  # an alarm's drawing is open from the start
        page.get_by_text("Length in words: both distributions").focus()
        page.keyboard.press("Enter")
        expect(numbers).to_be_visible(visible=visible)


@pytest.mark.slow
@pytest.mark.parametrize(("key", "reason"), [("wrong", "none that is known"), (OTHER_KEY, "no scope 'admin'")])
def test_nobody_else_sees_anything(open_page: Open, address: str, key: str, reason: str) -> None:
    page = ask(open_page("/drift/report", address=address), key)
    expect(page.locator(".error")).to_contain_text(reason)
    assert page.locator("#report").count() == 0


def test_bars_are_the_shares_and_labels_few(changed: Desk) -> None:
    found = drift_response(changed.drift)
    (words,) = (each for each in found.prompts[1].quantities if each.quantity == "words")
    drawing = drawing_of(words.bins)
    heights = [float(bar.height) for bar in drawing.found]
    assert max(heights) == 150  # nearly all essays are in the last bin
    assert heights == pytest.approx([150 * each.found / words.bins[-1].found for each in words.bins], abs=0.1)
    assert len(drawing.labels) <= 5
    assert drawing.bins[0].values.startswith("below ")
    assert drawing.bins[-1].found == "100%"


def test_a_quiet_service_raises_no_alarm_in_words(changed: Desk) -> None:
    report = drift_response(changed.drift)
    calm = [each.model_copy(update={"drifted": False}) for each in report.prompts]
    assert drift_view(report.model_copy(update={"drifted": False, "prompts": calm}), {}).answer.startswith("No alarm")
    assert "no served model" in drift_view(report.model_copy(update={"drifted": False, "prompts": []}), {}).answer
    too_few = report.model_copy(update={"drifted": False, "prompts": calm[:1]})
    assert drift_view(too_few, {}).answer.startswith("Too few essays to tell: it takes 50")


def drift(address: str, key: str, *more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fairmark", "drift", "--url", address, *more]
    environment = {**os.environ, "FAIRMARK_API_KEY": key}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


def test_the_command_prints_the_report(address: str) -> None:
    ended = drift(address, KEY)
    assert ended.returncode == 0, ended.stderr
    answer, _, head, *lines = ended.stdout.splitlines()
    assert answer == "Alarm: essays differ from those that the models were made for on ellipse-overall."
    assert head.split("\t") == ["prompt", "what", "essays", "psi", "bound", "ks", "bound", "verdict"]
    cells = {(line.split("\t")[0], line.split("\t")[1]): line.split("\t") for line in lines}
    length = cells["ellipse-overall", "Length in words"]
    assert length[2] == "60"
    assert float(length[3]) > float(length[4])
    assert length[-1] == "alarm"
    assert cells["asap-1", "Length in words"][2:] == ["0", "", "", "", "", "too few essays (50)"]
    whole = json.loads(drift(address, KEY, "--json").stdout)
    assert whole["prompts"][1]["quantities"][0]["bins"]
    refused = drift(address, "")
    assert refused.returncode == 1
    assert "needs an API key" in refused.stderr
