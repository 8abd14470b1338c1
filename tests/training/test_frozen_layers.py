"""Frozen layers run once: halves are the whole, kept states are found again, learning ends in the whole model."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from training.batches import as_tensors, encode_part, split_fold
from training.fit import fit_fold
from training.fold_scores import read_fold_scores
from training.kept_states import StatesCollator, keep_states
from training.models import load_model
from training.start import start_model
from training.upper_layers import LowerLayers, UpperScorer, can_be_cut

PROMPTS = ("ellipse-overall", "asap-3")


@pytest.fixture
def started(configs):
    started = start_model(configs["encoder"], PROMPTS, [], seed=1)
    torch.manual_seed(2)
    nn.init.normal_(started.scorer.heads.weight)
    started.scorer.eval()
    return started


@pytest.fixture
def parts(corpus, started):
    sets = split_fold(corpus.essays, corpus.folds, 0)
    return {name: encode_part(part, started.encoder, list(PROMPTS), started.encoder_key) for name, part in sets.items()}


def batch(started, part, places=(0, 1, 2)):
    return as_tensors(started.encoder.collate([part.encoded[place] for place in places]))


@pytest.mark.parametrize("num_frozen", [0, 1, 2])
def test_halves_in_a_row_are_the_whole(started, parts, num_frozen: int) -> None:
    inputs = batch(started, parts["train"])
    with torch.inference_mode():
        states = LowerLayers(started.scorer, num_frozen)(inputs["input_ids"], inputs["attention_mask"])
        cut = UpperScorer(started.scorer, num_frozen)(
            states, inputs["attention_mask"], inputs["num_tokens"], inputs["prompt_index"]
        )
        assert cut.numpy() == pytest.approx(started.scorer(**inputs).numpy(), abs=1e-5)
    assert can_be_cut(started.scorer, num_frozen, inputs)


def test_halves_share_their_weights_with_the_whole_and_leave_it_whole(started) -> None:
    before = {name: id(weight) for name, weight in started.scorer.named_parameters()}
    upper, lower = UpperScorer(started.scorer, 1), LowerLayers(started.scorer, 1)
    assert {name: id(weight) for name, weight in started.scorer.named_parameters()} == before
    halves = {id(weight) for half in (upper, lower) for weight in half.parameters()}
    assert halves == set(before.values()) - {before["prompt_vectors"]}


def test_an_architecture_that_is_more_than_layers_in_a_row_is_not_cut(started, parts) -> None:
    """A norm above the last layer runs in both halves: the cut would not compute the same."""

    class Normed(nn.Module):
        def __init__(self, backbone: nn.Module) -> None:
            super().__init__()
            self.inner, self.embeddings = backbone, nn.Identity()

        def get_input_embeddings(self):
            return self.inner.get_input_embeddings()

        def forward(self, **inputs):
            found = self.inner(**inputs)
            found.last_hidden_state = 2 * found.last_hidden_state
            return found

    inputs = batch(started, parts["train"])
    started.scorer.backbone = Normed(started.scorer.backbone)
    assert not can_be_cut(started.scorer, 1, inputs)


def test_kept_states_are_those_of_the_layers_and_computed_once(started, parts, tmp_path: Path) -> None:
    lower = LowerLayers(started.scorer, 1)
    kept = keep_states(lower, started.encoder, parts, tmp_path)
    arrays = StatesCollator().collate(kept["dev"].encoded[:3])
    inputs = batch(started, parts["dev"])
    with torch.inference_mode():
        states = lower(inputs["input_ids"], inputs["attention_mask"]).numpy()
    real = inputs["attention_mask"].numpy() == 1
    assert np.array_equal(arrays["attention_mask"], inputs["attention_mask"].numpy())
    assert arrays["states"][real] == pytest.approx(states[real], abs=2e-3)
    assert not arrays["states"][~real].any()
    (file,) = tmp_path.iterdir()
    written = file.stat().st_mtime_ns
    again = keep_states(lower, started.encoder, {"dev": parts["test"], "test": parts["dev"], **parts}, tmp_path)
    assert np.array_equal(again["train"].encoded[0].arrays["states"], kept["train"].encoded[0].arrays["states"])
    assert [path.stat().st_mtime_ns for path in tmp_path.iterdir()] == [written]


def test_other_weights_or_texts_give_another_file(started, parts, tmp_path: Path) -> None:
    keep_states(LowerLayers(started.scorer, 1), started.encoder, parts, tmp_path)
    keep_states(LowerLayers(started.scorer, 2), started.encoder, parts, tmp_path)
    keep_states(LowerLayers(started.scorer, 2), started.encoder, {"dev": parts["dev"]}, tmp_path)
    assert len(list(tmp_path.iterdir())) == 3


def test_a_run_with_frozen_layers_ends_in_a_whole_model_whose_lower_layers_are_as_they_came(
    configs, corpus, tmp_path: Path
) -> None:
    config = configs["encoder"].model_copy(update={"frozen_layers": 1})
    out = tmp_path / "fold-0"
    history = fit_fold(config, corpus.essays, corpus.folds, 0, 7, out, out, tmp_path / "checkpoints")
    model, scores = load_model(out), read_fold_scores(out / "scores.parquet")
    fresh = start_model(config, PROMPTS, [], seed=7).scorer.state_dict()
    learned = model.module.state_dict()
    moved = {name for name in fresh if not torch.equal(fresh[name], learned[name])}
    assert {name.split(".layer.")[1][0] for name in moved if ".layer." in name} == {"1"}
    assert not any("embeddings" in name for name in moved)
    assert max(row.dev_qwk for row in history) > 0.5
    texts = dict(zip(corpus.essays["essay_id"], corpus.essays["text"], strict=True))
    for place in range(3):
        encoded = model.encoder.encode(
            texts[scores.essay_ids[place]], model.spec.prompt_index(scores.prompt_ids[place])
        )
        with torch.inference_mode():
            raw = model.module(**as_tensors(model.encoder.collate([encoded])))
        assert float(raw[0]) == pytest.approx(scores.raw_unit_scores[place], abs=1e-5)
