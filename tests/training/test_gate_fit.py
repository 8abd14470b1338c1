"""A gate fitted on made-up essays of three prompts, and its report."""

import random
from pathlib import Path

import pytest

from data.rows import Essay
from essays.errors import StageFailed
from essays.gate import Gate
from essays.gate_profile import GateProfile, read_gate_profile, write_gate_profile
from training.gate_fit import GateConfig, fit_gate, read_essay
from training.gate_report import GateEvaluator, gate_page, gate_tree, train_head

TOPICS = {
    "asap-1": ["computer", "screen", "keyboard", "internet", "website", "email", "laptop", "program", "video", "mouse"],
    "asap-2": ["library", "shelf", "novel", "author", "censor", "reader", "magazine", "librarian", "chapter", "volume"],
    "asap-7": ["patience", "waiting", "line", "doctor", "summer", "grandma", "bakery", "queue", "holiday", "traffic"],
}
FRAMES = (
    "I think that the {0} is very good for us because we can use it with a {1}.",
    "My friend said that she did not like the {0} when it was in the {1}.",
    "There are many people who want to have a {0} and they will not take the {1} away.",
    "If you see the {0} then you should look at the {1} before you go.",
    "We all know what the {0} is, but it is not the same as a {1}.",
    "So I would say that every {0} should be next to some {1} and not under it.",
)
CONFIG = GateConfig(false_alarms=0.005, num_essays=12, seed=3)
TASKS = {"asap-1": "Write a letter in which you tell the newspaper how the computer and the internet change us. " * 2}


def made_up(place: int, prompt_id: str) -> Essay:
    rng = random.Random(f"{prompt_id}:{place}")
    text = " ".join(rng.choice(FRAMES).format(*rng.sample(TOPICS[prompt_id], 2)) for _ in range(rng.randint(5, 9)))
    return Essay(f"{prompt_id}-{place}", "asap-aes", prompt_id, text, float(rng.randint(2, 6)), prompt_id)


@pytest.fixture(scope="module")
def essays() -> list[Essay]:
    return [made_up(place, prompt_id) for prompt_id in TOPICS for place in range(80)]


@pytest.fixture(scope="module")
def profile(essays: list[Essay]) -> GateProfile:
    return fit_gate([read_essay(e.prompt_id, e.text) for e in essays if int(e.essay_id[7:]) < 60], TASKS, CONFIG)


def test_new_essays_pass_on_their_prompt_and_not_on_another(essays: list[Essay], profile: GateProfile) -> None:
    gate = Gate([profile])
    new = [essay for essay in essays if int(essay.essay_id[7:]) >= 60]
    own = [gate.findings(essay.text, essay.prompt_id) for essay in new]
    assert sum(bool(found) for found in own) <= 0.1 * len(new)
    others = [(essay, other) for essay in new for other in TOPICS if other != essay.prompt_id]
    missed = [1 for essay, other in others if "off_topic" not in {f.reason for f in gate.findings(essay.text, other)}]
    assert len(missed) <= 0.05 * len(others)


def test_the_profile_is_the_same_again_and_after_a_file_and_holds_no_word(
    essays: list[Essay], profile: GateProfile, tmp_path: Path
) -> None:
    again = fit_gate([read_essay(e.prompt_id, e.text) for e in essays if int(e.essay_id[7:]) < 60], TASKS, CONFIG)
    assert again == profile
    write_gate_profile(profile, tmp_path / "gate.json")
    assert read_gate_profile(tmp_path / "gate.json") == profile
    written = (tmp_path / "gate.json").read_text()
    assert not any(word in written for words in TOPICS.values() for word in words)


def test_a_prompt_whose_essays_are_all_too_short_is_named(essays: list[Essay]) -> None:
    short = [read_essay("asap-3", "We all know what it is.")] * 4
    with pytest.raises(StageFailed, match="asap-3: no training essay has 21 words"):
        fit_gate([*short, *(read_essay(essay.prompt_id, essay.text) for essay in essays)], {}, CONFIG)


def test_a_prompt_alone_has_no_topic_to_miss(essays: list[Essay]) -> None:
    alone = [read_essay(essay.prompt_id, essay.text) for essay in essays if essay.prompt_id == "asap-2"]
    (part,) = fit_gate(alone, {}, CONFIG).prompts
    assert (part.topic, part.least_topic, part.task, part.most_copied) == (None, None, None, 1.0)


def test_the_report_measures_every_reason_and_finds_what_was_made_for_it(
    essays: list[Essay], profile: GateProfile
) -> None:
    test = [essay for essay in essays if int(essay.essay_id[7:]) >= 60]
    evaluator = GateEvaluator(profile, test, TASKS, CONFIG.num_essays, CONFIG.seed)
    rows = {row.reason: row for row in evaluator.rows("asap-1")}
    assert set(rows) == {
        "too_short", "language", "gibberish", "repetitive", "off_topic", "copied_prompt", "injection", "near_duplicate",
    }  # fmt: skip
    for reason in ("language", "repetitive", "off_topic", "copied_prompt", "injection"):
        assert rows[reason].recall >= 0.9, reason
    assert "copied_prompt" not in {row.reason for row in evaluator.rows("asap-2")}
    head = train_head([read_essay(essay.prompt_id, essay.text) for essay in essays])
    unseen = evaluator.unseen_topic("asap-1", head)
    assert unseen
    assert 0 <= unseen.worst <= unseen.recall <= 1
    page = gate_page(list(rows.values()), [unseen], evaluator.time(), 0)
    assert "| asap-1 |" in page
    tree = gate_tree(list(rows.values()), [unseen], None, 0)
    assert tree["rows"][0]["prompt_id"] == "asap-1"
    text = str(tree) + page
    assert not any(essay.text[:60] in text for essay in essays)
