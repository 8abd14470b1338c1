"""Traits below the score, with what they are worth in words, and nothing of them where there are none."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from serving.desk import Desk
from serving.routes import create_app
from tests.serving.web.test_page import ESSAY, GOOD


@pytest.fixture
def client(trait_desk: Desk, tmp_path: Path) -> Iterator[TestClient]:
    with TestClient(create_app(lambda: trait_desk, tmp_path)) as opened:
        yield opened


def test_each_part_has_its_score_interval_and_worth(client: TestClient) -> None:
    page = client.post("/", data=GOOD).text
    traits = client.post("/score", json=GOOD).json()["traits"]
    assert [each["trait"] for each in traits] == ["cohesion", "grammar"]
    section = page[page.index("Parts of the writing") : page.index("What the other models say")]
    for each in traits:
        name, score = each["trait"].capitalize(), each["score"]
        row = section[section.index(f'<th scope="row">{name}') :]
        assert f'<td class="number strong">{score:g}</td>' in row[: row.index("</tr>")]
        assert f"{each['low']:g} to {each['high']:g}" in row[: row.index("</tr>")]
    cohesion, grammar = section.split('<th scope="row">')[1:]
    assert "agreement with people 0.60, no better than the score as a whole in its place" in cohesion
    assert "agreement with people 0.60<" in grammar


@pytest.mark.parametrize("changed", [{"model": "lexical"}, {"prompt_id": "asap-1"}])
def test_without_traits_nothing_is_said_of_them(client: TestClient, changed: dict[str, str]) -> None:
    answer = client.post("/", data={**GOOD, "essay": ESSAY, **changed})
    assert answer.status_code == 200
    assert "Parts of the writing" not in answer.text
