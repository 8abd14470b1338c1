"""A set of models in place of another, part by part: which requests get which, what is let go, and what is refused."""

import asyncio
import os
import threading
import weakref
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from essays.errors import StoreUnreachable, WarmUpFailed
from essays.registry import champion_key, read_champion
from essays.settings import StoreSettings
from essays.store import Store, open_store
from serving.artifacts import acquire, fetch_changed, settle
from serving.catalogue import LocalArtifact
from serving.config import ServiceSettings
from serving.desk import Desk
from serving.errors import UpdateRefused
from serving.lanes import Job
from serving.offers import Offer, Offers, Taken
from serving.swapping import follow, served_by_the_last
from serving.watching import Watcher
from tests.serving.conftest import with_nan_weights
from tests.serving.processes import free_port
from tests.serving.traffic import wait_until

ESSAY = (
    "My school is small, and I like it. The teachers know every pupil by name, so when somebody is sad they see it."
    " However we have no laboratory, and I want to learn chemistry. People say a big school has more to offer."
)
PROMPT = "ellipse-overall"


@pytest.fixture
def others(other_bundles: Any, extract: Any, tmp_path: Path) -> list[LocalArtifact]:
    """The changed set, as verified folders."""
    return extract(list(other_bundles.paths.values()), tmp_path / "others")


def digests(artifacts: Any) -> dict[str, str]:
    return {artifact.name: artifact.digest for artifact in artifacts}


@pytest.mark.row(23)
def test_a_request_in_hand_keeps_its_models_and_the_last_one_lets_them_go(
    artifacts: list[LocalArtifact], others: list[LocalArtifact], open_desk: Any
) -> None:
    desk = open_desk(artifacts)
    release = threading.Event()
    begun = threading.Event()
    before = [desk.scorer().pool]
    session = weakref.ref(before[0].lanes[0].sessions["tiny"])

    def slow_request() -> dict[str, str]:
        async def answer() -> str:
            with desk.in_use() as scorer:
                begun.set()
                await scorer.pool.run([Job(lambda _: release.wait(30), "tiny", 1)], 30)
                return (await scorer.score(ESSAY, PROMPT, "tiny")).model.digest

        return {"digest": asyncio.run(answer())}

    said: list[dict[str, str]] = []
    thread = threading.Thread(target=lambda: said.append(slow_request()))
    thread.start()
    assert begun.wait(10)
    wait_until(lambda: before[0].open_jobs == 1, 10, lambda: "no request is in hand")
    desk.swap(others, lambda _: None)
    assert asyncio.run(desk.scorer().score(ESSAY, PROMPT, "tiny")).model.digest == digests(others)["tiny"]
    assert not before[0].is_closed
    release.set()
    thread.join(30)
    assert said == [{"digest": digests(artifacts)["tiny"]}]
    assert before[0].is_closed
    before.clear()
    wait_until(lambda: session() is None, 10, lambda: "the old model is still in memory")


@pytest.mark.row(23)
def test_a_set_that_does_not_warm_leaves_everything_as_it_was(
    bundles: Any, artifacts: list[LocalArtifact], extract: Any, open_desk: Any, tmp_path: Path
) -> None:
    (bad,) = extract([bundles.changed("tiny", with_nan_weights, tmp_path / "changed")], tmp_path / "bad")
    offered = [bad if artifact.name == "tiny" else artifact for artifact in artifacts]
    desk = open_desk(artifacts)
    tolerant = open_desk(artifacts, require="any")
    for opened, error in ((desk, WarmUpFailed), (tolerant, UpdateRefused)):
        served = opened.scorer()
        with pytest.raises(error, match="golden essay 1"):
            opened.swap(offered, lambda _: None)
        assert opened.scorer() is served
        assert digests(opened.artifacts) == digests(artifacts)
        assert asyncio.run(served.score(ESSAY, PROMPT, "ensemble")).model.digest == digests(artifacts)["ensemble"]
        assert {state.state for state in opened.status().models} == {"ready"}


def test_the_set_that_is_served_already_is_not_loaded_again(artifacts: list[LocalArtifact], open_desk: Any) -> None:
    desk = open_desk(artifacts)
    desk.refuse("a reason")
    assert "fairmark_update_refused 1.0" in desk.render_metrics().decode()
    served, states = desk.scorer(), list[str]()
    desk.swap(artifacts, lambda state: states.append(state.state))
    assert desk.scorer() is served
    assert states == []
    assert desk.status().update.state == "none"
    assert "fairmark_update_refused 0.0" in desk.render_metrics().decode()


def test_a_set_over_which_two_workers_ended_is_not_tried_by_a_third(
    artifacts: list[LocalArtifact], others: list[LocalArtifact], tmp_path: Path
) -> None:
    offers, offer = Offers(tmp_path), Offer(number=1, artifacts=tuple(others))
    assert served_by_the_last(offers) is None
    assert [offers.begin(offer, tuple(artifacts)) for _ in range(3)] == [True, True, False]
    taken = offers.taken()
    assert taken == Taken(
        number=1,
        outcome="refused",
        artifacts=tuple(artifacts),
        reason="2 worker processes ended while they loaded it",
        num_tries=2,
    )
    assert served_by_the_last(offers) == artifacts
    assert offers.begin(Offer(number=2, artifacts=tuple(others)), tuple(artifacts))


class Pair:
    """A parent's watcher and a worker's desk, in one process."""

    def __init__(self, store: Store, root: Path, folder: Path, **settings: Any) -> None:
        self.root = root
        served = acquire(store, [], root)
        self.desk = Desk(ServiceSettings(lanes=1, cache={"store": "off"}, **settings))
        self.desk.open(served, lambda _: None)
        self.offers = Offers(folder)
        self.closing = threading.Event()
        arguments = (self.desk, self.offers, self.closing, lambda: None)
        self.thread = threading.Thread(target=follow, args=arguments)
        self.thread.start()
        self.watcher = Watcher(
            store,
            served,
            self.offers,
            fetch=lambda refused: fetch_changed(store, [], root, trusted=None, on_refused=None),
            settle=partial(settle, store, [], root),
            watch_s=1,
        )

    def close(self) -> None:
        self.closing.set()
        self.thread.join(10)
        self.desk.close()

    @property
    def folders(self) -> set[str]:
        return {path.name for path in self.root.iterdir() if len(path.name) == 64}


@pytest.fixture
def pair(bundles: Any, file_store: Store, tmp_path: Path) -> Iterator[Pair]:
    bundles.publish(file_store)
    (tmp_path / "front").mkdir()
    made = Pair(file_store, tmp_path / "models", tmp_path / "front")
    yield made
    made.close()


def promote(store: Store, made: Any) -> None:
    for name in ("lexical", "tiny", "ensemble"):
        made.promote(store, made.paths[name])


@pytest.mark.row(23, 24)
def test_moved_champions_are_served_and_moved_back_without_fetching(
    pair: Pair, bundles: Any, other_bundles: Any, file_store: Store, artifacts: list[LocalArtifact]
) -> None:
    pair.watcher.look()
    assert pair.offers.offer() is None, "nothing had moved"
    promote(file_store, other_bundles)
    pair.watcher.look()
    first, second = digests(artifacts), digests(pair.desk.artifacts)
    assert (first["lexical"], first["tiny"] == second["tiny"]) == (second["lexical"], False)
    assert pair.desk.status().update.num_switches == 1
    promote(file_store, bundles)
    # What was served before the change is still here.
    for name in ("tiny", "ensemble"):
        file_store._path(read_champion(file_store, name).pointer.key).unlink()  # type: ignore[attr-defined]
    pair.watcher.look()
    assert digests(pair.desk.artifacts) == first
    assert pair.folders == {*first.values(), *second.values()}


@pytest.mark.row(23)
def test_a_refused_set_is_said_offered_once_and_does_not_stay_on_the_disk(
    pair: Pair, bundles: Any, file_store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    served = pair.folders
    (pair.root / ".state" / "known.json").write_text("damaged")
    good = bundles.paths["tiny"]
    bundles.promote(file_store, bundles.changed("tiny", with_nan_weights, tmp_path / "changed"))
    bad = read_champion(file_store, "tiny").pointer.sha256
    for digest in (bad, *served):
        (pair.root / "compiled" / digest).mkdir(parents=True)
    for _ in range(2):
        pair.watcher.look()
    offer = pair.offers.offer()
    assert offer
    assert (offer.number, digests(offer.artifacts)["tiny"]) == (1, bad)
    update = pair.desk.status().update
    assert (update.state, "golden essay 1" in (update.reason or "")) == ("refused", True)
    assert capsys.readouterr().err.count("error: changed champions are not served") == 1
    assert pair.folders == served
    assert {path.name for path in (pair.root / "compiled").iterdir()} == served
    bundles.promote(file_store, good)
    pair.watcher.look()
    assert pair.desk.status().update.state == "none"


def test_an_offer_that_cannot_be_noted_is_taken_when_it_can(
    pair: Pair, other_bundles: Any, file_store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As on a full disk; here a folder stands where the note is written."""
    in_the_way = tmp_path / "front" / f"taken.{os.getpid()}"
    in_the_way.mkdir()
    promote(file_store, other_bundles)
    looking = threading.Thread(target=pair.watcher.look)
    looking.start()
    wait_until(lambda: "cannot be taken now" in caplog.text, 20, lambda: caplog.text)
    assert pair.desk.status().update.num_switches == 0
    in_the_way.rmdir()
    looking.join(20)
    assert pair.desk.status().update.state == "served"


def test_a_set_half_moved_is_refused_until_it_is_whole(
    pair: Pair, bundles: Any, other_bundles: Any, file_store: Store
) -> None:
    before = digests(pair.desk.artifacts)
    other_bundles.promote(file_store, other_bundles.paths["tiny"])
    pair.watcher.look()
    assert digests(pair.desk.artifacts) == before
    assert "publish ensemble and its members together" in (pair.desk.status().update.reason or "")
    other_bundles.promote(file_store, other_bundles.paths["ensemble"])
    pair.watcher.look()
    assert digests(pair.desk.artifacts) != before
    assert pair.desk.status().update.state == "served"


def test_a_champion_that_is_gone_or_garbled_changes_nothing(pair: Pair, file_store: Store) -> None:
    before = digests(pair.desk.artifacts)
    file_store.put_bytes(champion_key("tiny"), b"{", if_match=read_champion(file_store, "tiny").etag)
    pair.watcher.look()
    assert digests(pair.desk.artifacts) == before
    assert "no pointer" in (pair.desk.status().update.reason or "")


@pytest.mark.row(2)
def test_a_store_that_is_away_changes_nothing_and_is_said_once(
    pair: Pair, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nowhere = {"url": "s3://fairmark", "endpoint_url": f"http://127.0.0.1:{free_port()}", "max_attempts": 1}
    keys = {"access_key_id": "key", "secret_access_key": "secret"}
    pair.watcher.store = open_store(StoreSettings.model_validate({**nowhere, **keys}))
    with pytest.raises(StoreUnreachable):
        pair.watcher.look()
    pair.watcher.watch_s = 0.05
    pair.watcher.start()
    wait_until(lambda: pair.watcher._failures >= 2, 20, lambda: "it does not ask again")
    assert capsys.readouterr().err.count("cannot see whether champions moved") == 1
    assert pair.offers.offer() is None


@pytest.mark.row(2)
def test_a_stale_set_counts_as_fresh_once_the_store_says_that_it_is(pair: Pair) -> None:
    pair.desk.metrics.served_stale(3)
    pair.watcher._look_closer = True
    pair.watcher.look()
    assert "fairmark_stale_artifacts 0.0" in pair.desk.render_metrics().decode()
    assert pair.desk.status().update.num_switches == 0
