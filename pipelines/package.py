"""Stage package: a model's bundle, alone in its folder; the ensemble's names the others' versions."""

import argparse
from dataclasses import replace
from pathlib import Path

from data.corpora import CorpusName, all_corpora
from data.folds import SplitConfig
from data.refit import is_refit
from data.tables import FOLDS_FILE, FOLDS_SCHEMA, read_essay_rows, read_table
from essays.calibration import read_calibration
from essays.console import run, say, wrote
from essays.drift import DriftReference
from essays.ensemble import ENSEMBLE, WEIGHTS_FILE, read_weights
from essays.gate_profile import GATE_FILE, GATE_FOLDER
from essays.manifest import CorpusSource, PromptMetrics
from essays.params import read_params
from export.artifact import Facts, open_member, package_ensemble, package_model
from export.bundles import BUNDLE_FOLDER, find_bundle
from export.config import ExportConfig
from export.exported import export_folder
from export.measured import read_measured
from export.provenance import git_commit, pipeline_digest
from export.reference import drift_reference
from training.fold_scores import SCORES_FILE, calibration_file, fold_parts, read_fold_scores, scores_folder
from training.summary import read_prompt_metrics


def main() -> None:
    """Package one model, or the ensemble."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.package", description=__doc__)
    parser.add_argument("--model", required=True, help="one of `models` in params.yaml, or ensemble")
    model: str = parser.parse_args().model
    fold = read_params("folds", tuple[int, ...])[0]
    models, config = read_params("models", tuple[str, ...]), read_params("export", ExportConfig)

    say(f"packaging {model}: golden essays, manifest, zip")
    facts = _facts(model, fold, models)
    if model != ENSEMBLE:
        facts = replace(facts, reference=_reference(model, fold))
    bundle = _package_ensemble(facts, fold, models, config) if model == ENSEMBLE else _package_model(facts, fold)
    wrote(bundle)


def _package_model(facts: Facts, fold: int) -> Path:
    model = facts.name
    return package_model(facts, export_folder(model), calibration_file(model, fold), BUNDLE_FOLDER / model)


def _package_ensemble(facts: Facts, fold: int, models: tuple[str, ...], config: ExportConfig) -> Path:
    members = [
        open_member(find_bundle(member), export_folder(member), calibration_file(member, fold)) for member in models
    ]
    weights = read_weights(scores_folder(ENSEMBLE, fold) / WEIGHTS_FILE)
    return package_ensemble(facts, weights, calibration_file(ENSEMBLE, fold), members, BUNDLE_FOLDER / ENSEMBLE, config)


def _facts(model: str, fold: int, models: tuple[str, ...]) -> Facts:
    corpora = read_params("corpora", tuple[CorpusName, ...])
    split = read_params("split", SplitConfig)
    return Facts(
        name=model,
        metrics=_metrics(model, fold, corpora, split),
        corpora=tuple(CorpusSource(name=name, licence=all_corpora()[name].licence) for name in corpora),
        git_commit=git_commit(),
        pipeline_digest=pipeline_digest([*models, ENSEMBLE] if model == ENSEMBLE else [model]),
        gate_file=GATE_FOLDER / GATE_FILE,
    )


def _reference(model: str, fold: int) -> DriftReference:
    parts = fold_parts(read_table(FOLDS_FILE, FOLDS_SCHEMA), fold)
    scores = read_fold_scores(scores_folder(model, fold) / SCORES_FILE)
    return drift_reference(read_essay_rows(), parts, scores, read_calibration(calibration_file(model, fold)))


def _metrics(model: str, fold: int, corpora: tuple[CorpusName, ...], split: SplitConfig) -> tuple[PromptMetrics, ...]:
    # A model for serving has no test part: what stands for it was measured on others of its kind.
    return read_measured().of(model, corpora) if is_refit(fold, split) else read_prompt_metrics(model, fold)


if __name__ == "__main__":
    run(main)
