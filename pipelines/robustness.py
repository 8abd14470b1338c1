"""Stage `robustness`: changes held-out essays on purpose, and holds every model and the gate to what must happen."""

import argparse
from collections.abc import Sequence

import numpy as np

from data.corpora import RAW_FOLDER
from data.folds import SplitConfig
from data.refit import is_refit
from data.tables import FOLDS_FILE, FOLDS_SCHEMA, read_essay_rows, read_table
from data.task_texts import read_task_texts
from essays.calibration import read_calibration
from essays.console import run, say, wrote
from essays.ensemble import ENSEMBLE, WEIGHTS_FILE, read_weights
from essays.gate import Gate
from essays.gate_profile import GATE_FILE, GATE_FOLDER, read_gate_profile
from essays.params import read_params
from training.behaviours import ROBUSTNESS_FILE, Behaviour, write_behaviours
from training.fold_scores import calibration_file, fold_parts, model_folder, scores_folder
from training.models import load_model
from training.models.spec import read_spec
from training.report import write_page
from training.robustness import (
    LEAST_SENTENCES,
    LEAST_WORDS,
    Case,
    CaseMaker,
    Changes,
    RobustnessConfig,
    changes_of,
    gate_behaviours,
    long_essay,
    mixed_scores,
    model_behaviours,
    score_cases,
)
from training.robustness_page import ROBUSTNESS_PAGE, robustness_page


def main() -> None:
    """Make the texts, score them with every model of the first fold, write the report."""
    argparse.ArgumentParser(prog="python -m pipelines.robustness", description=__doc__).parse_args()
    config, split = read_params("robustness", RobustnessConfig), read_params("split", SplitConfig)
    models, fold = read_params("models", tuple[str, ...]), read_params("folds", tuple[int, ...])[0]
    if is_refit(fold, split):
        say("nothing to measure: the models of this run are for serving, and have no test essays")
        leave([], {}, {}, fold)
        return
    parts = fold_parts(read_table(FOLDS_FILE, FOLDS_SCHEMA), fold)
    known = read_spec(model_folder(models[0], fold)).prompt_ids
    test = [essay for essay in read_essay_rows() if parts[essay.essay_id] == "test" and essay.prompt_id in known]
    gate = Gate([read_gate_profile(GATE_FOLDER / GATE_FILE)])
    maker = CaseMaker(test, gate, max(config.num_essays, config.num_essays_of_encoders), config.seed)
    if not maker.sample:
        say(f"nothing to measure: no test essay has {LEAST_WORDS} words in {LEAST_SENTENCES} sentences")
        leave([], {}, {}, fold)
        return
    cases = maker.cases()
    say(f"{len(cases)} texts of {sum(map(len, maker.sample.values()))} essays on {len(maker.sample)} prompts")
    measure(maker, cases, models, fold, config)


def measure(
    maker: CaseMaker, cases: Sequence[Case], models: Sequence[str], fold: int, config: RobustnessConfig
) -> None:
    """Score with every model and the ensemble; leave the report."""
    behaviours = gate_behaviours(maker, cases, read_task_texts(RAW_FOLDER / "asap-aes"))
    scores, changes, num_essays = {}, {}, {}
    for model in models:
        loaded = load_model(model_folder(model, fold))
        is_slow = loaded.spec.kind in ("encoder", "decoder")
        num_essays[model] = config.num_essays_of_encoders if is_slow else config.num_essays
        scores[model] = score_cases(loaded, read_calibration(calibration_file(model, fold)), cases, num_essays[model])
        changes[model] = changes_of(cases, scores[model])
        behaviours += [*model_behaviours(model, changes[model]), long_essay(model, loaded, maker)]
        say(f"{model}: scored {int(np.isfinite(scores[model]).sum())} texts")
    weights = read_weights(scores_folder(ENSEMBLE, fold) / WEIGHTS_FILE)
    mixed = mixed_scores(weights, scores, read_calibration(calibration_file(ENSEMBLE, fold)), cases)
    num_essays[ENSEMBLE] = min(num_essays.values())
    changes[ENSEMBLE] = changes_of(cases, mixed)
    behaviours += model_behaviours(ENSEMBLE, changes[ENSEMBLE])
    for each in behaviours:
        say(f"{each.model}  {each.perturbation}  {each.measured:g} ({each.bar}){'' if each.held else '  not held'}")
    leave(behaviours, changes, num_essays, fold)


def leave(
    behaviours: Sequence[Behaviour], changes: dict[str, dict[str, Changes]], num_essays: dict[str, int], fold: int
) -> None:
    """Write the report."""
    write_behaviours(behaviours)
    write_page(robustness_page(behaviours, changes, num_essays, fold), ROBUSTNESS_PAGE)
    wrote(ROBUSTNESS_FILE)
    wrote(ROBUSTNESS_PAGE)


if __name__ == "__main__":
    run(main)
