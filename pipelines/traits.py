"""Stage `traits`: heads of the traits that people scored, on a trained model's states, into `out/traits/MODEL/`."""

import argparse
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data.folds import SplitConfig
from data.refit import is_refit
from data.tables import (
    ESSAYS_FILE,
    ESSAYS_SCHEMA,
    FOLDS_FILE,
    FOLDS_SCHEMA,
    read_dataset,
    read_essay_rows,
    read_table,
)
from essays.console import run, say, wrote
from essays.encoding import TOKENIZER_FILE
from essays.errors import StageFailed
from essays.params import read_params
from training.batches import Batches, batches_by_length, encode_part
from training.evaluation_config import CalibrateConfig, EvaluateConfig
from training.fold_scores import (
    SCORES_FILE,
    FoldScores,
    fold_parts,
    model_folder,
    read_fold_scores,
    scores_folder,
    write_fold_scores,
)
from training.models import LoadedModel, load_model
from training.models.scorer import TokenScorer
from training.refit import pooled_states
from training.trait_files import ModelTraits, trait_scores_file, traits_folder, write_model_traits
from training.trait_fit import fit_heads
from training.trait_heads import save_heads
from training.traits import TraitEssays, TraitEvaluator, TraitsConfig, essays_with_traits

_BATCH = 16


def main() -> None:
    """Fit, calibrate and measure the traits of one model on the fold that is served."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.traits", description=__doc__)
    parser.add_argument("--model", required=True, help="one of `models` in params.yaml")
    model: str = parser.parse_args().model
    settings = _Settings(
        read_params("traits", TraitsConfig),
        read_params("folds", tuple[int, ...])[0],
        read_params("split", SplitConfig),
        read_params("calibrate", CalibrateConfig),
        read_params("evaluate", EvaluateConfig),
        read_params("seed", int),
    )
    chosen = model in settings.traits.models
    essays, parts = read_essay_rows(), fold_parts(read_table(FOLDS_FILE, FOLDS_SCHEMA), settings.fold)
    data = essays_with_traits(essays, parts) if chosen else None
    folder = traits_folder(model)
    shutil.rmtree(folder, ignore_errors=True)
    if data is None:
        say(f"{model} scores no traits: {'no essay has traits' if chosen else 'not among traits.models'}")
        write_model_traits(ModelTraits(traits=None), folder)
    else:
        write_model_traits(_fit(model, data, settings, folder), folder)
    wrote(folder)


@dataclass(frozen=True)
class _Settings:
    """What params.yaml says, read before anything else."""

    traits: TraitsConfig
    fold: int
    split: SplitConfig
    calibrate: CalibrateConfig
    evaluate: EvaluateConfig
    seed: int


def _fit(model: str, data: TraitEssays, settings: _Settings, folder: Path) -> ModelTraits:
    fold = settings.fold
    source = model_folder(model, fold)
    loaded = load_model(source)
    if not isinstance(loaded.module, TokenScorer) or loaded.spec.kind == "probe":
        raise StageFailed(
            f"traits.models: {model} is of kind {loaded.spec.kind}, whose states no head of a trait reads"
        )
    states = _states(loaded, source, data)
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


def _states(loaded: LoadedModel, source: Path, data: TraitEssays) -> dict[str, NDArray[np.float64]]:
    """Pooled states (N, H) of each part, in the order of `data`."""
    assert isinstance(loaded.module, TokenScorer)
    table = read_dataset(ESSAYS_FILE, ESSAYS_SCHEMA)
    key = loaded.spec.encoding.model_dump_json() + (source / TOKENIZER_FILE).read_text(encoding="utf-8")
    places = {essay_id: place for place, essay_id in enumerate(table["essay_id"])}
    states = {}
    for name, essays in data.essays.items():
        if not essays:
            states[name] = np.empty((0, loaded.module.heads.weight.shape[1]))
            continue
        say(f"pooled states of {len(essays)} {name} essays")
        chosen = table.select([places[essay.essay_id] for essay in essays])
        part = encode_part(chosen, loaded.encoder, loaded.spec.prompt_ids, key)
        batches = Batches(part, loaded.encoder, batches_by_length(part.lengths, _BATCH))
        states[name] = pooled_states(loaded.module, batches)
    return states


def _holistic(scores: FoldScores, data: TraitEssays) -> dict[str, NDArray[np.float64]]:
    """The model's own raw scores of dev and test, in the order of `data`."""
    raw = dict(zip(scores.essay_ids.tolist(), scores.raw_unit_scores.tolist(), strict=True))
    return {part: np.array([raw[essay.essay_id] for essay in data.essays[part]]) for part in ("dev", "test")}


if __name__ == "__main__":
    run(main)
