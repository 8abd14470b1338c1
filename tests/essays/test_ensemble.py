import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from essays.ensemble import EnsembleWeights, PromptWeights, mix_unit_scores, read_weights, write_weights
from essays.errors import UnknownPrompt

WEIGHTS = EnsembleWeights(
    prompts=(
        PromptWeights(prompt_id="asap-1", weights={"lexical": 0.25, "minilm": 0.75}),
        PromptWeights(prompt_id="asap-2", weights={"lexical": 0.0, "minilm": 1.0}),
    )
)


def test_mix_is_the_weighted_sum_of_each_essay():
    mixed = mix_unit_scores(WEIGHTS.of("asap-1"), {"lexical": [0.4, 0.0], "minilm": [0.8, 1.0]})
    assert mixed == pytest.approx([0.7, 0.75])
    assert mix_unit_scores(WEIGHTS.of("asap-1"), {"lexical": 0.4, "minilm": 0.8}) == pytest.approx(0.7)


def test_the_order_of_members_does_not_change_a_bit():
    scores = {"a": [0.1], "b": [0.2], "c": [0.7]}
    weights = {"a": 0.1, "b": 0.6, "c": 0.3}
    turned = mix_unit_scores(dict(reversed(weights.items())), dict(reversed(scores.items())))
    assert turned.tobytes() == mix_unit_scores(weights, scores).tobytes()


@given(st.lists(st.floats(0, 1), min_size=3, max_size=3), st.lists(st.floats(0.01, 1), min_size=3, max_size=3))
def test_mix_lies_between_its_members(scores, parts):
    weights = {str(index): part / sum(parts) for index, part in enumerate(parts)}
    mixed = float(mix_unit_scores(weights, {str(index): score for index, score in enumerate(scores)}))
    assert min(scores) - 1e-12 <= mixed <= max(scores) + 1e-12


def test_a_member_of_no_weight_may_be_missing_and_one_of_weight_may_not():
    assert mix_unit_scores(WEIGHTS.of("asap-2"), {"minilm": [0.5]}) == pytest.approx([0.5])
    with pytest.raises(ValueError, match=r"no score of \['lexical'\]"):
        mix_unit_scores(WEIGHTS.of("asap-1"), {"minilm": [0.5]})


def test_a_score_that_has_no_weight_is_refused():
    with pytest.raises(ValueError, match=r"no weight of \['lstm'\]"):
        mix_unit_scores(WEIGHTS.of("asap-2"), {"minilm": [0.5], "lstm": [0.5]})


@pytest.mark.parametrize("weights", [{"a": 0.5, "b": 0.4}, {"a": -0.1, "b": 1.1}, {}])
def test_weights_that_are_no_shares_are_refused(weights):
    with pytest.raises(ValidationError):
        PromptWeights(prompt_id="asap-1", weights=weights)


def test_weights_are_read_as_they_were_written(tmp_path):
    write_weights(WEIGHTS, tmp_path / "fold-0" / "weights.json")
    assert read_weights(tmp_path / "fold-0" / "weights.json") == WEIGHTS


def test_unknown_prompts_are_named_with_those_there_are():
    with pytest.raises(UnknownPrompt, match="no weights for prompt 'asap-9'; known: asap-1, asap-2"):
        WEIGHTS.of("asap-9")


def test_mixing_leaves_the_members_scores_alone():
    scores = np.array([0.4, 0.6])
    mix_unit_scores({"a": 1.0}, {"a": scores})
    assert scores.tolist() == [0.4, 0.6]
