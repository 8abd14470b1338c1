"""The page without a browser: forms posted as a browser without JavaScript posts them."""

import html
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from serving.desk import Desk
from serving.routes import create_app
from tests.essays.test_documents import docx, paragraph

ESSAY = (
    "My school is small, and I like it. The teachers know every pupil by name, so when somebody is sad they see it."
    " However we have no laboratory, and I want to learn chemistry. People say a big school has more to offer."
)
GOOD = {"essay": ESSAY, "prompt_id": "ellipse-overall", "model": "ensemble"}


@pytest.fixture
def client(desk: Desk, tmp_path: Path) -> Iterator[TestClient]:
    with TestClient(create_app(lambda: desk, tmp_path)) as opened:
        yield opened


def test_the_form_offers_every_prompt_and_model(client: TestClient) -> None:
    page = client.get("/").text
    assert re.findall(r'<option value="([^"]+)"', page) == [
        "ellipse-overall", "asap-1", "ensemble", "lexical", "tiny",
    ]  # fmt: skip
    assert 'id="result"' not in page


def test_an_answer_shows_score_interval_models_and_time(client: TestClient) -> None:
    answer = client.post("/", data=GOOD)
    page = answer.text
    expected = client.post("/score", json=GOOD).json()
    assert answer.status_code == 200
    assert f'<span class="score">{expected["score"]:g}</span>' in page
    low, high = expected["interval"]
    assert f"likely between {low:g} and {high:g}" in page
    assert "on a scale from 1 to 5" in page
    for name in ("lexical", "tiny"):
        assert f'<th scope="row">{name}' in page
    assert re.search(r"\(its models at most \d+ ms waiting", page)
    assert "computed now (no cache)" in page
    assert ESSAY in html.unescape(page)


def test_the_chosen_model_leads_and_the_others_follow(client: TestClient) -> None:
    page = client.post("/", data={**GOOD, "model": "tiny", "prompt_id": "asap-1"}).text
    assert "on a scale from 2 to 12" in page
    assert re.search(r'<option value="tiny"[^>]* selected>', page)
    assert '<th scope="row">ensemble' in page
    assert '<th scope="row">tiny' not in page
    assert re.search(r"\(\d+ ms waiting", page)


@pytest.mark.parametrize(
    ("change", "status", "field", "words"),
    [
        ({"essay": ""}, 422, "essay", "The essay is empty."),
        ({"essay": "Too short."}, 422, "essay", "The essay has 2 words; at least 21 are needed for a score."),
        ({"prompt_id": "nowhere"}, 404, "prompt_id", "No prompt 'nowhere'"),
        ({"model": "gpt"}, 404, "model", "No model 'gpt'"),
    ],
)
def test_an_error_stands_in_words_beside_its_field(
    client: TestClient, change: dict[str, str], status: int, field: str, words: str
) -> None:
    answer = client.post("/", data={**GOOD, **change})
    page = html.unescape(answer.text)
    assert answer.status_code == status
    said = re.search(rf'<p class="error" id="{field}-error"><strong>Error:</strong> ([^<]+)', page)
    assert said
    assert said.group(1).startswith(words)
    assert re.search(rf'id="{field}"[^>]*aria-describedby="[^"]*{field}-error" aria-invalid="true"', page)
    assert 'id="result"' not in page


def test_a_flagged_essay_may_be_scored_as_advice_by_a_second_button(client: TestClient) -> None:
    flagged = {**GOOD, "essay": " ".join([ESSAY] * 8)}
    refused = client.post("/", data=flagged)
    assert refused.status_code == 422
    assert 'name="advisory" value="yes"' in refused.text
    assert 'id="result"' not in refused.text
    advised = client.post("/", data={**flagged, "advisory": "yes"})
    assert advised.status_code == 200
    assert "Advice only: this essay should not be scored by a model" in advised.text
    for page in (client.get("/"), client.post("/", data=GOOD), client.post("/", data={**GOOD, "essay": ""})):
        assert 'name="advisory"' not in page.text
        assert "Advice only" not in page.text


def test_a_result_may_be_explained_and_stands_where_that_fails(client: TestClient) -> None:
    assert 'name="explain" value="yes"' in client.post("/", data=GOOD).text
    explained = client.post("/", data={**GOOD, "explain": "yes"})
    assert explained.text.count('<td class="number">') >= 4
    assert "<mark class=" in explained.text
    one_sentence = re.sub(r"[.,]", "", ESSAY)
    failed = client.post("/", data={**GOOD, "essay": one_sentence, "explain": "yes"})
    assert failed.status_code == 200
    assert "No explanation:</strong> Essay: it is one sentence" in failed.text
    assert '<span class="score">' in failed.text


def test_an_explanation_of_advice_is_advice(client: TestClient) -> None:
    flagged = {**GOOD, "essay": " ".join([ESSAY] * 8)}
    advised = client.post("/", data={**flagged, "advisory": "yes"})
    assert 'name="explain" value="advice"' in advised.text
    explained = client.post("/", data={**flagged, "explain": "advice"})
    assert explained.status_code == 200
    assert "Advice only" in explained.text
    assert "What each sentence adds" in explained.text
    assert client.post("/", data={**flagged, "explain": "yes"}).status_code == 422


def test_marked_sentences_are_never_markup(client: TestClient) -> None:
    essay = f"<b>bold</b> & so on. {ESSAY} <script>alert(1)</script>."
    page = client.post("/", data={**GOOD, "essay": essay, "explain": "yes"}).text
    assert "<b>" not in page
    assert "<script>alert" not in page
    explained = re.search(r'<p class="explained">(.*?)</p>', page, re.DOTALL)
    assert explained
    shown = re.sub(r'<span class="unseen">.*?</span>|</?mark[^>]*>', "", explained.group(1))
    assert html.unescape(shown) == essay


def test_what_was_written_stays_in_the_form_and_is_never_markup(client: TestClient) -> None:
    essay = '</textarea><script>alert(1)</script> & "quotes" ' + ESSAY
    for data in ({**GOOD, "essay": essay}, {**GOOD, "essay": essay, "prompt_id": "<b>"}):
        page = client.post("/", data=data).text
        assert "<script>alert" not in page
        assert "<b>" not in page
        assert essay in html.unescape(page)


def test_a_model_may_be_named_with_its_version(client: TestClient, desk: Desk) -> None:
    version = desk.catalogue().models["tiny"].artifact.version
    answer = client.post("/", data={**GOOD, "model": f"tiny@{version}"})
    assert answer.status_code == 200
    assert 'data-model="tiny"' in answer.text


def test_a_form_that_is_too_large_or_garbled_gets_a_page_not_a_failure(client: TestClient) -> None:
    large = client.post("/", data={**GOOD, "essay": "word " * 80_000})
    assert large.status_code == 413
    assert "larger than 300,000 bytes" in large.text
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    for content in (b"essay=%ff%fe", b"\xff\xfe", b"&".join([b"a=1"] * 50), b"essay"):
        garbled = client.post("/", content=content, headers=headers)
        assert garbled.status_code == 400
        assert 'role="alert"' in garbled.text
    assert client.post("/", json=GOOD).status_code == 415
    assert client.post("/", content=b"", headers=headers).status_code == 404


def test_a_file_is_scored_in_place_of_a_text_where_there_is_no_script(client: TestClient) -> None:
    fields = {**GOOD, "essay": ""}
    for name, content in (("essay.txt", ESSAY.encode()), ("essay.docx", docx(paragraph(ESSAY)))):
        page = client.post("/", data=fields, files={"file": (name, content)}).text
        expected = client.post("/score", json=GOOD).json()
        assert f'<span class="score">{expected["score"]:g}</span>' in page
        assert f">\n{html.escape(ESSAY, quote=True)}</textarea>".replace("&#x27;", "&#39;") in page
    none_chosen = client.post("/", data=GOOD, files={"file": ("", b"")})
    assert none_chosen.status_code == 200


@pytest.mark.parametrize(
    ("name", "content", "status", "words"),
    [
        ("essay.docx", b"nothing", 422, "annot read essay.docx: this is no Word document"),
        ("essay.exe", b"MZ", 422, "it should end in .txt, .md, .docx, .pdf"),
        ("essay.txt", b"x" * 5_400_000, 413, "larger than 5,300,000 bytes"),
        ("", b"", 400, "no file was sent"),
    ],
)
def test_a_file_that_holds_no_text_is_said_beside_its_field(
    client: TestClient, name: str, content: bytes, status: int, words: str
) -> None:
    read = client.post("/text", files={"file": (name, content)})
    assert read.status_code == status
    assert words in read.json()["error"]["message"]
    if status == 422:
        page = client.post("/", data={**GOOD, "essay": ""}, files={"file": (name, content)})
        assert page.status_code == status
        said = re.search(r'id="file-error"><strong>Error:</strong> ([^<]+)', html.unescape(page.text))
        assert said
        assert words in said.group(1)


def test_a_files_text_is_given_back_as_it_is(client: TestClient) -> None:
    read = client.post("/text", files={"file": ("essay.txt", "Déjà\nvu".encode("cp1252"))})
    assert read.json() == {"text": "Déjà\nvu"}


def test_each_model_says_its_agreement_speed_and_runtime(client: TestClient) -> None:
    client.post("/", data=GOOD)
    details = [json.loads(html.unescape(each)) for each in re.findall(r'data-details="([^"]*)"', client.get("/").text)]
    assert len(details) == 3
    for each in details:
        assert set(each) == {"ellipse-overall", "asap-1"}
        said = each["asap-1"]
        assert re.fullmatch(r"Agreement with people 0\.70\. Takes about [\d,]+ ms an essay here, on .*fp32\.", said)


def test_flags_say_what_to_do_and_the_others_how_far_they_disagree(client: TestClient) -> None:
    page = client.post("/", data=GOOD).text
    apart = client.post("/compare", json={"essay": ESSAY, "prompt_id": GOOD["prompt_id"]}).json()["disagreement"]
    assert "Compare what each says below" in page
    assert f"before rounding they are {apart['unit_spread']:.0%} of the scale apart" in page
    assert "This is in the upper part of the scale." in page


def test_the_class_page_offers_the_same_tasks_and_models(client: TestClient) -> None:
    page = client.get("/class").text
    assert re.findall(r'<option value="([^"]+)"', page) == re.findall(r'<option value="([^"]+)"', client.get("/").text)
    assert 'data-batch="8" data-bytes="300000"' in page
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script>", page)
    for asset in re.findall(r'(?:src|href)="(/assets/[^"]+)"', page):
        assert client.get(asset).status_code == 200


def test_the_page_loads_nothing_from_elsewhere_and_has_nothing_inline(client: TestClient) -> None:
    page = client.post("/", data=GOOD).text
    assert not re.search(r'(src|href)="(?!/|#)', page)
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script>", page)
    for asset in re.findall(r'(?:src|href)="(/assets/[^"]+)"', page):
        assert client.get(asset).status_code == 200
