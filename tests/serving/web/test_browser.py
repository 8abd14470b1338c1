"""The page in Chromium: by keyboard, with and without JavaScript, light and dark, narrow and wide, through axe."""

from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, expect

from serving.desk import Desk
from tests.essays.test_documents import docx, paragraph
from tests.fault_proxy import fault_proxy
from tests.made_essays import made_essay
from tests.page_server import page_served

pytestmark = pytest.mark.slow

SCREENSHOTS = Path("out/screenshots")
ESSAY = (
    "My school is small, and I like it. The teachers know every pupil by name, so when somebody is sad they see it."
    " However we have no laboratory, and I want to learn chemistry. People say a big school has more to offer."
)
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
WIDE, NARROW = (1200, 900), (320, 700)

Open = Callable[..., Page]


@pytest.fixture
def open_page(browser: Browser, page_address: str) -> Iterator[Open]:
    """Opens the page in a context of its own; a message on the console, such as a broken policy, fails the test."""
    contexts: list[BrowserContext] = []
    complaints: list[str] = []

    def opened(path: str = "/", javascript: bool = True, address: str = page_address) -> Page:
        context = browser.new_context(
            viewport={"width": WIDE[0], "height": WIDE[1]},
            java_script_enabled=javascript,
            reduced_motion="reduce",
        )
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text) if message.type != "log" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(address + path)
        return page

    yield opened
    for context in contexts:
        context.close()
    # Chromium itself notes an answer of 4xx or a lost connection on the console; nothing else may stand there.
    assert [text for text in complaints if not text.startswith("Failed to load resource")] == []


def fill_and_send(page: Page, essay: str = ESSAY) -> None:
    page.get_by_label("Essay", exact=True).fill(essay)
    page.get_by_role("button", name="Score the essay").click()


def answered(page: Page) -> Page:
    fill_and_send(page)
    expect(page.locator("#result")).to_be_visible()
    return page


def refused(page: Page) -> Page:
    fill_and_send(page, "Too short to be an essay.")
    expect(page.locator("#essay-error")).to_be_visible()
    return page


def handed_off(page: Page) -> Page:
    fill_and_send(page, made_essay(1, 24))
    expect(page.get_by_text("Have a person read this essay")).to_be_visible()
    return page


def explained(page: Page) -> Page:
    answered(page)
    page.get_by_role("button", name="Show what each sentence adds").click()
    expect(page.locator("#explanation-title")).to_be_visible()
    page.locator("summary").click()
    return page


STATES: dict[str, Callable[[Page], Page]] = {
    "form": lambda page: page,
    "result": answered,
    "error": refused,
    "hand-off": handed_off,
    "explanation": explained,
}


@pytest.mark.parametrize("state", STATES)
def test_axe_finds_nothing_and_nothing_sticks_out(open_page: Open, state: str) -> None:
    require_sound(STATES[state](open_page()), state)


def require_sound(page: Page, state: str) -> None:
    """Pass a page that axe finds nothing wrong with, light and dark, wide and narrow; leaves screenshots to look at."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    for scheme, (width, height) in product(SCHEMES, (WIDE, NARROW)):
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": width, "height": height})
        page.screenshot(path=SCREENSHOTS / f"{state}-{scheme}-{width}.png", full_page=True)
        results = Axe().run(page)
        assert results.violations_count == 0, results.generate_report()
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_traits_stand_below_the_score_in_every_width_and_scheme(open_page: Open, trait_desk: Desk) -> None:
    with page_served(trait_desk) as address:
        page = answered(open_page(address=address))
        expect(page.get_by_role("table", name="Parts of the writing")).to_contain_text("Cohesion")
        require_sound(page, "traits")


def test_the_whole_form_by_keyboard_alone(open_page: Open) -> None:
    page = open_page()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the form"
    reached = []
    for _ in range(20):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.type"))
        if reached[-1] in ("prompt_id", "model"):
            page.keyboard.press("ArrowDown")
        if reached[-1] == "essay":
            page.keyboard.insert_text(ESSAY)
        if reached[-1] == "submit":
            break
    assert [name for name in reached if name] == ["prompt_id", "model", "essay", "file", "submit"]
    page.keyboard.press("Enter")
    expect(page.locator("#result-title")).to_be_focused()
    assert page.evaluate("document.activeElement.textContent").strip().endswith("on a scale from 2 to 12")
    expect(page.locator(".facts")).to_contain_text("lexical, version")


def test_sentences_are_explained_by_keyboard_and_the_highlight_goes_off_and_on(open_page: Open) -> None:
    page = answered(open_page())
    button = page.get_by_role("button", name="Show what each sentence adds")
    for _ in range(20):
        page.keyboard.press("Tab")
        if button.evaluate("(button) => button === document.activeElement"):
            break
    page.keyboard.press("Enter")
    expect(page.locator("#explanation-title")).to_be_focused()
    expect(page.locator(".explained")).to_contain_text("However we have no laboratory")
    assert ESSAY.count(".") == 4 == page.locator(".explanation tbody tr").count()
    strongest = page.locator("mark.adds-3, mark.takes-3").first
    marked = "(mark) => getComputedStyle(mark).backgroundColor !== 'rgba(0, 0, 0, 0)'"
    assert strongest.evaluate(marked)
    assert " the score: " in (strongest.text_content() or "")
    page.keyboard.press("Tab")
    expect(page.get_by_label("Highlight the sentences")).to_be_focused()
    page.keyboard.press("Space")
    assert not strongest.evaluate(marked)
    assert page.locator(".explained").inner_text() == ESSAY
    page.keyboard.press("Space")
    assert strongest.evaluate(marked)
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_role("rowheader", name="However we have no laboratory")).to_be_visible()
    expect(page.locator("#history tbody tr")).to_have_count(1)


def test_without_javascript_sentences_are_explained_too(open_page: Open) -> None:
    page = explained(open_page(javascript=False))
    assert page.locator(".explained mark").count() > 0
    expect(page.get_by_role("rowheader", name="However we have no laboratory")).to_be_visible()
    strongest = page.locator("mark.adds-3, mark.takes-3").first
    page.get_by_label("Highlight the sentences").uncheck()
    assert strongest.evaluate("(mark) => getComputedStyle(mark).textDecorationLine") == "none"


def test_what_is_known_of_a_model_follows_the_choice(open_page: Open) -> None:
    page = open_page()
    expect(page.locator("#model-detail")).to_contain_text("Agreement with people 0.70")
    before = page.locator("#model-detail").inner_text()
    page.get_by_label("Model").select_option("lexical")
    expect(page.locator("#model-detail")).to_contain_text("onnxruntime")
    assert page.locator("#model-detail").inner_text() != before


def test_a_chosen_or_dropped_file_is_read_into_the_form(open_page: Open) -> None:
    page = open_page()
    essay = page.get_by_label("Essay", exact=True)
    word = {"name": "essay.docx", "mimeType": "", "buffer": docx(paragraph(ESSAY))}
    page.locator("#file").set_input_files([word])
    expect(essay).to_have_value(ESSAY, timeout=30_000)
    expect(page.locator("#file-state")).to_have_text("Read essay.docx. Look it over above, then score it.")
    assert page.locator("#file").input_value() == ""
    page.evaluate(
        """() => {
            const dataTransfer = new DataTransfer();
            dataTransfer.items.add(new File(["Dropped words."], "dropped.txt"));
            document.getElementById("form").dispatchEvent(new DragEvent("drop", { dataTransfer, bubbles: true }));
        }"""
    )
    expect(essay).to_have_value("Dropped words.")
    expect(page.locator("#count")).to_have_text("2 words.")
    page.locator("#file").set_input_files([{"name": "essay.pdf", "mimeType": "", "buffer": b"nothing"}])
    damaged = "Cannot read essay.pdf: this is no PDF, or a damaged one."
    expect(page.locator("#file-state")).to_contain_text(damaged, timeout=30_000)
    expect(essay).to_have_value("Dropped words.")


def test_a_file_is_scored_without_javascript(open_page: Open) -> None:
    page = open_page(javascript=False)
    page.locator("#file").set_input_files([{"name": "essay.txt", "mimeType": "", "buffer": ESSAY.encode()}])
    page.get_by_role("button", name="Score the essay").click()
    expect(page.locator("#result")).to_be_visible()
    expect(page.get_by_label("Essay", exact=True)).to_have_value(ESSAY)


def test_this_tab_alone_remembers_what_it_scored(open_page: Open) -> None:
    page = open_page()
    expect(page.locator("#history")).to_be_hidden()
    answered(page)
    page.get_by_label("Essay", exact=True).fill(f"Another one. {ESSAY}")
    page.get_by_role("button", name="Score the essay").click()
    rows = page.locator("#history tbody tr")
    expect(rows).to_have_count(2)
    expect(rows.first).to_contain_text("Another one. My school is small, and I…")
    expect(rows.first).to_contain_text(page.locator(".score").inner_text())
    page.reload()
    expect(rows).to_have_count(2)
    other = page.context.new_page()
    other.goto(page.url)
    expect(other.locator("#history")).to_be_hidden()
    page.locator("#forget").click()
    expect(page.locator("#history")).to_be_hidden()
    assert page.evaluate("sessionStorage.length") == 0


def test_a_printed_result_holds_the_essay_and_no_form(open_page: Open) -> None:
    page = answered(open_page())
    page.emulate_media(media="print", color_scheme="dark")
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / "print.png", full_page=True)
    expect(page.locator(".printed")).to_contain_text(ESSAY)
    expect(page.locator("#form")).to_be_hidden()
    expect(page.locator("#print")).to_be_hidden()
    expect(page.locator("#history")).to_be_hidden()
    backgrounds = page.evaluate(
        "[document.body, document.querySelector('.advice')].map((each) => getComputedStyle(each).backgroundColor)"
    )
    assert backgrounds == ["rgb(255, 255, 255)", "rgb(253, 241, 216)"]


def test_words_are_counted_while_writing(open_page: Open) -> None:
    page = open_page()
    page.get_by_label("Essay", exact=True).press_sequentially("It's a well-known @CAPS1 café.")
    expect(page.locator("#count")).to_have_text("6 words.")
    page.get_by_label("Essay", exact=True).fill("One")
    expect(page.locator("#count")).to_have_text("1 word.")


def test_an_error_takes_the_focus_to_its_field_and_keeps_the_text(open_page: Open) -> None:
    page = refused(open_page())
    expect(page.get_by_label("Essay", exact=True)).to_be_focused()
    expect(page.get_by_label("Essay", exact=True)).to_have_value("Too short to be an essay.")
    expect(page.get_by_label("Essay", exact=True)).to_have_accessible_description(
        "6 words. At least 21 words. The text is scored and forgotten."
        " Error: The essay has 6 words; at least 21 are needed for a score. Write or paste the whole essay."
    )
    assert page.title().startswith("Not scored")


def test_a_text_too_large_to_be_read_is_refused_and_stays(open_page: Open) -> None:
    page = open_page()
    fill_and_send(page, "word " * 80_000)
    expect(page.get_by_role("alert")).to_contain_text("larger than 300,000 bytes")
    expect(page.locator("#count")).to_contain_text("more than the 80,000 that are accepted")
    assert len(page.get_by_label("Essay", exact=True).input_value()) == 400_000


def test_a_slow_and_a_failing_service_are_said_in_words_and_the_text_stays(open_page: Open, page_address: str) -> None:
    with fault_proxy(page_address) as proxy:
        page = open_page(address=proxy.endpoint)
        proxy.refuse = True
        fill_and_send(page)
        expect(page.locator("#busy")).to_contain_text("cannot answer just now. Your text is still here: try again")
        expect(page.get_by_label("Essay", exact=True)).to_have_value(ESSAY)
        proxy.refuse, proxy.bytes_per_s = False, 2_000
        page.get_by_role("button", name="Score the essay").click()
        expect(page.locator("#busy")).to_contain_text("Still scoring: the service is slow", timeout=20_000)
        proxy.bytes_per_s = None
        expect(page.locator("#result")).to_be_visible(timeout=60_000)


def test_without_javascript_the_same_answer_comes_by_a_form_post(open_page: Open) -> None:
    with_script, without = answered(open_page()), answered(open_page(javascript=False))
    assert with_script.locator(".score").text_content() == without.locator(".score").text_content()
    refused(open_page(javascript=False))


def test_another_task_and_model_are_asked_when_chosen(open_page: Open) -> None:
    page = open_page()
    page.get_by_label("Writing task").select_option("asap-1")
    expect(page.locator("#prompt_id-detail")).to_contain_text("computers")
    page.get_by_label("Model").select_option("tiny")
    answered(page)
    expect(page.locator("#result-title")).to_contain_text("on a scale from 2 to 12")
    expect(page.locator(".facts")).to_contain_text("tiny, version")
    expect(page.get_by_role("rowheader", name="ensemble")).to_be_visible()


def test_the_drawing_puts_score_and_interval_where_they_belong(open_page: Open) -> None:
    page = answered(open_page())
    score = float(page.locator(".score").text_content() or "")
    drawing = page.locator("#result > svg")
    box = drawing.bounding_box()
    marker = drawing.locator("circle").bounding_box()
    band = drawing.locator("rect").bounding_box()
    assert box
    assert marker
    assert band
    centre = marker["x"] + marker["width"] / 2
    expected = box["x"] + box["width"] * (0.05 + 0.9 * (score - 1) / 4)
    assert centre == pytest.approx(expected, abs=1.5)
    assert band["x"] - 1 <= centre <= band["x"] + band["width"] + 1


def test_the_api_page_works_offline(open_page: Open) -> None:
    page = open_page("/docs")
    expect(page.get_by_text("Score several essays")).to_be_visible()
    page.screenshot(path=SCREENSHOTS / "docs.png", full_page=True)
    page.get_by_text("Score an essay", exact=True).click()
    expect(page.get_by_text("Too many essays wait; Retry-After says when to come back").first).to_be_visible()
