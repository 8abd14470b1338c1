"""A trained model's traits: heads on its pooled states, their scores of dev and test, and what those are worth.

Brings together what fits (`training.trait_fit`), measures (`training.traits`) and keeps (`training.trait_files`).
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray

from data.refit import is_refit
from essays.console import say
from essays.encoding import TOKENIZER_FILE
from essays.errors import StageFailed
from training.batches import Batches, batches_by_length, encode_part
from training.fold_scores import (
    SCORES_FILE,
    FoldScores,
    model_folder,
    read_fold_scores,
    scores_folder,
    write_fold_scores,
)
from training.models import LoadedModel, load_model
from training.models.scorer import TokenScorer
from training.refit import pooled_states
from training.trait_files import ModelTraits, trait_scores_file
from training.trait_fit import fit_heads
from training.trait_heads import save_heads
from training.traits import TraitEssays, TraitEvaluator, TraitSettings

_BATCH = 16


def fit_model_traits(
    model: str, data: TraitEssays, essays: Dataset, settings: TraitSettings, folder: Path
) -> ModelTraits:
    """Fit heads on train, choose and calibrate on dev, measure on test; heads and scores are left in `folder`.

    `essays` holds the texts of all essays of `data`. Raises StageFailed for a kind of model that makes no such states.
    """
    fold = settings.fold
    source = model_folder(model, fold)
    loaded = load_model(source)
    if not isinstance(loaded.module, TokenScorer) or loaded.spec.kind == "probe":
        raise StageFailed(
            f"traits.models: {model} is of kind {loaded.spec.kind}, whose states no head of a trait reads"
        )
    states = _states(loaded, source, data, essays)
    prompt_index = loaded.spec.prompt_index(data.prompt.prompt_id)
    targets = {part: data.targets(part) for part in ("train", "dev")}
    heads = fit_heads(loaded.module, prompt_index, states, targets, settings.traits.penalties)
    weight, bias = heads.weight.numpy().astype(np.float64), heads.bias.numpy().astype(np.float64)
    raw = {part: states[part] @ weight.T + bias for part in ("dev", "test")}
    evaluator = TraitEvaluator(
        data,
        _holistic(read_fold_scores(scores_folder(model, fold) / SCORES_FILE), data),
        fold,
        settings.calibrate,
        settings.evaluate,
        settings.seed,
    )
    # A model for serving has no test part to measure on (docs/decisions/0011).
    measurable = () if is_refit(fold, settings.split) else range(len(data.names))
    measured = tuple(evaluator.measure(raw, place) for place in measurable)
    save_heads(heads, folder)
    for place, name in enumerate(data.names):
        own = {part: scores[:, place] for part, scores in raw.items()}
        write_fold_scores(data.scores(own, place), trait_scores_file(folder, name))
    for each in measured:
        say(f"{model}  {each.name}  qwk {each.qwk:.3f}  holistic score in its place {each.holistic_qwk:.3f}")
    return ModelTraits(traits=evaluator.traits(raw, measured), measured=measured)


def _states(loaded: LoadedModel, source: Path, data: TraitEssays, essays: Dataset) -> Mapping[str, NDArray[np.float64]]:
    """Pooled states (N, H) of each part, in the order of `data`."""
    assert isinstance(loaded.module, TokenScorer)
    key = loaded.spec.encoding.model_dump_json() + (source / TOKENIZER_FILE).read_text(encoding="utf-8")
    places = {essay_id: place for place, essay_id in enumerate(essays["essay_id"])}
    states = {}
    for name, own in data.essays.items():
        if not own:
            states[name] = np.empty((0, loaded.module.heads.weight.shape[1]))
            continue
        say(f"pooled states of {len(own)} {name} essays")
        chosen = essays.select([places[essay.essay_id] for essay in own])
        part = encode_part(chosen, loaded.encoder, loaded.spec.prompt_ids, key)
        batches = Batches(part, loaded.encoder, batches_by_length(part.lengths, _BATCH))
        states[name] = pooled_states(loaded.module, batches)
    return states


def _holistic(scores: FoldScores, data: TraitEssays) -> dict[str, NDArray[np.float64]]:
    """The model's own raw scores of dev and test, in the order of `data`."""
    raw = dict(zip(scores.essay_ids.tolist(), scores.raw_unit_scores.tolist(), strict=True))
    return {part: np.array([raw[essay.essay_id] for essay in data.essays[part]]) for part in ("dev", "test")}
