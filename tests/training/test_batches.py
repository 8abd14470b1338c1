"""Parts and batches: every essay once, like with like, the same order for the same seed and epoch."""

import numpy as np
import pytest

from essays.encoding import NgramEncoder, NgramEncoding
from essays.errors import StageFailed
from training.batches import Batches, batches_by_length, batches_of_epoch, encode_part, split_fold
from training.module import Legs
from training.start import start_model

LENGTHS = np.random.default_rng(1).integers(20, 500, size=203)
PROMPTS = ("ellipse-overall", "asap-3")


def test_every_essay_is_in_one_batch() -> None:
    for batches in (batches_of_epoch(LENGTHS, 16, seed=1, epoch=0), batches_by_length(LENGTHS, 16)):
        assert sorted(np.concatenate(batches).tolist()) == list(range(203))
        assert max(map(len, batches)) == 16


def test_batches_hold_essays_of_like_length() -> None:
    def padding(batches: list) -> int:
        return sum(int((LENGTHS[batch].max() - LENGTHS[batch]).sum()) for batch in batches)

    as_they_come = [np.arange(203)[start : start + 16] for start in range(0, 203, 16)]
    assert padding(batches_of_epoch(LENGTHS, 16, seed=1, epoch=0)) < padding(as_they_come) / 3
    assert padding(batches_by_length(LENGTHS, 16)) < padding(batches_of_epoch(LENGTHS, 16, seed=1, epoch=0))


def test_order_follows_from_seed_and_epoch() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        return np.concatenate(batches_of_epoch(LENGTHS, 16, seed, epoch)).tolist()

    assert order(1, 0) == order(1, 0)
    assert order(1, 0) != order(1, 1)
    assert order(1, 0) != order(2, 0)


def test_short_batches_come_at_any_time() -> None:
    """Batches sorted by length must not be learned from in that order."""
    means = [LENGTHS[batch].mean() for batch in batches_of_epoch(LENGTHS, 16, seed=1, epoch=0)]
    assert means != sorted(means)


def test_legs_of_an_epoch_make_up_the_epoch(configs, corpus) -> None:
    started = start_model(configs["encoder"], PROMPTS, [], seed=1)
    train = encode_part(split_fold(corpus.essays, corpus.folds, 0)["train"], started.encoder, PROMPTS, "key")
    legs = Legs(Batches(train, started.encoder, ()), configs["encoder"], seed=5)
    assert legs.per_epoch > 1
    for epoch in range(2):
        places = [legs.batches_of(epoch * legs.per_epoch + part).places for part in range(legs.per_epoch)]
        assert all(len(part) <= configs["encoder"].checkpoint_every_steps for part in places)
        joined = [batch.tolist() for part in places for batch in part]
        expected = batches_of_epoch(train.lengths, configs["encoder"].batch_size, 5, epoch)
        assert joined == [batch.tolist() for batch in expected]


def test_cached_encoding_equals_a_fresh_one(configs, corpus) -> None:
    started = start_model(configs["encoder"], PROMPTS, [], seed=1)
    dev = split_fold(corpus.essays, corpus.folds, 0)["dev"]
    first = encode_part(dev, started.encoder, PROMPTS, started.encoder_key)
    again = encode_part(dev, started.encoder, PROMPTS, started.encoder_key)
    for encoded, twice, text, prompt in zip(first.encoded, again.encoded, dev["text"], dev["prompt_id"], strict=True):
        fresh = started.encoder.encode(text, PROMPTS.index(prompt))
        for one in (encoded, twice):
            assert one.tokens_used == fresh.tokens_used
            assert one.truncated == fresh.truncated
            for name, array in fresh.arrays.items():
                assert np.array_equal(one.arrays[name], array)
                assert one.arrays[name].dtype == array.dtype


def test_another_encoder_is_not_served_from_the_cache(configs, corpus) -> None:
    dev = split_fold(corpus.essays, corpus.folds, 0)["dev"]
    lengths = []
    for head in (24, 10):
        started = start_model(configs["encoder"].model_copy(update={"head_tokens": head}), PROMPTS, [], seed=1)
        lengths.append(encode_part(dev, started.encoder, PROMPTS, started.encoder_key).lengths.max())
    assert lengths == [32, 18]


def test_scores_become_unit_scores_of_their_prompt(corpus) -> None:
    encoder = NgramEncoder(NgramEncoding(shortest=1, longest=2, num_buckets=64))
    part = encode_part(split_fold(corpus.essays, corpus.folds, 0)["train"], encoder, PROMPTS, "key")
    for prompt_id, human, unit in zip(part.prompt_ids, part.human_scores, part.unit_scores, strict=True):
        expected = (human - 1) / 4 if prompt_id == "ellipse-overall" else human / 3
        assert unit == pytest.approx(expected, abs=1e-6)


def test_essay_without_a_part_is_named(corpus) -> None:
    folds = corpus.folds
    with pytest.raises(StageFailed, match="fold 0 has no part for 1 essays, made-0 first"):
        split_fold(corpus.essays, folds.slice(1), 0)
