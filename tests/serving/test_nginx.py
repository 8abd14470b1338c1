"""Debian's nginx before two real instances: TLS, limits, faults of an instance, what is logged."""

import json
import signal
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from deploy.nginx.program import reload
from essays.registry import read_champion
from essays.settings import StoreSettings
from essays.store import Store, open_store
from serving.access import digest_of, make_key
from tests.serving.cluster import CALLERS, HOST, Front, Instances, Tally, fronted, under_load
from tests.serving.processes import Service, free_port
from tests.serving.traffic import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.chaos]

Figure = Callable[[str], None]
ESSAY = (
    "My school is small, and I like it. The teachers know every pupil by name, so when somebody is sad they see it."
    " However we have no laboratory, and I want to learn chemistry. People say a big school has more to offer."
)
GOOD = {"essay": ESSAY, "prompt_id": "ellipse-overall", "model": "lexical"}
KEY, OTHER_KEY = make_key(), make_key()
WITH_KEY, WITH_OTHER_KEY = ({"Authorization": f"Bearer {key}"} for key in (KEY, OTHER_KEY))
CANARY = "zebracanary"
# Longer than an answer takes on a busy machine, and shorter than nginx waits for an instance that hangs.
SLOW_S = 3.5


@pytest.fixture(scope="module")
def store(bundles: Any, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Where both instances look for champions."""
    opened = open_store(StoreSettings(url=tmp_path_factory.mktemp("store").as_uri()))
    bundles.publish(opened)
    return opened


@pytest.fixture(scope="module")
def instances(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instances]:
    """Two, which ask for keys and have no cache: every answer is computed."""
    folder = tmp_path_factory.mktemp("instances")
    names = {"school-a": KEY, "school-b": OTHER_KEY}
    keys = [{"name": name, "sha256": digest_of(key), "scopes": ["score"]} for name, key in names.items()]
    environment = {
        "FAIRMARK_STORE__URL": store.url,
        "FAIRMARK_SERVICE__ARTIFACT_FOLDER": str(folder / "models"),
        "FAIRMARK_SERVICE__CACHE__STORE": "off",
        "FAIRMARK_SERVICE__LANES": "1",
        "FAIRMARK_SERVICE__RUNTIME": "onnxruntime",
        "FAIRMARK_SERVICE__WATCH_S": "0.5",
        "FAIRMARK_SERVICE__ACCESS__REQUIRED": "true",
        "FAIRMARK_SERVICE__ACCESS__KEYS": json.dumps(keys),
    }
    with Instances(folder, environment) as started:
        yield started


@pytest.fixture(scope="module")
def front(instances: Instances, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    """nginx before both, limiting nobody, with its watch."""
    with fronted(tmp_path_factory.mktemp("front") / "nginx", instances.addresses) as opened:
        yield opened


@pytest.fixture(scope="module")
def digest(front: Front) -> str:
    """Of the one version that is served."""
    with front.client() as client:
        models = client.get("/models").json()["models"]
    (found,) = [model["digest"] for model in models if model["name"] == "lexical"]
    return str(found)


@pytest.fixture(scope="module")
def num_requests(request: pytest.FixtureRequest) -> int:
    return int(request.config.getoption("--chaos-requests"))


def test_the_page_comes_over_tls_with_strict_headers(front: Front) -> None:
    with front.client() as client:
        page = client.get("/")
        assert page.status_code == 200
        assert "Essay scores you can question" in page.text
        assert "default-src 'none'" in page.headers["Content-Security-Policy"]
        assert page.headers["Strict-Transport-Security"].startswith("max-age=")
        assert len(page.headers["X-Request-ID"]) == 32
        for name in ("fairmark.css", "fairmark.js", "icon.svg"):
            asset = client.get(f"/assets/{name}", headers={"Accept-Encoding": "gzip"})
            assert asset.status_code == 200
            assert asset.content == Path("serving/web/static", name).read_bytes()
            assert asset.headers["X-Content-Type-Options"] == "nosniff"
            assert "default-src 'none'" in asset.headers["Content-Security-Policy"]
        assert client.get("/docs/assets/swagger-ui.css").status_code == 200
        scored = client.post("/", data={**GOOD, "api_key": KEY})
        assert 'id="result"' in scored.text
    plain = httpx.get(f"http://{HOST}:{front.site.http_port}/status?a=b")
    assert (plain.status_code, plain.headers["Location"]) == (308, f"{front.address}/status")


def test_calls_pass_with_a_key_and_an_operators_do_not_pass_at_all(front: Front, digest: str) -> None:
    with front.client() as client:
        assert client.post("/score", json=GOOD).status_code == 401
        scored = client.post("/score", json=GOOD, headers=WITH_KEY)
        assert (scored.status_code, scored.json()["model"]["digest"]) == (200, digest)
        assert client.post("/score_batch", json={"essays": [GOOD]}, headers=WITH_KEY).status_code == 200
        assert client.get("/readyz").status_code == 200
        for path in ("/metrics", "/cache/purge", "/nowhere", "/score/", "/score/x", "/SCORE"):
            answer = client.post(path, json=GOOD, headers=WITH_KEY)
            assert (answer.status_code, answer.json()["error"]["code"]) == (404, "unknown_path")
            assert set(answer.json()["error"]) == {"code", "message", "field", "hint"}


@pytest.mark.row(41)
def test_a_body_of_30_mb_is_refused_at_nginx(front: Front) -> None:
    before = len(front.log_lines())
    with front.client() as client:
        answer = client.post("/score", json={**GOOD, "essay": "x" * 30_000_000}, headers=WITH_KEY)
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_large")
    assert [(line["status"], line["upstream"]) for line in front.next_log_lines(before)] == [("413", "")]


@pytest.mark.row(50)
def test_who_asks_too_fast_waits_and_nobody_else_does(instances: Instances, tmp_path: Path, figure: Figure) -> None:
    with fronted(tmp_path / "nginx", instances.addresses, requests_per_s=2, burst=5) as limited:
        with limited.client() as hasty, limited.client() as other, limited.client(local_address="127.0.0.2") as away:
            answers = [hasty.get("/livez", headers=WITH_KEY) for _ in range(20)]
            refused = [answer for answer in answers if answer.status_code == 429]
            assert 10 <= len(refused) <= 14
            assert all(int(answer.headers["Retry-After"]) >= 1 for answer in refused)
            assert {answer.json()["error"]["code"] for answer in refused} == {"rate_exceeded"}
            # Another key from the same address, and the same moment from another address without a key.
            assert other.post("/score", json=GOOD, headers=WITH_OTHER_KEY).status_code == 200
            assert [away.get("/models").status_code for _ in range(4)] == [200] * 4
            # Neither another address in a header nor keys that are made up help.
            spoofed = [hasty.get("/livez", headers={**WITH_KEY, "X-Forwarded-For": f"10.0.0.{n}"}) for n in range(20)]
            assert sum(answer.status_code == 429 for answer in spoofed) >= 12
            made_up = [hasty.get("/livez", headers={"Authorization": f"Bearer {n}"}).status_code for n in range(60)]
            assert 429 in made_up
            time.sleep(1)
            assert hasty.get("/livez", headers=WITH_KEY).status_code == 200
        figure(f"{len(refused)} of 20 at once refused at 2/s with a burst of 5; others answered")


@pytest.mark.row(28)
def test_who_sends_slowly_is_cut_off_and_others_are_not_slower(
    instances: Instances, tmp_path: Path, figure: Figure
) -> None:
    body = json.dumps(GOOD).encode()
    head = f"POST /score HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    with fronted(tmp_path / "nginx", instances.addresses, client_timeout_s=1, connections_per_address=200) as strict:

        def send_slowly(start: str) -> float:
            """Seconds until the connection is closed, with a byte of the headers every tenth of a second or none."""
            opened = time.monotonic()
            with connected(strict) as connection:
                connection.sendall(start.encode())
                connection.settimeout(0.1)
                while time.monotonic() - opened < 20:
                    try:
                        if not connection.recv(4096):
                            break
                    except TimeoutError:
                        if not start.endswith("\r\n\r\n"):
                            connection.sendall(b"x")
                    except OSError:
                        break
            return time.monotonic() - opened

        with ThreadPoolExecutor(max_workers=40) as threads, strict.client() as client:
            slow = [threads.submit(send_slowly, f"{head}X-Slow: ") for _ in range(20)]
            slow += [threads.submit(send_slowly, f"{head}Authorization: Bearer {KEY}\r\n\r\n") for _ in range(20)]
            times = []
            for _ in range(10):
                started = time.monotonic()
                assert client.post("/score", json=GOOD, headers=WITH_KEY).status_code == 200
                times.append(time.monotonic() - started)
            lasted = [each.result() for each in slow]
        assert max(lasted) < 10
        assert max(times) < SLOW_S
        figure(
            f"40 slow callers closed after {max(lasted):.1f} s at most (bound 1 s); others {max(times):.2f} s at most"
        )


@contextmanager
def connected(front: Front) -> Iterator[ssl.SSLSocket]:
    """A bare connection over TLS."""
    with (
        socket.create_connection((HOST, front.site.https_port), timeout=10) as raw,
        front.tls.wrap_socket(raw, server_hostname=HOST) as connection,
    ):
        yield connection


SMUGGLED = f"GET /status HTTP/1.1\r\nHost: {HOST}\r\n\r\n"
PLAIN_HEAD = f"POST /score HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\n"
SMUGGLING = {
    "length and chunks": f"{PLAIN_HEAD}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{SMUGGLED}",
    "two lengths": f"{PLAIN_HEAD}Content-Length: 0\r\nContent-Length: {len(SMUGGLED)}\r\n\r\n{SMUGGLED}",
    "unknown coding": f"{PLAIN_HEAD}Transfer-Encoding: xchunked\r\n\r\n{SMUGGLED}",
    "two codings": f"{PLAIN_HEAD}Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n{SMUGGLED}",
    "signed length": f"{PLAIN_HEAD}Content-Length: +{len(SMUGGLED)}\r\n\r\n{SMUGGLED}",
    "wrong chunk": f"{PLAIN_HEAD}Transfer-Encoding: chunked\r\n\r\nZ\r\n{SMUGGLED}",
    "no host": "GET /status HTTP/1.1\r\n\r\n",
    "two hosts": f"GET /status HTTP/1.1\r\nHost: {HOST}\r\nHost: elsewhere.example\r\n\r\n",
    "NUL in a header": f"GET /status HTTP/1.1\r\nHost: {HOST}\r\nX-A: a\0b\r\n\r\n",
    "NUL in the path": f"GET /status%00 HTTP/1.1\r\nHost: {HOST}\r\n\r\n",
    "long headers": f"GET /status HTTP/1.1\r\nHost: {HOST}\r\nX-A: {'a' * 40_000}\r\n\r\n",
}


@pytest.mark.row(51)
@pytest.mark.parametrize("name", SMUGGLING)
def test_a_request_that_could_be_read_two_ways_is_refused_at_nginx(front: Front, name: str) -> None:
    before = len(front.log_lines())
    with connected(front) as connection:
        connection.sendall(SMUGGLING[name].encode())
        answer = b""
        while more := connection.recv(65536):
            answer += more
    assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 501")), answer[:60]
    assert answer.count(b"HTTP/1.1 ") == 1
    assert {line["upstream"] for line in front.next_log_lines(before)} == {""}


@pytest.mark.row(51)
@pytest.mark.parametrize(
    "path",
    [
        "/score/..;/metrics",
        "/..;/metrics",
        "/assets/../metrics",
        "/assets/..%2f..%2fservice.py",
        "/assets/%2e%2e/%2e%2e/config.py",
        "/assets../config.py",
        "//metrics",
        "/score;x=1",
    ],
)
def test_paths_that_lead_elsewhere_are_refused(front: Front, path: str) -> None:
    with connected(front) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n".encode())
        answer = connection.recv(65536)
    assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 404")), answer[:60]


@pytest.mark.row(51)
def test_another_host_is_not_served_whoever_says_it(front: Front) -> None:
    with front.client() as client:
        assert client.get("/status", headers={"Host": "elsewhere.example"}).status_code == 421
        honest = client.get("/status", headers={"X-Forwarded-Host": "elsewhere.example", "X-Forwarded-For": "10.0.0.1"})
        assert honest.status_code == 200
    assert httpx.get(f"http://{HOST}:{front.site.http_port}/", headers={"Host": "elsewhere.example"}).status_code == 421
    with socket.create_connection((HOST, front.site.https_port)) as raw, pytest.raises(ssl.SSLError):
        front.tls.wrap_socket(raw, server_hostname="elsewhere.example")


def require_no_failure(tally: Tally, at_least: int, digest: str) -> None:
    assert set(tally.statuses) == {200}, tally.statuses
    assert tally.total >= at_least
    assert set(tally.digests) == {digest}


def sent_again(front: Front, before: int) -> list[float]:
    """Seconds of each request that one instance failed and the other answered. What else is slow has other causes."""
    return [line["seconds"] for line in front.log_lines()[before:] if "," in line["upstream"]]


@pytest.mark.row(38)
def test_reloading_nginx_fails_nobody(front: Front, num_requests: int, digest: str, figure: Figure) -> None:
    with under_load(front, GOOD, WITH_KEY, num_requests) as tally:
        for _ in range(3):
            reload(front.site)
            time.sleep(0.5)
    require_no_failure(tally, num_requests, digest)
    figure(f"0 of {tally.total} failed over 3 reloads at concurrency 8, a connection for each")


@pytest.mark.row(22)
def test_asking_an_instance_to_end_fails_nobody(
    front: Front, instances: Instances, num_requests: int, digest: str, figure: Figure
) -> None:
    with under_load(front, GOOD, WITH_KEY, num_requests) as tally:
        instances.services[0].process.send_signal(signal.SIGTERM)
        assert instances.services[0].process.wait(60) == 0, instances.services[0].log
        front.wait_for_watch({instances.addresses[0]})
        instances.start_again(0)
        front.wait_for_watch(set())
    require_no_failure(tally, num_requests, digest)
    figure(f"0 of {tally.total} failed while one instance ended (exit 0) and was started again; one digest")


def serves(service: Service, digest: str) -> bool:
    return digest in service.http.get("/models").text


@pytest.mark.row(23)
def test_a_version_that_changes_behind_nginx_fails_nobody(
    front: Front,
    instances: Instances,
    store: Store,
    bundles: Any,
    other_bundles: Any,
    num_requests: int,
    figure: Figure,
) -> None:
    request, digests = {**GOOD, "model": "tiny"}, [read_champion(store, "tiny").pointer.sha256]
    with under_load(front, request, WITH_KEY, num_requests) as tally:
        for made in (other_bundles, bundles):
            for name in ("lexical", "tiny", "ensemble"):
                made.promote(store, made.paths[name])
            digests.append(read_champion(store, "tiny").pointer.sha256)
            for service in instances.services:
                wait_until(partial(serves, service, digests[-1]), 120, lambda: "an instance did not follow")
    assert digests[0] == digests[2] != digests[1]
    # Each answer names one digest, and all of them are from the one or the other.
    assert set(tally.statuses) == {200}, tally.statuses
    assert tally.total == tally.digests.total() >= num_requests
    assert set(tally.digests) == set(digests)
    assert [service.process.poll() for service in instances.services] == [None, None]
    figure(
        f"0 of {tally.total} failed at concurrency {CALLERS} while two instances changed versions and back; answers by"
        f" digest: {', '.join(map(str, tally.digests.values()))}"
    )


@pytest.mark.row(39)
def test_an_instance_that_hangs_makes_one_request_slow(front: Front, instances: Instances, figure: Figure) -> None:
    before = len(front.log_lines())
    instances.signal_all(0, signal.SIGSTOP)
    try:
        with front.client(headers=WITH_KEY) as client:
            times = []
            for _ in range(40):
                started = time.monotonic()
                assert client.post("/score", json=GOOD).status_code == 200
                times.append(time.monotonic() - started)
        front.wait_for_watch({instances.addresses[0]})
    finally:
        instances.signal_all(0, signal.SIGCONT)
    front.wait_for_watch(set())
    assert len(sent_again(front, before)) <= 1
    figure(f"hung: {max(times):.1f} s (nginx waits 4), then the others {sorted(times)[-2]:.2f} s at most")


def test_with_no_instance_left_page_and_calls_say_so(tmp_path: Path) -> None:
    nobody = tuple(f"127.0.0.1:{free_port()}" for _ in range(2))
    with fronted(tmp_path / "nginx", nobody) as front, front.client() as client:
        page = client.post("/", data=GOOD)
        assert page.status_code == 503
        assert "Fairmark cannot answer just now" in page.text
        call = client.post("/score", json=GOOD)
        assert (call.status_code, call.json()["error"]["code"]) == (503, "unavailable")
        assert page.headers["Retry-After"] == call.headers["Retry-After"] == "5"
        assert client.get("/assets/fairmark.css").status_code == 200


@pytest.mark.row(48, 52)
def test_neither_essay_nor_key_nor_query_is_in_any_log_or_file(front: Front, instances: Instances, digest: str) -> None:
    headers = {**WITH_KEY, "Referer": f"https://{CANARY}.example/", "User-Agent": CANARY, "X-Canary": CANARY}
    body = {**GOOD, "essay": f"{ESSAY} {CANARY}"}
    with front.client(headers=headers) as client:
        assert client.post("/score", json=body).status_code == 200
        for path in (f"/score?essay={CANARY}", f"/?key={KEY}", f"/{CANARY}", f"/score/{CANARY}"):
            client.post(path, json=body)
            client.get(path)
        client.post("/", data={**body, "api_key": KEY})
        client.post("/score", content=json.dumps({**body, "essay": CANARY * 200_000}))
        assert client.request(CANARY.upper(), "/score").status_code == 405
    written = [path for path in front.site.folder.rglob("*") if path.is_file()]
    assert {"access.log", "error.log"} <= {path.name for path in written}
    for text in [*(path.read_text("utf-8") for path in written), *(service.log for service in instances.services)]:
        assert CANARY not in text.lower()
        assert KEY not in text
    lines = front.log_lines()
    assert {line["route"] for line in lines} >= {"/score", "/", "other"}
    scored = next(line for line in reversed(lines) if line["route"] == "/score" and line["status"] == "200")
    assert scored["upstream"] in instances.addresses
    assert (scored["network"], scored["limited_by"]) == ("127.0.0.0", "key")


# The last, as it leaves one instance.
@pytest.mark.row(39)
def test_killing_an_instance_fails_nobody(
    front: Front, instances: Instances, num_requests: int, digest: str, figure: Figure
) -> None:
    before = len(front.log_lines())
    with under_load(front, GOOD, WITH_KEY, num_requests) as tally:
        instances.signal_all(1, signal.SIGKILL)
        front.wait_for_watch({instances.addresses[1]})
    instances.services[1].process.wait()
    require_no_failure(tally, num_requests, digest)
    again = sent_again(front, before)
    assert sum(seconds > SLOW_S for seconds in again) <= 1
    figure(f"kill -9: 0 of {tally.total} failed; {len(again)} sent again, the slowest {max(again, default=0):.2f} s")
