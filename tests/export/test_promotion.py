import hashlib

import pytest

from essays.errors import StageFailed
from essays.manifest import PromptMetrics
from essays.registry import Champion, ChampionPointer, bundle_key, champion_key, find_champion, move_champion
from essays.settings import StoreSettings
from essays.store import open_store
from export.config import PublishConfig
from export.promotion import find_champions, is_published, objections, promote, review

CONFIG = PublishConfig(max_qwk_loss=0.01, max_prompt_loss=0.03, max_growth=0.1)
BUNDLE = b"1"
BUNDLE_SHA256 = hashlib.sha256(BUNDLE).hexdigest()


def pointer(name="lexical", version="1", qwks=None, size_bytes=1000, half_width=0.05, **more) -> ChampionPointer:
    version = version * 12
    metrics = tuple(
        PromptMetrics(prompt_id=prompt_id, num_essays=500, qwk=qwk, qwk_interval=(qwk - half_width, qwk + half_width))
        for prompt_id, qwk in (qwks or {"asap-1": 0.70, "asap-2": 0.60}).items()
    )
    return ChampionPointer(
        name=name,
        version=version,
        sha256=version[0] * 64,
        size_bytes=size_bytes,
        key=bundle_key(name, version),
        metrics=metrics,
        **more,
    )


@pytest.fixture
def store(tmp_path):
    return open_store(StoreSettings(url=tmp_path.as_uri()))


@pytest.mark.parametrize(
    ("challenger", "said"),
    [
        (pointer(), None),
        (pointer(qwks={"asap-1": 0.75, "asap-2": 0.60}), None),
        # One prompt a little worse, another better: the mean holds.
        (pointer(qwks={"asap-1": 0.72, "asap-2": 0.571}), None),
        (pointer(qwks={"asap-1": 0.80, "asap-2": 0.56}), "QWK on asap-2 is 0.560, the champion's 0.600"),
        (pointer(qwks={"asap-1": 0.68, "asap-2": 0.58}), "lower bound is 0.580, the champion's 0.600"),
        # The same QWK on too few essays to be sure of it.
        (pointer(half_width=0.08), "lower bound"),
        (pointer(size_bytes=1100), None),
        (pointer(size_bytes=1101), "1,101 bytes, the champion's 1,000"),
        (pointer(qwks={"asap-1": 0.70}), "no longer scores asap-2"),
        (pointer(qwks={"asap-1": 0.70, "asap-2": 0.60, "asap-3": 0.1}), None),
    ],
)
def test_the_gate_lets_pass_what_is_as_good_and_says_what_is_not(challenger, said):
    found = objections(challenger, pointer(), CONFIG)
    assert len(found) == (said is not None)
    assert (said or "") in " ".join(found)


def test_a_version_that_was_not_measured_is_no_version_that_lost_its_prompts():
    champion = pointer(prompt_ids=("asap-1", "asap-2"))
    found = objections(pointer(qwks={"asap-1": 0.70}, prompt_ids=("asap-1", "asap-2")), champion, CONFIG)
    assert found == ["QWK on asap-2 was not measured, the champion's is 0.600"]
    # Nobody has a number for asap-3, but the champion scores it.
    wider = pointer(prompt_ids=("asap-1", "asap-2", "asap-3"))
    assert objections(pointer(prompt_ids=("asap-1", "asap-2")), wider, CONFIG) == ["no longer scores asap-3"]
    assert objections(wider, champion, CONFIG) == []


def test_a_behaviour_that_the_champion_holds_must_not_be_lost():
    champion = pointer(behaviours={"typos 1 %: within half a step": True, "song inserted: no rise": False})
    lost = pointer(behaviours={"typos 1 %: within half a step": False, "song inserted: no rise": False})
    (said,) = objections(lost, champion, CONFIG)
    assert "no longer holds 'typos 1 %: within half a step'" in said
    gained = pointer(behaviours={"typos 1 %: within half a step": True, "song inserted: no rise": True})
    assert objections(gained, champion, CONFIG) == []
    # A model without a test part was not measured, and an older champion neither.
    assert objections(pointer(), champion, CONFIG) == []
    assert objections(lost, pointer(), CONFIG) == []


def test_every_objection_is_named_with_its_model():
    worse = [pointer("lexical", "2", {"asap-1": 0.1, "asap-2": 0.1}), pointer("lstm", "2", size_bytes=9000)]
    champions = {each.name: as_champion(pointer(each.name)) for each in worse}
    found = review(worse, champions, CONFIG)
    assert [text.split(":")[0] for text in found] == ["lexical", "lexical", "lexical", "lstm"]


def test_a_first_version_and_the_champion_itself_meet_no_objection():
    assert review([pointer()], {"lexical": None}, CONFIG) == []
    # An override once let it pass: asking again must not refuse what is served already.
    assert review([pointer(size_bytes=9000)], {"lexical": as_champion(pointer())}, CONFIG) == []


def test_a_set_moves_whole_and_the_second_time_not_at_all(store):
    old, new = [pointer(name) for name in ("lexical", "ensemble")], [pointer(n, "2") for n in ("lexical", "ensemble")]
    assert promote(store, old, find_champions(store, ["lexical", "ensemble"])) == old
    assert promote(store, new, find_champions(store, ["lexical", "ensemble"])) == new
    assert promote(store, new, find_champions(store, ["lexical", "ensemble"])) == []
    assert [find_champion(store, each.name).pointer for each in new] == new


def test_when_one_of_a_set_does_not_move_the_others_go_back(store):
    names = ("lexical", "lstm", "ensemble")
    promote(store, [pointer(name) for name in names], find_champions(store, names))
    seen = find_champions(store, names)
    rival = move_champion(store, pointer("ensemble", "3"), replacing=seen["ensemble"])
    with pytest.raises(StageFailed, match="champions stay as they were"):
        promote(store, [pointer(name, "2") for name in names], seen)
    assert [find_champion(store, name).pointer.version[0] for name in names] == ["1", "1", "3"]
    assert find_champion(store, "ensemble") == rival


def test_a_store_is_whole_only_with_every_bundle_and_an_ensemble_of_its_champions(store, tmp_path):
    (tmp_path / "bundle").write_bytes(BUNDLE)
    single, ensemble = stored(pointer("lexical")), stored(pointer("ensemble", members={"lexical": "1" * 12}))
    assert not is_published(store, [single, ensemble])
    for each in (single, ensemble):
        store.upload(tmp_path / "bundle", each.key, BUNDLE_SHA256)
    assert not is_published(store, [single, ensemble])
    promote(store, [single, ensemble], find_champions(store, ["lexical", "ensemble"]))
    assert is_published(store, [single, ensemble])

    newer = stored(pointer("lexical", "2"))
    assert not is_published(store, [newer, ensemble])
    store.upload(tmp_path / "bundle", newer.key, BUNDLE_SHA256)
    assert is_published(store, [newer, ensemble])
    # A publisher that was killed between two moves.
    promote(store, [newer], find_champions(store, ["lexical"]))
    assert not is_published(store, [newer, ensemble])


def test_a_store_whose_champions_bundle_was_deleted_is_not_whole(store, tmp_path):
    (tmp_path / "bundle").write_bytes(BUNDLE)
    lost, here = stored(pointer("lexical")), stored(pointer("lexical", "2"))
    promote(store, [lost], {"lexical": None})
    store.upload(tmp_path / "bundle", here.key, BUNDLE_SHA256)
    assert store.exists(champion_key("lexical"))
    assert not is_published(store, [here])


def as_champion(of: ChampionPointer) -> Champion:
    return Champion(of, etag="any")


def stored(of: ChampionPointer) -> ChampionPointer:
    """With the digest and size of `BUNDLE`."""
    return of.model_copy(update={"sha256": BUNDLE_SHA256, "size_bytes": len(BUNDLE)})
