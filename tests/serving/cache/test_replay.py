"""The replay of `make bench-cache` on the small models: what it counts, and that no text is in it."""

import json
from pathlib import Path

from benchmarks.cache.replay import Replay
from benchmarks.cache.served import open_desk
from benchmarks.speed.chosen import ChosenEssay
from serving.catalogue import LocalArtifact

PROMPT = "ellipse-overall"


def essay(number: int) -> ChosenEssay:
    sentences = [
        f"Pupil{number} wrote sentence{number * 7 + place} about the school and a teacher." for place in range(9)
    ]
    return ChosenEssay(f"essay-{number}", PROMPT, 0, " ".join(sentences))


def test_a_replay_counts_hits_by_variant_and_changes_of_grades(artifacts: list[LocalArtifact], tmp_path: Path) -> None:
    desk = open_desk(artifacts, remembers=True, folder=tmp_path / "cache", verified_share=0.0)
    report = Replay(desk, [essay(1), essay(2)], [essay(number) for number in range(3, 6)]).run()
    desk.close()
    assert report["kept_essays"] == 2
    for model in ("lexical", "tiny", "ensemble"):
        found = report["fairmark"][model]
        assert found["exact"]["grade_changed"] == 0
        assert found["variants"]["same"] == {"asked": 2, "exact": 2, "changed": {"exact": 0}}
        assert found["variants"]["other_layout"]["exact"] == 2
        if model != "tiny":
            # The tiny model knows eleven words, so that other essays are truly the same to it.
            assert set(found["never_answered"].values()) == {0}
        assert report["proof"][model]["state"] == "proving"
        assert found["near"]["answered"] == 0
        *aims, guard_alone = report["frontier"][model]
        assert {point["hit_rate"] for point in aims} == {0.0}
        assert guard_alone["hit_rate"] == 1.0
    assert "Pupil" not in json.dumps(report)
