"""The heads' last step: ridge around what was learned, the penalty by dev."""

import numpy as np
import pytest
import torch

from training.batches import Batches, batches_by_length, encode_part, split_fold
from training.refit import best_change, pooled_states, refit_heads
from training.start import start_model

PROMPTS = ("ellipse-overall", "asap-3")


def data(seed: int, size: int, noise: float = 0.1):
    random = np.random.default_rng(seed)
    states = random.normal(2.0, 1.0, size=(size, 5))
    return states, states @ np.array([1.0, -2, 0, 0, 0.5]) + 3 + random.normal(0, noise, size)


def test_change_explains_what_is_left() -> None:
    (train, errors), (dev, dev_errors) = data(1, 300), data(2, 100)
    change, shift = best_change(train, errors, dev, dev_errors, (1e-6, 1.0))
    assert change == pytest.approx([1, -2, 0, 0, 0.5], abs=0.05)
    assert np.square(dev @ change + shift - dev_errors).mean() < 0.02


def test_noise_leaves_the_head_as_it_is() -> None:
    random = np.random.default_rng(3)
    train, dev = random.normal(size=(20, 15)), random.normal(size=(500, 15))
    change, shift = best_change(train, random.normal(size=20), dev, np.zeros(500), (1e-6,))
    assert not change.any()
    assert shift == 0.0


def test_a_larger_penalty_changes_less() -> None:
    (train, errors), (dev, dev_errors) = data(1, 300), data(2, 100)
    little, _ = best_change(train, errors, dev, dev_errors, (3.0,))
    much, _ = best_change(train, errors, dev, dev_errors, (0.1,))
    assert np.linalg.norm(little) < np.linalg.norm(much)


@pytest.fixture
def scorer_and_batches(corpus, configs):
    started = start_model(configs["encoder"], PROMPTS, [], seed=1)
    sets = split_fold(corpus.essays, corpus.folds, 0)
    batches = {}
    for name in ("train", "dev"):
        part = encode_part(sets[name], started.encoder, list(PROMPTS), started.encoder_key)
        batches[name] = Batches(part, started.encoder, batches_by_length(part.lengths, 4))
    return started.scorer, batches["train"], batches["dev"]


def test_pooled_states_come_in_the_parts_order(scorer_and_batches) -> None:
    scorer, train, _ = scorer_and_batches
    single = Batches(train.part, train.collator, [np.array([index]) for index in range(len(train.part))])
    assert pooled_states(scorer, train) == pytest.approx(pooled_states(scorer, single), abs=1e-5)


def test_heads_of_each_prompt_get_better_on_dev_and_no_penalty_changes_nothing(scorer_and_batches) -> None:
    scorer, train, dev = scorer_and_batches
    before = scorer.heads.weight.detach().clone()
    refit_heads(scorer, train, dev, ())
    assert torch.equal(scorer.heads.weight, before)
    errors = dev_errors(scorer, dev)
    refit_heads(scorer, train, dev, (0.1, 10.0))
    assert (dev_errors(scorer, dev) < 0.9 * errors).all()


def dev_errors(scorer, dev) -> np.ndarray:
    prompts, states = dev.part.prompt_index(), pooled_states(scorer, dev)
    with torch.inference_mode():
        raw = scorer.scored(torch.from_numpy(states), torch.from_numpy(prompts)).numpy()
    return np.array([np.square(raw - dev.part.unit_scores)[prompts == prompt].mean() for prompt in range(2)])
