"""The service with models of all nine prompts, and one that scores a single prompt."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect
from starlette.testclient import TestClient

from essays.bundle import read_bundle_manifest, write_bundle
from essays.manifest import GOLDEN_FILE, Golden, content_version, describe_file
from essays.params import write_section
from essays.prompts import all_prompts
from export.bundles import find_bundle
from pipelines.extracted import extracted
from serving.config import ServiceSettings
from serving.desk import Desk
from serving.routes import create_app
from tests.page_server import page_served

SCREENSHOTS = Path("out/screenshots")
ESSAY = (
    "The hibiscus stands for the girl, who has to wait through a cold season before she can begin again. When she says"
    " that she will come back in spring, we see that she has begun to feel at home in the new country."
)


@pytest.fixture(scope="module")
def desk(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    folder = tmp_path_factory.mktemp("nine")
    bundles = [find_bundle(name, checkout / "out/bundles") for name in ("lexical", "lstm", "ensemble")]
    artifacts = extracted([*bundles, narrow(bundles[1], folder)], folder)
    opened = Desk(ServiceSettings(lanes=1, artifact_folder=folder / "artifacts", cache={"store": "off"}))
    opened.open(artifacts, lambda _: None)
    yield opened
    opened.close()


def narrow(bundle: Path, folder: Path) -> Path:
    """The same model, as if it had learned from ELLIPSE alone."""
    (artifact,) = extracted([bundle], folder / "wide")
    golden = Golden.model_validate_json((artifact.folder / GOLDEN_FILE).read_bytes())
    essays = tuple(essay for essay in golden.essays if essay.prompt_id == "ellipse-overall")
    write_section(Golden(essays=essays), artifact.folder / GOLDEN_FILE)
    manifest = read_bundle_manifest(bundle)
    files = {name: describe_file(artifact.folder / name) for name in manifest.files}
    changed = manifest.model_copy(update={"name": "narrow", "prompt_ids": ("ellipse-overall",), "files": files})
    made = write_bundle(
        artifact.folder, changed.model_copy(update={"version": content_version(changed)}), folder / "narrow"
    )
    shutil.rmtree(folder / "wide")
    return made


@pytest.fixture
def client(desk: Desk, tmp_path: Path) -> Iterator[TestClient]:
    with TestClient(create_app(lambda: desk, tmp_path)) as opened:
        yield opened


def test_the_api_offers_nine_prompts_with_ranges_and_who_scores_them(client: TestClient) -> None:
    offered = client.get("/prompts").json()["prompts"]
    assert [prompt["prompt_id"] for prompt in offered] == list(all_prompts())
    assert [prompt["prompt_id"] for prompt in offered if prompt["answers_source"]] == [
        "asap-3", "asap-4", "asap-5", "asap-6",
    ]  # fmt: skip
    wide = ["lexical", "lstm", "ensemble"]
    for prompt in offered:
        also = ["narrow"] if prompt["prompt_id"] == "ellipse-overall" else []
        assert sorted(prompt["models"]) == sorted([*wide, *also])
        for model in wide:
            asked = {"essay": ESSAY, "prompt_id": prompt["prompt_id"], "model": model}
            answer = client.post("/score", json=asked).json()
            assert answer["score_range"] == prompt["score_range"]
            low, high = prompt["score_range"]["low"], prompt["score_range"]["high"]
            assert low <= answer["score"] <= high


def test_models_say_what_was_not_measured_and_where_the_rest_was(client: TestClient) -> None:
    for model in client.get("/models").json()["models"]:
        measured = [quality["prompt_id"] for quality in model["prompts"]]
        if model["name"] != "narrow":
            assert sorted(measured + model["not_measured"]) == sorted(all_prompts())
        assert all(quality["measured_on"] for quality in model["prompts"])


def test_a_model_that_does_not_score_the_prompt_says_so_and_who_does(client: TestClient) -> None:
    asked = {"essay": ESSAY, "prompt_id": "asap-4", "model": "narrow"}
    answer = client.post("/score", json=asked)
    assert answer.status_code == 404
    error = answer.json()["error"]
    assert (error["code"], error["field"]) == ("unknown_prompt", "prompt_id")
    assert error["message"] == "narrow does not score asap-4; lexical, lstm, ensemble do"
    page = client.post("/", data=asked)
    assert page.status_code == 404
    assert "Narrow does not score asap-4; lexical, lstm, ensemble do." in page.text
    assert ESSAY in page.text


def test_the_page_groups_the_prompts_and_says_which_answer_a_text(client: TestClient) -> None:
    page = client.get("/").text
    assert re.findall(r'<optgroup label="([^"]+)">', page) == [
        "English learners (ELLIPSE)",
        "US students (ASAP)",
        "US students (ASAP), answers to a text",
    ]
    assert set(re.findall(r'<option value="([^"]+)" data-detail', page)) == set(all_prompts())
    assert "Story: the part laughter played (0 to 60)" in page
    assert page.count("answers a source text") == 4
    assert 'data-prompts="ellipse-overall"' in page


@pytest.mark.slow
def test_chromium_offers_a_model_only_for_what_it_scores(desk: Desk, browser: Browser) -> None:
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    with page_served(desk) as address:
        page = browser.new_page(viewport={"width": 1200, "height": 900})
        page.goto(address)
        model, prompt = page.get_by_label("Model"), page.get_by_label("Writing task")
        model.select_option("narrow")
        prompt.select_option("asap-4")
        expect(model).to_have_value("ensemble")
        expect(page.locator("#prompt_id-detail")).to_contain_text("answers a source text")
        assert model.locator("option[value=narrow]").is_disabled()
        page.get_by_label("Essay", exact=True).fill(ESSAY)
        page.get_by_role("button", name="Score the essay").click()
        expect(page.locator("#result-title")).to_contain_text("on a scale from 0 to 3")
        assert page.get_by_label("Model").locator("option[value=narrow]").is_disabled()
        page.screenshot(path=SCREENSHOTS / "nine-prompts.png", full_page=True)
        # The open list is drawn by the system, not by the page: here it stands open in the page.
        page.eval_on_selector("#prompt_id", "list => { list.size = 13; list.style.height = 'auto' }")
        page.screenshot(path=SCREENSHOTS / "nine-prompts-list.png", full_page=True)
        page.get_by_label("Writing task").select_option("ellipse-overall")
        assert not page.get_by_label("Model").locator("option[value=narrow]").is_disabled()
        page.close()
