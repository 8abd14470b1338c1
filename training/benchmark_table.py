"""The benchmark's table, computed again from out-of-fold scores and the corpus's human scores."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from data.rows import Essay
from essays.errors import StageFailed
from essays.metrics import (
    fisher_mean,
    percentile_interval,
    quadratic_weighted_kappa,
    spread_ratio,
    standardized_mean_difference,
)
from essays.prompts import Prompt, get_prompt
from training.evaluate import RaterPairs, human_agreement, qwk_draws
from training.evaluation_config import EvaluateConfig
from training.out_of_fold import OutOfFold
from training.report import number, table


@dataclass(frozen=True)
class Cell:
    """Test essays of one prompt and fold, as one seed graded them."""

    prompt: Prompt
    fold: int
    seed: int
    essay_ids: tuple[str, ...]
    grades: NDArray[np.float64]
    human: NDArray[np.float64]

    @cached_property
    def qwk(self) -> float:
        """Agreement with the human scores."""
        return quadratic_weighted_kappa(self.grades, self.human, self.prompt.score_range)

    def draws(self, num_resamples: int) -> NDArray[np.float64]:
        """Bootstrap draws of `qwk`, (num_resamples,): those of the run's own report."""
        return qwk_draws(self.prompt, self.grades, self.human, num_resamples, self.seed, self.fold)


@dataclass(frozen=True)
class ModelCells:
    """All cells of one model."""

    model: str
    cells: tuple[Cell, ...]

    @property
    def seeds(self) -> list[int]:
        """The seeds it was trained with, ascending."""
        return sorted({cell.seed for cell in self.cells})

    @property
    def prompt_ids(self) -> list[str]:
        """Its prompts, in alphabetical order."""
        return sorted({cell.prompt.prompt_id for cell in self.cells})

    def of(self, prompt_id: str) -> list[Cell]:
        """The cells of one prompt."""
        return [cell for cell in self.cells if cell.prompt.prompt_id == prompt_id]

    def qwk(self, prompt_id: str) -> float:
        """The mean of fold QWKs, over seeds too."""
        return float(np.mean([cell.qwk for cell in self.of(prompt_id)]))

    def mean_qwk(self) -> float:
        """The plain mean over prompts."""
        return float(np.mean([self.qwk(prompt_id) for prompt_id in self.prompt_ids]))

    def seed_deviation(self) -> float:
        """Standard deviation of the plain mean over seeds; nan with one seed."""
        by_seed = [
            ModelCells(self.model, tuple(cell for cell in self.cells if cell.seed == seed)).mean_qwk()
            for seed in self.seeds
        ]
        return float(np.std(by_seed, ddof=1)) if len(by_seed) > 1 else float("nan")

    def interval(self, config: EvaluateConfig) -> tuple[float, float]:
        """Bootstrap interval of the first seed's plain mean, essays drawn within each fold and prompt."""
        cells = [cell for cell in self.cells if cell.seed == self.seeds[0]]
        by_prompt = [
            np.mean([cell.draws(config.num_resamples) for cell in cells if cell.prompt.prompt_id == prompt_id], axis=0)
            for prompt_id in self.prompt_ids
        ]
        return percentile_interval(np.mean(by_prompt, axis=0), config.interval_coverage)


def model_cells(model: str, rows: Iterable[OutOfFold], essays: Mapping[str, Essay]) -> ModelCells:
    """Rows by seed, fold and prompt. Raises StageFailed for a row whose essay the corpus does not have."""
    groups: dict[tuple[int, int, str], list[OutOfFold]] = {}
    for row in rows:
        if row.essay_id not in essays:
            raise StageFailed(f"{model}: essay {row.essay_id} is not in the corpus; were the scores made from another?")
        groups.setdefault((row.seed, row.fold, essays[row.essay_id].prompt_id), []).append(row)
    return ModelCells(
        model,
        tuple(
            Cell(
                get_prompt(prompt_id),
                fold,
                seed,
                tuple(row.essay_id for row in group),
                np.array([row.grade for row in group]),
                np.array([essays[row.essay_id].score for row in group]),
            )
            for (seed, fold, prompt_id), group in sorted(groups.items())
        ),
    )


def require_every_essay(model: ModelCells, essays: Mapping[str, Essay]) -> None:
    """Pass a model that each seed tested on every essay once: the mean of some folds is not the benchmark's.

    Raises StageFailed.
    """
    for seed in model.seeds:
        tested = Counter(essay_id for cell in model.cells if cell.seed == seed for essay_id in cell.essay_ids)
        missing, repeated = len(essays.keys() - tested.keys()), sum(count > 1 for count in tested.values())
        if missing or repeated:
            raise StageFailed(
                f"{model.model}, seed {seed}: {missing} of {len(essays)} essays have no score, {repeated} have several;"
                f" `make crossval SEED={seed}` makes them whole"
            )


def benchmark_table(models: Sequence[ModelCells], raters: RaterPairs, config: EvaluateConfig) -> list[str]:
    """A row for each model and a column for each prompt: means of fold QWKs; rater 1 with rater 2 above them."""
    prompt_ids = models[0].prompt_ids
    interval = f"{config.interval_coverage:.0%} interval"
    header = ["", *prompt_ids, "mean", interval, "Fisher-z mean", "seeds", "s.d. over seeds"]
    humans = [_human_qwk(models[0].of(prompt_id), raters) for prompt_id in prompt_ids]
    rows = [
        ["two raters", *map(number, humans), number(float(np.mean(humans))), "", number(fisher_mean(humans)), "", ""]
    ]
    for model in models:
        kappas = [model.qwk(prompt_id) for prompt_id in prompt_ids]
        low, high = model.interval(config)
        rows.append(
            [
                model.model,
                *map(number, kappas),
                number(model.mean_qwk()),
                f"[{number(low)}, {number(high)}]",
                number(fisher_mean(kappas)),
                str(len(model.seeds)),
                number(model.seed_deviation()),
            ]
        )
    return table(header, rows)


def trust_table(model: ModelCells) -> list[str]:
    """For each prompt how one model's grades lie beside the humans': means over folds and seeds."""
    header = [model.model, "essays", "QWK", "SMD", "spread"]
    rows = []
    for prompt_id in model.prompt_ids:
        cells = model.of(prompt_id)
        smd = float(np.mean([standardized_mean_difference(cell.grades, cell.human) for cell in cells]))
        spread = float(np.mean([spread_ratio(cell.grades, cell.human) for cell in cells]))
        num_essays = len({essay_id for cell in cells for essay_id in cell.essay_ids})
        rows.append([prompt_id, str(num_essays), number(model.qwk(prompt_id)), number(smd), number(spread)])
    return table(header, rows)


def _human_qwk(cells: Sequence[Cell], raters: RaterPairs) -> float:
    first_seed = min(cell.seed for cell in cells)
    step = cells[0].prompt.score_range.step
    return float(np.mean([human_agreement(raters, cell.essay_ids, step) for cell in cells if cell.seed == first_seed]))
