"""Stage `gate`: fits the gate's profile on training essays, and measures it on test essays and bad ones.

The gate for serving learned from every essay but dev's (docs/decisions/0011). What is measured then is its twin, fitted
on fold 0's train part, by fold 0's test essays.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from data.corpora import RAW_FOLDER
from data.folds import SplitConfig
from data.refit import is_refit
from data.rows import Essay
from data.tables import FOLDS_FILE, FOLDS_SCHEMA, read_essay_rows, read_table
from data.task_texts import read_task_texts
from essays.console import run, say, wrote
from essays.gate import MIN_WORDS
from essays.gate_profile import GATE_FILE, GATE_FOLDER, GateProfile, write_gate_profile
from essays.params import read_params
from training.fold_scores import fold_parts
from training.gate_fit import GateConfig, ReadEssay, fit_gate, read_essay
from training.gate_report import GateEvaluator, GateRow, UnseenTopic, gate_page, gate_tree, train_head
from training.report import write_page
from training.summary import write_metrics

REPORT_FILE = Path("reports/gate.json")
PAGE_FILE = Path("reports/gate.md")


def main() -> None:
    """Fit on the first fold's train part, measure on its test part, or on that of fold 0 where it has none."""
    argparse.ArgumentParser(prog="python -m pipelines.gate", description=__doc__).parse_args()
    config, split = read_params("gate", GateConfig), read_params("split", SplitConfig)
    fold = read_params("folds", tuple[int, ...])[0]
    essays, folds = read_essay_rows(), read_table(FOLDS_FILE, FOLDS_SCHEMA)
    tasks = read_task_texts(RAW_FOLDER / "asap-aes")
    say(f"tasks known: {', '.join(tasks) or 'none'}")
    parts = fold_parts(folds, fold)
    train = read_train(essays, parts)
    profile = fit_gate(train, tasks, config)
    write_gate_profile(profile, GATE_FOLDER / GATE_FILE)
    wrote(GATE_FOLDER / GATE_FILE)
    if is_refit(fold, split):
        say("this gate is for serving and has no test essays: measured is its twin of fold 0")
        fold, parts = 0, fold_parts(folds, 0)
        train = read_train(essays, parts)
        profile = fit_gate(train, tasks, config)
    test = [essay for essay in essays if parts[essay.essay_id] == "test"]
    measure(GateEvaluator(profile, test, tasks, config.num_essays, config.seed), profile, train, fold)
    wrote(REPORT_FILE)
    wrote(PAGE_FILE)


def read_train(essays: Sequence[Essay], parts: Mapping[str, str]) -> list[ReadEssay]:
    """The essays of the train part as the gate reads them, `parts` by essay id."""
    train = [read_essay(essay.prompt_id, essay.text) for essay in essays if parts[essay.essay_id] == "train"]
    say(f"fitting on {len(train)} essays")
    return train


def measure(evaluator: GateEvaluator, profile: GateProfile, train: Sequence[ReadEssay], fold: int) -> None:
    """Leave the report; a line for each prompt and reason."""
    rows: list[GateRow] = []
    unseen: list[UnseenTopic] = []
    head = train_head(train)
    for part in profile.prompts:
        if part.prompt_id not in evaluator.good:
            say(f"{part.prompt_id}  not measured: no test essay has {MIN_WORDS} words")
            continue
        for row in evaluator.rows(part.prompt_id):
            say(
                f"{row.prompt_id}  {row.reason}  recall {row.recall:.3f} of {row.num_bad}"
                f"  false alarms {row.false_alarms:.3f} of {row.num_good}{'' if row.held else '  misses its bar'}"
            )
            rows.append(row)
        if topic := evaluator.unseen_topic(part.prompt_id, head):
            unseen.append(topic)
    taken = evaluator.time()
    write_metrics(gate_tree(rows, unseen, taken, fold), REPORT_FILE)
    write_page(gate_page(rows, unseen, taken, fold), PAGE_FILE)


if __name__ == "__main__":
    run(main)
