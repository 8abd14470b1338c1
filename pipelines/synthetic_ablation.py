"""`make synthetic-ablation`: models with and without each kind of synthetic essay, on one fold's dev part.

Nothing of the pipeline is touched: trainings lie under out/synthetic/. Each is kept by all that decides it but code, so
a killed run goes on where it was, and more seeds, kinds or models add to what is there. The report is written after
each.
"""

import argparse
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from data.corpora import all_corpora
from data.fetch import fetch_corpus, kaggle_token, mirror_folder
from data.synthetic.children import KINDS, Child
from data.synthetic.config import SynthesizeConfig
from data.synthetic.unlabelled import UNLABELLED_FILE, UnlabelledEssay, read_unlabelled
from data.tables import ESSAYS_FILE, FOLDS_FILE
from essays.console import run, say, wrote
from essays.digests import sha256_of
from essays.errors import BadParams
from essays.params import read_params
from training.config import TrainConfig
from training.fit import fit_fold
from training.fold_scores import SCORES_FILE, FoldScores, read_fold_scores
from training.synthesis import CACHE_FOLDER, Sources, read_sources, synthesize_fold
from training.synthetic_ablation import NONE, Arm, compare, dev_part, table

REPORT = Path("reports/synthetic/ablation.json")
RUNS = CACHE_FOLDER / "ablation"
NUM_RESAMPLES = 1000


def main() -> None:
    """Make the synthetic essays, train every arm, print the table."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.synthetic_ablation", description="Is it worth it?")
    parser.add_argument("--models", nargs="+", default=["lstm", "minilm"], help="sections of `train`")
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS, help="default: all")
    parser.add_argument("--seeds", nargs="+", type=int, default=[7, 8, 9], help="of training (default: 7 8 9)")
    parser.add_argument("--fold", type=int, default=0, help="a fold of folds.parquet (default: %(default)s)")
    options = parser.parse_args()
    run(lambda: ablate(options.models, options.kinds, options.seeds, options.fold))


def ablate(models: Sequence[str], kinds: Sequence[str], seeds: Sequence[int], fold: int) -> None:
    """Every model with no synthetic essays and with each kind, seed by seed."""
    config, trained = read_params("synthesize", SynthesizeConfig), read_params("train", dict[str, TrainConfig])
    if unknown := [model for model in models if model not in trained]:
        raise BadParams(f"no model {', '.join(unknown)}; `train` has {', '.join(trained)}")
    unlabelled = fetch_unlabelled() if "teacher" in kinds else []
    sources = read_sources(trained, read_params("seed", int), unlabelled)
    children: dict[str, list[Child]] = {NONE: []}
    children |= {kind: _children_of(kind, config, sources, fold) for kind in KINDS if kind in kinds}
    dev: dict[tuple[str, str], dict[int, FoldScores]] = {}
    for seed in seeds:
        for model in models:
            for kind, made in children.items():
                scores = train_arm(trained[model], sources, made, fold, seed, f"{model}-{kind}-seed-{seed}")
                dev.setdefault((model, kind), {})[seed] = dev_part(scores)
                report([Arm(*arm, len(children[arm[1]]), by_seed) for arm, by_seed in dev.items()], fold)
    wrote(REPORT)


def train_arm(
    config: TrainConfig, sources: Sources, children: Sequence[Child], fold: int, seed: int, name: str
) -> FoldScores:
    """The scores of one training; read where it was done before."""
    folder = RUNS / f"{name}-{_digest(config, children, fold, seed)}"
    if not (folder / "scores").exists():
        say(f"{name}  {len(children)} synthetic essays")
        unfinished = folder / "unfinished"
        fit_fold(
            config,
            sources.essays,
            sources.folds,
            fold,
            seed,
            folder / "model",
            unfinished,
            RUNS / "checkpoints",
            children=children,
        )
        unfinished.rename(folder / "scores")
    return read_fold_scores(folder / "scores" / SCORES_FILE)


def report(arms: Sequence[Arm], fold: int) -> None:
    """Print the table, and write it without any essay or score of one."""
    rows = compare(arms, NUM_RESAMPLES, seed=0)
    say(f"\n{table(rows)}\n")
    content = {"fold": fold, "dev_essays": len(next(iter(arms[0].dev.values()))), "rows": list(map(asdict, rows))}
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text(json.dumps(_without_nan(content), indent=1) + "\n", encoding="utf-8")


def fetch_unlabelled() -> list[UnlabelledEssay]:
    """ASAP's unlabelled essays, whatever `corpora` says, in a folder of the ablation's own."""
    whole = all_corpora()["asap-aes"]
    files = tuple(file for file in whole.files if file.path == UNLABELLED_FILE)
    corpus = replace(whole, files=files)
    return read_unlabelled(fetch_corpus(corpus, CACHE_FOLDER / "raw", mirror_folder(), kaggle_token()))


def _children_of(kind: str, config: SynthesizeConfig, sources: Sources, fold: int) -> list[Child]:
    return synthesize_fold(config.model_copy(update={"kinds": (kind,)}), sources, fold)


def _digest(config: TrainConfig, children: Sequence[Child], fold: int, seed: int) -> str:
    digest = hashlib.sha256(f"{config.model_dump_json()} {fold} {seed}".encode())
    for path in (ESSAYS_FILE, FOLDS_FILE):
        digest.update(sha256_of(path).encode())
    for child in children:
        digest.update(f"{child.child_id} {child.prompt_id} {child.unit_score}\0{child.text}".encode())
    return digest.hexdigest()[:12]


def _without_nan(value: object) -> object:
    """JSON has no nan: null stands for what one seed alone cannot say."""
    if isinstance(value, dict):
        return {key: _without_nan(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(inner) for inner in value]
    return None if isinstance(value, float) and value != value else value


if __name__ == "__main__":
    run(main)
