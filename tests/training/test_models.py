"""Every kind of model: the same score alone, in a batch, and padded; saved and loaded without a change."""

from pathlib import Path

import numpy as np
import pytest
import torch

from essays.errors import StageFailed
from tests.planted_trees import plant_trees
from training.batches import as_tensors
from training.config import TrainConfig
from training.models import LoadedModel, load_model, save_model
from training.models.parts import TargetScale, masked_mean
from training.start import finished_model, start_model

KINDS = ("lexical", "trees", "lstm", "encoder", "probe", "decoder")
PROMPTS = ("ellipse-overall", "asap-3")
COUNTS = ("bucket_weights", "known_buckets")
TEXTS = (
    "Good dog.",
    "However, we like school because it suggests remarkable improvement every day.",
    "He is good and i like it. " * 12,
)


@pytest.fixture(scope="session", params=KINDS)
def model(
    request: pytest.FixtureRequest, configs: dict[str, TrainConfig], tmp_path_factory: pytest.TempPathFactory
) -> LoadedModel:
    """A model of each kind with weights that matter everywhere, as it comes from its folder."""
    folder = tmp_path_factory.mktemp(request.param)
    started = start_model(configs[request.param], PROMPTS, TEXTS, seed=1)
    torch.manual_seed(2)
    for name, value in started.scorer.state_dict().items():
        if value.is_floating_point() and not value.any():
            value.copy_(torch.randn_like(value).abs() if name in COUNTS else torch.randn_like(value))
    if request.param == "lexical":
        # What `training.lexical` leaves: nothing at the padding's row.
        started.scorer.bucket_weights[0] = 0
        started.scorer.ngram_weights[: len(PROMPTS)] = 0
    if request.param == "trees":
        plant_trees(started.scorer, torch.Generator().manual_seed(3))
    started = finished_model(started, configs[request.param])
    save_model(started.scorer, started.spec, folder, started.tokenizer)
    return load_model(folder)


def score(model: LoadedModel, essays: list[tuple[str, int]]) -> np.ndarray:
    arrays = model.encoder.collate([model.encoder.encode(text, prompt) for text, prompt in essays])
    with torch.inference_mode():
        return model.module(**as_tensors(arrays)).numpy()


def test_score_does_not_depend_on_neighbours_or_padding(model: LoadedModel) -> None:
    essays = [(text, index % 2) for index, text in enumerate(TEXTS)]
    together = score(model, essays)
    alone = np.concatenate([score(model, [essay]) for essay in essays])
    reordered = score(model, essays[::-1])[::-1]
    assert together.dtype == np.float32
    assert together.shape == (3,)
    assert together == pytest.approx(alone, abs=1e-5)
    assert together == pytest.approx(reordered, abs=1e-5)


def test_essays_and_prompts_make_a_difference(model: LoadedModel) -> None:
    first, second, other_prompt = score(model, [(TEXTS[0], 0), (TEXTS[1], 0), (TEXTS[1], 1)])
    assert abs(first - second) > 1e-3
    assert abs(second - other_prompt) > 1e-3


@pytest.mark.parametrize("model", ["lstm", "encoder", "decoder"], indirect=True)
def test_values_of_padding_do_not_matter(model: LoadedModel) -> None:
    """Whatever id fills a row, what the mask hides is not read. N-grams know no mask: row 0 is their padding."""
    arrays = as_tensors(model.encoder.collate([model.encoder.encode(text, 0) for text in TEXTS]))
    with torch.inference_mode():
        before = model.module(**arrays)
        arrays["input_ids"] = torch.where(arrays["attention_mask"] == 0, 5, arrays["input_ids"])
        after = model.module(**arrays)
    assert after.numpy() == pytest.approx(before.numpy(), abs=1e-5)


def test_loaded_model_is_in_eval_mode(model: LoadedModel) -> None:
    assert not any(part.training for part in model.module.modules())


def test_folder_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(StageFailed, match=r"model\.json: missing; train the model first"):
        load_model(tmp_path)


def test_weights_of_another_shape_are_refused(
    configs: dict[str, TrainConfig], tmp_path: Path, tiny_vectors: Path
) -> None:
    narrow = start_model(configs["lstm"], PROMPTS, TEXTS, seed=1)
    wide = start_model(configs["lstm"].model_copy(update={"hidden_size": 20}), PROMPTS, TEXTS, seed=1)
    save_model(narrow.scorer, wide.spec, tmp_path, narrow.tokenizer)
    with pytest.raises(StageFailed, match=r"model\.safetensors: not the weights that model\.json describes"):
        load_model(tmp_path)


def test_masked_mean_counts_real_tokens_alone() -> None:
    states = torch.tensor([[[1.0], [3.0], [100.0]], [[2.0], [100.0], [100.0]]])
    mask = torch.tensor([[1, 1, 0], [1, 0, 0]])
    assert masked_mean(states, mask).tolist() == [[2.0], [2.0]]


def test_target_scale_goes_both_ways() -> None:
    scale = TargetScale(2)
    scale.mean.copy_(torch.tensor([0.5, 0.25]))
    scale.deviation.copy_(torch.tensor([0.1, 0.2]))
    prompts, unit = torch.tensor([0, 1]), torch.tensor([0.6, 0.05])
    assert scale.standardize(unit, prompts).tolist() == pytest.approx([1.0, -1.0])
    assert scale(scale.standardize(unit, prompts), prompts).tolist() == pytest.approx(unit.tolist())
