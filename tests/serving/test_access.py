"""Who may: API keys, scopes, origins, and the bounds of a request, over ASGI and on the page."""

import asyncio
import gzip
import io
import json
import logging
import os
import statistics
import subprocess
import sys
import time
import tomllib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from pydantic import ValidationError
from starlette.testclient import TestClient

from serving.access import AccessSettings, ApiKey, digest_of, make_key, require_key
from serving.config import ServiceSettings
from serving.desk import Desk
from serving.errors import NotAuthenticated
from serving.routes import create_app

Figure = Callable[[str], None]
ESSAY = (
    "My school is small, and I like it. The teachers know every pupil by name, so when somebody is sad they see it."
    " However we have no laboratory, and I want to learn chemistry. People say a big school has more to offer."
)
GOOD = {"essay": ESSAY, "prompt_id": "ellipse-overall"}
SCORE_KEY, ADMIN_KEY, REVOKED_KEY = (make_key() for _ in range(3))
KEYS = [
    {"name": "school-a", "sha256": digest_of(SCORE_KEY), "scopes": ["score"]},
    {"name": "operator", "sha256": digest_of(ADMIN_KEY), "scopes": ["admin"]},
]
ORIGIN = "https://school.example"
SCORING = ("/score", "/score_batch", "/compare")


def with_key(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def settings(**access: Any) -> ServiceSettings:
    return ServiceSettings.model_validate(
        {"lanes": 1, "max_body_bytes": 100_000, "body_timeout_s": 0.3, "cache": {"store": "off"}, "access": access}
    )


@pytest.fixture(scope="module")
def guarded(artifacts: Any) -> Iterator[Desk]:
    """A desk that asks for keys."""
    desk = Desk(settings(required=True, keys=KEYS, allowed_origins=[ORIGIN]))
    desk.open(artifacts, lambda _: None)
    yield desk
    desk.close()


@pytest.fixture
def client(guarded: Desk, tmp_path: Path) -> Iterator[TestClient]:
    with TestClient(create_app(lambda: guarded, tmp_path)) as opened:
        yield opened


def body_for(path: str) -> dict[str, Any]:
    return {"essays": [GOOD]} if path == "/score_batch" else GOOD


async def stream(
    desk: Desk, tmp_path: Path, body: AsyncIterator[bytes], headers: Mapping[str, str] | None = None
) -> tuple[httpx.Response, float]:
    """The answer to a body that is sent piece by piece as the service reads it, and the seconds that it took."""
    transport = httpx.ASGITransport(create_app(lambda: desk, tmp_path))
    async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
        started = time.monotonic()
        described = {"Content-Type": "application/json", **with_key(SCORE_KEY), **(headers or {})}
        answer = await client.post("/score", content=body, headers=described)
        return answer, time.monotonic() - started


@pytest.mark.row(48)
@pytest.mark.parametrize("path", SCORING)
@pytest.mark.parametrize(
    "headers",
    [
        {},
        with_key("fm_wrong"),
        with_key(REVOKED_KEY),
        with_key(""),
        {"Authorization": SCORE_KEY},
        {"Authorization": f"Basic {SCORE_KEY}"},
        {"Authorization": b"Bearer \xff\xfe"},
        with_key(SCORE_KEY[:-1]),
    ],
    ids=["missing", "wrong", "revoked", "empty", "no scheme", "other scheme", "no text", "cut short"],
)
def test_without_a_known_key_nothing_is_scored(client: TestClient, path: str, headers: Any) -> None:
    answer = client.post(path, json=body_for(path), headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "not_authenticated")
    assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_a_key_opens_what_its_scope_says_and_no_more(client: TestClient) -> None:
    for path in SCORING:
        assert client.post(path, json=body_for(path), headers=with_key(SCORE_KEY)).status_code == 200
        assert client.post(path, json=body_for(path), headers=with_key(ADMIN_KEY)).status_code == 403
    everything = {"everything": True}
    assert client.post("/cache/purge", json=everything, headers=with_key(SCORE_KEY)).status_code == 403
    assert client.post("/cache/purge", json=everything, headers=with_key(ADMIN_KEY)).status_code == 200
    for path in ("/", "/models", "/prompts", "/status", "/docs.json", "/assets/fairmark.css"):
        assert client.get(path).status_code == 200


def test_an_essay_to_purge_is_read_no_further_than_one_to_score(client: TestClient) -> None:
    decorated = {"essay": "a" + "\u0301\u0323" * 20_000}
    answer = client.post("/cache/purge", json=decorated, headers=with_key(ADMIN_KEY))
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "stacked_marks")


def test_a_request_without_a_key_is_refused_before_its_body_is_read(client: TestClient) -> None:
    assert client.post("/score", content=b"{", headers={"Content-Type": "application/json"}).status_code == 401


@pytest.mark.row(48)
def test_a_key_appears_in_no_log_answer_or_metric(client: TestClient, guarded: Desk) -> None:
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    for logger in (logging.getLogger(), logging.getLogger("bentoml")):
        logger.addHandler(handler)
    answers = [
        client.post(path, json=body_for(path), headers=with_key(key))
        for path in SCORING
        for key in (SCORE_KEY, ADMIN_KEY, REVOKED_KEY)
    ]
    answers += [client.post("/", data={**GOOD, "model": "tiny", "api_key": key}) for key in (SCORE_KEY, REVOKED_KEY)]
    answers.append(client.get("/metrics"))
    for logger in (logging.getLogger(), logging.getLogger("bentoml")):
        logger.removeHandler(handler)
    said = [written.getvalue(), repr(guarded.settings), *(f"{answer.headers} {answer.text}" for answer in answers)]
    for text in said:
        assert not any(key in text for key in (SCORE_KEY, ADMIN_KEY, REVOKED_KEY))


@pytest.mark.row(48)
def test_refusing_takes_as_long_however_much_of_a_key_is_right(figure: Figure) -> None:
    keys = [ApiKey(name=f"key-{number}", sha256=digest_of(make_key()), scopes=("score",)) for number in range(20)]
    right = make_key()
    keys += [ApiKey(name="right", sha256=digest_of(right), scopes=("score",))]
    tries = {"nothing right": "x" * len(right), "all but the last right": right[:-1] + "?"}
    times: dict[str, list[float]] = {name: [] for name in tries}
    for _ in range(3000):
        for name, given in tries.items():
            started = time.perf_counter_ns()
            with pytest.raises(NotAuthenticated):
                require_key(keys, "score", given)
            times[name].append(time.perf_counter_ns() - started)
    near, far = (statistics.median(each) for each in (times["all but the last right"], times["nothing right"]))
    assert near == pytest.approx(far, rel=0.1)
    figure(f"refused in {far / 1000:.1f} µs with nothing right, {near / 1000:.1f} µs with all but the last character")


def test_the_page_asks_for_the_key_beside_the_form_and_never_shows_it(client: TestClient) -> None:
    form = {**GOOD, "model": "tiny"}
    assert 'name="api_key" type="password"' in client.get("/").text
    refused = client.post("/", data={**form, "api_key": REVOKED_KEY})
    assert refused.status_code == 401
    assert 'id="api_key-error"' in refused.text
    assert 'id="result"' not in refused.text
    answered = client.post("/", data={**form, "api_key": SCORE_KEY})
    assert answered.status_code == 200
    assert 'id="result"' in answered.text
    assert SCORE_KEY not in answered.text


def test_where_no_key_is_required_none_is_asked_for(desk: Desk, tmp_path: Path) -> None:
    with TestClient(create_app(lambda: desk, tmp_path)) as client:
        assert "api_key" not in client.get("/").text
        assert client.post("/score", json=GOOD, headers=with_key(REVOKED_KEY)).status_code == 200


@pytest.mark.parametrize(
    ("access", "words"),
    [
        ({"required": True}, "nobody could have an essay scored"),
        ({"required": True, "keys": KEYS[1:]}, "nobody could have an essay scored"),
        ({"keys": [KEYS[0], KEYS[0]]}, "same name"),
        ({"keys": [{**KEYS[0], "sha256": SCORE_KEY}]}, "sha256"),
        ({"keys": [{**KEYS[0], "scopes": ["all"]}]}, "scopes"),
        ({"allowed_origins": ["*"]}, "allowed_origins"),
        ({"allowed_origins": [f"{ORIGIN}/"]}, "allowed_origins"),
    ],
)
def test_settings_that_would_open_or_close_too_much_are_refused(access: Any, words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        AccessSettings.model_validate(access)
    assert words in str(caught.value)
    assert SCORE_KEY not in str(caught.value)


def test_the_command_prints_a_key_once_and_the_entry_that_knows_it() -> None:
    command = [sys.executable, "-m", "serving.access", "--name", "school-b", "--scope", "score", "--scope", "admin"]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    entry = tomllib.loads(ended.stderr.partition("\n\n")[2])
    access = AccessSettings.model_validate(entry["service"]["access"])
    require_key(access.keys, "admin", ended.stdout.strip())
    assert ended.stdout.strip() not in ended.stderr


@pytest.mark.row(49)
def test_only_a_listed_origin_gets_cors_headers(client: TestClient, desk: Desk, tmp_path: Path) -> None:
    def asked(by: TestClient, origin: str) -> list[httpx.Response]:
        preflight = {
            "Origin": origin,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization,content-type",
        }
        scored = by.post("/score", json=GOOD, headers={"Origin": origin, **with_key(SCORE_KEY)})
        assert scored.status_code == 200
        return [by.options("/score", headers=preflight), by.get("/models", headers={"Origin": origin}), scored]

    listed = asked(client, ORIGIN)
    assert [answer.headers["Access-Control-Allow-Origin"] for answer in listed] == [ORIGIN] * 3
    assert listed[0].status_code == 200
    assert "Access-Control-Allow-Credentials" not in listed[2].headers
    for origin in ("https://elsewhere.example", f"{ORIGIN}.elsewhere.example", "null"):
        assert all("Access-Control-Allow-Origin" not in answer.headers for answer in asked(client, origin))
    with TestClient(create_app(lambda: desk, tmp_path)) as without_a_list:
        for answer in asked(without_a_list, ORIGIN):
            assert not [name for name in answer.headers if name.startswith("access-control-")]


@pytest.mark.row(47)
@pytest.mark.parametrize(
    ("accept", "status"),
    [
        ("application/json", 200),
        ("text/html, application/*;q=0.5", 200),
        ("*/*;q=0.1", 200),
        ("", 200),
        ("text/html", 406),
        ("application/xml, text/*", 406),
        ("application/json;q=0", 406),
        ("application/json; q=0.00", 406),
    ],
)
def test_who_takes_no_json_is_told_so(client: TestClient, accept: str, status: int) -> None:
    answer = client.get("/models", headers={"Accept": accept})
    assert answer.status_code == status
    assert status == 200 or answer.json()["error"]["code"] == "not_acceptable"


@pytest.mark.row(47)
def test_wrong_method_type_and_compressed_bodies(client: TestClient, figure: Figure) -> None:
    assert client.get("/score").status_code == 405
    assert client.put("/score", json=GOOD).status_code == 405
    key = with_key(SCORE_KEY)
    assert client.post("/score", content="essay", headers={"Content-Type": "text/plain", **key}).status_code == 415
    process = psutil.Process()
    packed = {"Content-Type": "application/json", "Content-Encoding": "gzip", **key}
    bombs = {size: gzip.compress(bytes(size)) for size in (50_000_000, 500_000_000)}
    before = process.memory_info().rss
    small, large = (client.post("/score", content=bomb, headers=packed) for bomb in bombs.values())
    grown = process.memory_info().rss - before
    # Nothing compressed is read; beyond the limit of a body its size is the first thing said.
    assert (small.status_code, large.status_code) == (415, 413)
    assert grown < 10_000_000
    figure(f"gzip bombs of 50 and 500 MB: 415 and 413, memory +{grown / 1e6:.1f} MB")


@pytest.mark.row(41)
def test_an_essay_or_a_body_that_is_too_long_is_refused_with_memory_flat(
    guarded: Desk, client: TestClient, tmp_path: Path, figure: Figure
) -> None:
    long = client.post("/score", json={**GOOD, "essay": "word " * 16_000 + "x"}, headers=with_key(SCORE_KEY))
    assert (long.status_code, long.json()["error"]["code"]) == (422, "essay_too_long")
    taken = 0

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal taken
        for _ in range(300):
            taken += 1
            yield bytes(100_000)

    process = psutil.Process()
    before = process.memory_info().rss
    declared, _ = asyncio.run(stream(guarded, tmp_path, chunks(), {"Content-Length": "30000000"}))
    assert (declared.status_code, taken) == (413, 0)
    hidden, _ = asyncio.run(stream(guarded, tmp_path, chunks()))
    grown = process.memory_info().rss - before
    assert (hidden.status_code, taken) == (413, 2)  # the limit is 100,000 bytes: the second chunk is the last one read
    assert grown < 10_000_000
    figure(f"80,001 characters 422; 30 MB 413, {taken * 100_000:,} bytes of it read, memory +{grown / 1e6:.1f} MB")


def test_headers_beyond_their_bound_are_refused(client: TestClient) -> None:
    answer = client.get("/models", headers={"X-Long": "x" * 20_000})
    assert (answer.status_code, answer.json()["error"]["code"]) == (431, "headers_too_large")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert client.get("/models", headers={"X-Long": "x" * 10_000}).status_code == 200


def test_a_body_that_does_not_end_is_given_up(guarded: Desk, tmp_path: Path) -> None:
    async def slow() -> AsyncIterator[bytes]:
        for character in json.dumps(GOOD):
            yield character.encode()
            await asyncio.sleep(0.05)

    answer, took_s = asyncio.run(stream(guarded, tmp_path, slow()))
    assert (answer.status_code, answer.json()["error"]["code"]) == (408, "body_too_slow")
    assert took_s < 3


@pytest.mark.row(44)
def test_script_in_an_essay_is_shown_escaped_under_a_policy_that_would_not_run_it(client: TestClient) -> None:
    essay = f'</textarea><script>alert(1)</script><img src=x onerror="alert(2)"> {ESSAY}'
    for model in ("tiny", "<script>alert(3)</script>"):
        form: Mapping[str, str] = {**GOOD, "essay": essay, "model": model, "api_key": SCORE_KEY}
        answer = client.post("/", data=form)
        assert "<script>alert" not in answer.text
        assert "<img src=x" not in answer.text
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
    assert answer.headers["X-Frame-Options"] == "DENY"
    assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert "camera=()" in answer.headers["Permissions-Policy"]


def test_access_settings_come_from_the_environment_too(monkeypatch: pytest.MonkeyPatch) -> None:
    from essays.settings import load_settings
    from serving.config import ServingSettings

    monkeypatch.setitem(os.environ, "FAIRMARK_SERVICE__ACCESS__REQUIRED", "true")
    monkeypatch.setitem(os.environ, "FAIRMARK_SERVICE__ACCESS__KEYS", json.dumps(KEYS))
    access = load_settings(ServingSettings).service.access
    assert (access.required, [key.name for key in access.keys]) == (True, ["school-a", "operator"])
