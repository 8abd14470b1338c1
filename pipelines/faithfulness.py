"""Whether explanations are true: leaving out the three sentences that are said to matter moves the score, and how far.

Held-out essays are explained by the served models. Then the three top sentences are left out together, and the score's
move is held against that of three random ones, the mean over some draws: an explanation that means nothing moves it as
far. Never the sum of single contributions: sentences say much the same. Writes numbers alone, no text and no ids.
"""

import argparse
import asyncio
import random
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from essays.console import Progress, run, say, wrote
from essays.ensemble import ENSEMBLE
from essays.errors import StageFailed
from essays.gate import readable_text
from essays.metrics import percentile_interval
from essays.params import Section, read_params, write_section
from export.bundles import find_bundle
from pipelines.extracted import extracted
from pipelines.served_grades import held_out_essays, opened
from serving.explaining import Explainer, ExplainSettings, without
from serving.scorer import Scorer
from serving.sentences import at_most, split_sentences
from training.fold_scores import SCORES_FILE, read_fold_scores, scores_folder

REPORT_FILE = Path("reports/faithfulness.json")
NUM_LEFT_OUT = 3
LEAST_PARTS = 7
"""Of an essay: of a shorter one, three sentences are half and random ones are often the top ones."""
NUM_DRAWS = 3
"""Random threes of each essay."""
LEAST_RATIO = 2.0
NUM_RESAMPLES = 2000
COVERAGE = 0.95


@dataclass(frozen=True)
class Moved:
    """How far one essay's unit score moves when sentences are left out."""

    top: float
    """Without the three that are said to add most."""
    random: float
    """Without three random ones, the mean over draws."""


class ModelFaithfulness(Section):
    """One model's explanations."""

    version: str
    essays_by_prompt: dict[str, int]
    parts: float
    """Sentences of an essay, the mean: so many runs an explanation takes, and one more."""
    top_move: float
    """Mean move of the unit score without the three sentences that add most."""
    random_move: float
    """The same without three random sentences."""
    ratio: float
    """`top_move` over `random_move`."""
    ratio_interval: tuple[float, float]
    """Bootstrap interval over essays."""
    held: bool
    """Whether `ratio` reaches the bar."""


class FaithfulnessReport(Section):
    """`reports/faithfulness.json`."""

    fold: int
    """Whose models are served; their test essays were explained."""
    least_parts: int
    least_ratio: float
    interval_coverage: float
    models: dict[str, ModelFaithfulness]


def main() -> None:
    """Parse, explain, write. Fails where the ensemble's explanations miss the bar."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.faithfulness", description=__doc__)
    parser.add_argument("--essays", type=int, default=200, help="test essays, all prompts together (default: 200)")
    parser.add_argument("--models", nargs="+", help="models to ask; all of `models` in params.yaml, and the ensemble")
    options = parser.parse_args()
    fold, seed = read_params("folds", tuple[int, ...])[0], read_params("seed", int)
    models = [*read_params("models", tuple[str, ...]), ENSEMBLE]
    essays = essays_of_test(fold, options.essays)
    with tempfile.TemporaryDirectory() as folder:
        artifacts = extracted([find_bundle(model) for model in models], Path(folder))
        with opened(artifacts) as desk:
            scorer = desk.scorer()
            found: dict[str, ModelFaithfulness] = {}
            for model in options.models or models:
                found[model] = asyncio.run(faithfulness(scorer, model, essays, seed))
                write_report(fold, found)
    wrote(REPORT_FILE)
    if missed := [name for name, model in found.items() if not model.held]:
        raise StageFailed(f"explanations of {', '.join(missed)} miss the bar of {LEAST_RATIO:g}: {REPORT_FILE}")


def write_report(fold: int, found: Mapping[str, ModelFaithfulness]) -> None:
    """What was found so far, over what an earlier run left of other models."""
    report = FaithfulnessReport(
        fold=fold,
        least_parts=LEAST_PARTS,
        least_ratio=LEAST_RATIO,
        interval_coverage=COVERAGE,
        models={**earlier(fold), **found},
    )
    write_section(report, REPORT_FILE)


def earlier(fold: int) -> dict[str, ModelFaithfulness]:
    """What a run on other models of this fold left in the report."""
    if not REPORT_FILE.exists():
        return {}
    report = FaithfulnessReport.model_validate_json(REPORT_FILE.read_bytes())
    return report.models if report.fold == fold else {}


def essays_of_test(fold: int, num_essays: int) -> pd.DataFrame:
    """So many test essays of the fold with sentences enough, as evenly over prompts as there are such."""
    scores = read_fold_scores(scores_folder(ENSEMBLE, fold) / SCORES_FILE)
    tests = set(scores.essay_ids[scores.parts == "test"].tolist())
    essays = held_out_essays(tests, num_essays)
    long_enough = essays[essays.text.map(lambda text: len(parts_of(text)) >= LEAST_PARTS).astype(bool)]
    mixed = long_enough.sample(frac=1, random_state=fold)
    turns = mixed.groupby("prompt_id").cumcount().sort_values(kind="stable").index
    return mixed.loc[turns].head(num_essays)


def parts_of(text: str) -> list[str]:
    """What an explanation leaves out one by one."""
    return at_most(split_sentences(readable_text(text)), ExplainSettings().max_parts)


async def faithfulness(scorer: Scorer, model: str, essays: pd.DataFrame, seed: int) -> ModelFaithfulness:
    """One model on all these essays."""
    progress, moves, counts = Progress(f"faithfulness of {model}", len(essays)), [], []
    for done, row in enumerate(essays.itertuples(), start=1):
        parts = parts_of(row.text)
        # Each essay has threes of its own, the same for every model.
        moves.append(await moved(scorer, model, row.prompt_id, parts, _chance(seed, row.essay_id)))
        counts.append(len(parts))
        progress.update(done)
    found = summary(
        moves, scorer.catalogue.model(model).artifact.version, essays.prompt_id.tolist(), float(np.mean(counts))
    )
    say(f"{model}  top {found.top_move:.4f}  random {found.random_move:.4f}  ratio {found.ratio:.2f}")
    return found


async def moved(scorer: Scorer, model: str, prompt_id: str, parts: Sequence[str], chance: random.Random) -> Moved:
    """One essay: explained, then asked again without three of its sentences."""
    served = scorer.catalogue.model(model)
    prompt = scorer.catalogue.prompt(prompt_id, served)
    # Nobody waits here: on a busy machine an explanation may take longer than a request may.
    patient = ExplainSettings().model_copy(update={"timeout_s": 3600.0})
    explainer = Explainer(scorer.catalogue, scorer.pool, patient)
    explanation = await explainer.explain("".join(parts), prompt, served)
    contributions = np.array(explanation.contributions)
    places = [
        set(np.argsort(-contributions, kind="stable")[:NUM_LEFT_OUT].tolist()),
        *(set(chance.sample(range(len(parts)), NUM_LEFT_OUT)) for _ in range(NUM_DRAWS)),
    ]
    left = await explainer.unit_scores([without(parts, each) for each in places], prompt, served)
    top, *drawn = np.abs(np.array(left) - explanation.unit_score).tolist()
    return Moved(top, float(np.mean(drawn)))


def summary(moves: Sequence[Moved], version: str, prompt_ids: Sequence[str], mean_parts: float) -> ModelFaithfulness:
    """The moves of all essays, with how sure their ratio is."""
    top, drawn = np.array([[each.top, each.random] for each in moves]).T
    rows = np.random.default_rng(0).integers(len(moves), size=(NUM_RESAMPLES, len(moves)))
    ratio = float(top.mean() / drawn.mean())
    return ModelFaithfulness(
        version=version,
        essays_by_prompt=dict(sorted(Counter(prompt_ids).items())),
        parts=round(mean_parts, 1),
        top_move=round(float(top.mean()), 4),
        random_move=round(float(drawn.mean()), 4),
        ratio=round(ratio, 2),
        ratio_interval=_rounded(percentile_interval(top[rows].mean(axis=1) / drawn[rows].mean(axis=1), COVERAGE)),
        held=ratio >= LEAST_RATIO,
    )


def _chance(seed: int, essay_id: str) -> random.Random:
    return random.Random(f"{seed} {essay_id}")  # noqa: S311 - nothing is to be kept secret


def _rounded(interval: tuple[float, float]) -> tuple[float, float]:
    return round(interval[0], 2), round(interval[1], 2)


if __name__ == "__main__":
    run(main)
