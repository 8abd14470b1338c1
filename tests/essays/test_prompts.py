import pytest

from essays.errors import UnknownPrompt
from essays.prompts import all_prompts, get_prompt, prompts_of

# Range used for QWK and published agreement of the two raters (corpora's own documentation).
ASAP = {
    "asap-1": (2, 12, 0.721),
    "asap-2": (1, 6, 0.814),
    "asap-3": (0, 3, 0.769),
    "asap-4": (0, 3, 0.851),
    "asap-5": (0, 4, 0.753),
    "asap-6": (0, 4, 0.776),
    "asap-7": (0, 30, 0.721),
    "asap-8": (0, 60, 0.629),
}


def test_every_prompt_of_the_two_corpora_is_known_once():
    assert list(all_prompts()) == ["ellipse-overall", *ASAP]
    assert all(prompt.prompt_id == prompt_id for prompt_id, prompt in all_prompts().items())


@pytest.mark.parametrize("prompt_id", ASAP)
def test_asap_ranges_and_human_agreement_are_the_published_ones(prompt_id):
    prompt = get_prompt(prompt_id)
    score_range = prompt.score_range
    assert (score_range.low, score_range.high, prompt.human_qwk) == ASAP[prompt_id]
    assert score_range.step == 1


def test_ellipse_goes_from_one_to_five_in_halves_and_has_no_single_ratings():
    prompt = get_prompt("ellipse-overall")
    assert (prompt.score_range.low, prompt.score_range.high, prompt.score_range.step) == (1, 5, 0.5)
    assert prompt.human_qwk is None


def test_prompts_of_a_corpus_keep_the_files_order():
    assert [prompt.prompt_id for prompt in prompts_of(["asap-aes"])] == list(ASAP)
    assert [prompt.prompt_id for prompt in prompts_of(["ellipse"])] == ["ellipse-overall"]
    assert prompts_of([]) == []


def test_an_unknown_prompt_is_named_with_those_that_could_have_been_meant():
    with pytest.raises(UnknownPrompt, match=r"no prompt 'asap-9'; known: ellipse-overall, asap-1") as caught:
        get_prompt("asap-9")
    assert caught.value.field == "prompt_id"
    assert "GET /prompts" in caught.value.hint


def test_a_prompt_that_is_not_among_the_allowed_ones_is_unknown():
    with pytest.raises(UnknownPrompt, match=r"known: asap-2$"):
        get_prompt("asap-1", among=["asap-2"])
    assert get_prompt("asap-2", among=["asap-2"]).prompt_id == "asap-2"


def test_a_very_long_prompt_id_does_not_fill_the_message():
    with pytest.raises(UnknownPrompt) as caught:
        get_prompt("x" * 10_000)
    assert len(str(caught.value)) < 400
