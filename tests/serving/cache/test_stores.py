"""Both stores through the cache: what is found, what is forgotten, what never is."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from serving.cache.clock import SteadyClock
from serving.cache.proof import MIN_GRADES
from serving.cache.result_cache import ResultCache
from serving.cache.sql_store import Check

OpenCache = Callable[..., ResultCache]
SAME = Check("d" * 64, 1, (0.0,), 0.0, False)
CHANGED = Check("d" * 64, 1, (0.1,), 0.0, True)


def test_the_same_essay_is_found_and_only_it_and_only_in_its_space(
    store_settings: dict[str, Any], open_cache: OpenCache, helpers: Any
) -> None:
    cache = open_cache(**store_settings)
    space = helpers.space_in(cache)
    helpers.keep(cache, helpers.ESSAY, space, score=0.625)
    (found,) = cache.exact(cache.essay(helpers.ESSAY), [space]).values()
    assert (found.run.raw_unit_score, found.run.tokens_used, found.tier) == (0.625, 40, "exact")
    assert 0 <= found.age_s < 10
    assert cache.exact(cache.essay(helpers.SLIP), [space]) == {}
    for other in (
        helpers.space_in(cache, digest="e" * 64),
        helpers.space_in(cache, model="lstm"),
        helpers.space_in(cache, prompt_id="asap-2"),
        cache.space(model="tiny", digest="d" * 64, runtime="gpu", prompt_id="asap-1", schema=1),
        cache.space(model="tiny", digest="d" * 64, runtime="cpu", prompt_id="asap-1", schema=2),
    ):
        assert cache.exact(cache.essay(helpers.ESSAY), [other]) == {}
        assert cache.near(cache.essay(helpers.SLIP), [other]) == {}


def test_a_slip_is_found_and_a_shuffled_doubled_cut_or_other_essay_is_not(
    store_settings: dict[str, Any], open_cache: OpenCache, helpers: Any
) -> None:
    cache = open_cache(**store_settings)
    space = helpers.space_in(cache)
    helpers.keep(cache, helpers.ESSAY, space)
    (found,) = cache.near(cache.essay(helpers.SLIP), [space]).values()
    assert found.tier == "near"
    words = helpers.ESSAY.split(" ")
    for text in (
        " ".join(reversed(words)),
        " ".join([*words[20:], *words[:20]]),
        f"{helpers.ESSAY} {helpers.ESSAY}",
        " ".join(words[:25]),
        f"{' '.join(words[:25])} lorem ipsum dolor sit amet",
    ):
        assert cache.near(cache.essay(text), [space]) == {}


def test_a_store_opened_again_holds_what_it_held_in_both_tiers(
    store_settings: dict[str, Any], open_cache: OpenCache, helpers: Any
) -> None:
    first = open_cache(**store_settings)
    helpers.keep(first, helpers.ESSAY, helpers.space_in(first))
    check = Check("d" * 64, 1, (0.25, -0.5), None, None)
    first.verify([check])
    first.close()
    second = open_cache(**store_settings)
    space = helpers.space_in(second)
    assert second.exact(second.essay(helpers.ESSAY), [space])
    assert second.near(second.essay(helpers.SLIP), [space])
    assert second.entries == 1
    assert second.store
    assert second.store.checks(10) == [check]
    assert list(second.proof._shifts["d" * 64, 1, 2]) == [(0.25, -0.5)]


def test_what_another_version_kept_in_another_layout_is_dropped_and_said_to_be(
    store_settings: dict[str, Any], open_cache: OpenCache, helpers: Any, caplog: pytest.LogCaptureFixture
) -> None:
    first = open_cache(**store_settings)
    helpers.keep(first, helpers.ESSAY, helpers.space_in(first))
    first.verify([SAME])
    first.settle()
    assert first.store
    with first.store.writing() as connection:
        connection.run("UPDATE cache_layout SET version = 1")
    first.close()
    second = open_cache(**store_settings)
    assert second.exact(second.essay(helpers.ESSAY), [helpers.space_in(second)]) == {}
    assert second.entries == 0
    assert second.store
    assert second.store.checks(10) == []
    assert "it was emptied" in caplog.text
    helpers.keep(second, helpers.ESSAY, helpers.space_in(second))
    assert second.near(second.essay(helpers.SLIP), [helpers.space_in(second)])


@pytest.mark.parametrize(
    ("purge", "left"),
    [
        ({"model": "tiny"}, {"b1", "b2"}),
        ({"prompt_id": "asap-1"}, {"a2", "b2"}),
        ({"model": "tiny", "prompt_id": "asap-1"}, {"a2", "b1", "b2"}),
        ({"text": "ESSAY"}, set()),
        ({"text": "something else"}, {"a1", "a2", "b1", "b2"}),
        ({}, set()),
    ],
)
def test_a_purge_forgets_what_fits_and_nothing_else(
    purge: dict[str, str], left: set[str], store_settings: dict[str, Any], open_cache: OpenCache, helpers: Any
) -> None:
    cache = open_cache(**store_settings)
    spaces = {
        f"{name}{number}": helpers.space_in(cache, model=model, digest=name * 64, prompt_id=f"asap-{number}")
        for name, model in (("a", "tiny"), ("b", "lexical"))
        for number in (1, 2)
    }
    for space in spaces.values():
        helpers.keep(cache, helpers.ESSAY, space)
    asked = {**purge, "text": helpers.ESSAY} if purge.get("text") == "ESSAY" else purge
    assert cache.purge(**asked) == 4 - len(left)
    essay = cache.essay(helpers.ESSAY)
    assert {name for name, space in spaces.items() if cache.exact(essay, [space])} == left
    slip = cache.essay(helpers.SLIP)
    assert {name for name, space in spaces.items() if cache.near(slip, [space])} == left


def test_a_purged_models_proof_goes_with_it(
    store_settings: dict[str, Any], open_cache: OpenCache, helpers: Any
) -> None:
    cache = open_cache(**store_settings)
    helpers.keep(cache, helpers.ESSAY, helpers.space_in(cache))
    cache.verify([SAME] * MIN_GRADES + [CHANGED] * 12)
    cache.settle()
    assert cache.proof.state("d" * 64) == "alarm"
    cache.purge(model="tiny")
    assert cache.proof.state("d" * 64) == "proving"


def test_above_the_bound_the_longest_unused_essays_go(
    store_settings: dict[str, Any], open_cache: OpenCache, helpers: Any
) -> None:
    cache = open_cache(**store_settings, max_entries=5)
    space = helpers.space_in(cache)
    texts = [f"{helpers.ESSAY} Number {number} is mine, and {number} it stays." for number in range(8)]
    for text in texts[:5]:
        helpers.keep(cache, text, space)
    assert cache.exact(cache.essay(texts[0]), [space])
    cache.tend()
    for text in texts[5:]:
        helpers.keep(cache, text, space)
    cache.tend()
    there = [number for number, text in enumerate(texts) if cache.exact(cache.essay(text), [space])]
    assert there == [0, 4, 5, 6, 7]
    assert cache.entries == 5


def test_after_its_time_a_score_is_not_given_and_then_forgotten(
    store_settings: dict[str, Any], open_cache: OpenCache, helpers: Any
) -> None:
    cache = open_cache(**store_settings, ttl_s=0.2)
    space = helpers.space_in(cache)
    helpers.keep(cache, helpers.ESSAY, space)
    assert cache.exact(cache.essay(helpers.ESSAY), [space])
    time.sleep(0.25)
    assert cache.exact(cache.essay(helpers.ESSAY), [space]) == {}
    assert cache.near(cache.essay(helpers.SLIP), [space]) == {}
    cache.tend()
    assert cache.entries == 0


@pytest.mark.row(34)
@pytest.mark.parametrize("jump_s", [86_400.0, -86_400.0])
def test_a_clock_that_jumps_a_day_makes_no_age_wrong(
    jump_s: float,
    store_settings: dict[str, Any],
    open_cache: OpenCache,
    helpers: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = time.time
    cache = open_cache(**store_settings, ttl_s=3_600)
    space = helpers.space_in(cache)
    helpers.keep(cache, helpers.ESSAY, space)
    monkeypatch.setattr(time, "time", lambda: real() + jump_s)
    cache.tend()
    (found,) = cache.exact(cache.essay(helpers.ESSAY), [space]).values()
    assert 0 <= found.age_s < 10
    # Whoever starts with the wrong clock neither believes what seems old or from the future, nor keeps it for ever.
    later = open_cache(**store_settings, ttl_s=3_600)
    assert later.exact(later.essay(helpers.ESSAY), [helpers.space_in(later)]) == {}
    helpers.keep(later, helpers.SLIP, helpers.space_in(later))
    assert cache.exact(cache.essay(helpers.SLIP), [space]) == {}
    later.tend()
    monkeypatch.undo()
    cache.tend()
    assert cache.entries == 0


def test_a_clock_goes_on_evenly() -> None:
    clock = SteadyClock()
    first = clock.now()
    assert abs(first - time.time()) < 1
    time.sleep(0.01)
    assert 0.009 < clock.now() - first < 1


def test_two_caches_on_one_store_share_hits_and_purges(
    store_settings: dict[str, Any], open_cache: OpenCache, helpers: Any
) -> None:
    first, second = open_cache(**store_settings), open_cache(**store_settings)
    helpers.keep(first, helpers.ESSAY, helpers.space_in(first))
    assert second.exact(second.essay(helpers.ESSAY), [helpers.space_in(second)])
    second.purge(text=helpers.ESSAY)
    assert first.exact(first.essay(helpers.ESSAY), [helpers.space_in(first)]) == {}
    assert first.near(first.essay(helpers.SLIP), [helpers.space_in(first)]) == {}


def test_what_one_instance_verified_and_its_alarm_reach_the_other(
    store_settings: dict[str, Any], open_cache: OpenCache
) -> None:
    first, second = open_cache(**store_settings), open_cache(**store_settings)
    first.verify([SAME] * MIN_GRADES)
    first.settle()
    second.tend()
    assert second.proof.state("d" * 64) == "proved"
    second.verify([CHANGED] * 12)
    second.settle()
    first.tend()
    assert first.proof.state("d" * 64) == "alarm"


@pytest.mark.row(52)
def test_nothing_of_an_essay_is_in_what_the_store_keeps(open_cache: OpenCache, helpers: Any, tmp_path: Path) -> None:
    cache = open_cache()
    helpers.keep(cache, f"{helpers.ESSAY} My zebracanary sings.", helpers.space_in(cache))
    assert cache.near(cache.essay(f"{helpers.ESSAY} My zebracanary sang."), [helpers.space_in(cache)])
    cache.close()
    files = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert {"scores.db", "key"} <= {path.name for path in files}
    for path in files:
        content = path.read_bytes().lower()
        for word in (b"zebracanary", b"laboratory", b"chemistry", b"teachers"):
            assert word not in content


@pytest.mark.row(52)
def test_nothing_of_an_essay_is_in_the_database(postgres_url: str, open_cache: OpenCache, helpers: Any) -> None:
    import psycopg

    cache = open_cache(store=postgres_url)
    helpers.keep(cache, f"{helpers.ESSAY} My zebracanary sings.", helpers.space_in(cache))
    with psycopg.connect(postgres_url) as connection:
        for table in ("prints", "runs", "checks", "alarms", "cache_key"):
            rows = connection.execute(f"SELECT * FROM {table}".encode()).fetchall()
            assert table not in ("prints", "runs") or rows
            kept = b" ".join(
                value if isinstance(value, bytes) else str(value).encode() for row in rows for value in row
            )
            for word in (b"zebracanary", b"laboratory", b"chemistry", b"teachers"):
                assert word not in kept.lower()


def test_equal_words_of_two_essays_look_different_and_a_key_of_ones_own_is_used(
    open_cache: OpenCache, helpers: Any
) -> None:
    cache = open_cache()
    space = helpers.space_in(cache)
    for text in (helpers.ESSAY, helpers.SLIP):
        helpers.keep(cache, text, space)
    assert cache.store
    with cache.store.reading() as connection:
        first, second = (bytes(row[0]) for row in connection.run("SELECT words FROM prints"))
    pieces = [{words[place : place + 4] for place in range(0, len(words), 4)} for words in (first, second)]
    assert pieces[0].isdisjoint(pieces[1])
    other = open_cache(key="another key, long enough")
    assert other.exact(other.essay(helpers.ESSAY), [helpers.space_in(other)]) == {}
