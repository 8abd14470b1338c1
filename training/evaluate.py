"""Measures graded test essays against people, for one model, prompt and fold at a time.

Whatever was chosen (epochs, weights, stretch, intervals) was chosen on dev; test essays are looked at here alone.
Putting results together is `training.summary`'s, showing them `training.report`'s and `training.plots`'.
"""

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data.rows import Essay
from essays.calibration import Calibration, Grades
from essays.errors import StageFailed
from essays.metrics import (
    bootstrap_qwk,
    exact_agreement,
    percentile_interval,
    quadratic_weighted_kappa,
    seen_range,
    spread_ratio,
    standardized_mean_difference,
)
from essays.prompts import Prompt, get_prompt
from training.evaluation_config import EvaluateConfig
from training.fold_scores import FoldScores

RaterPairs = Mapping[str, tuple[float, float]]
"""The first two raters' scores by essay id, on the raters' own scale; only essays that have both."""


@dataclass(frozen=True)
class BandResult:
    """The intervals of one score band on test essays."""

    from_score: float
    """Lower end of the band on the prompt's scale, in terms of the model's score before rounding."""
    to_score: float
    num_essays: int
    coverage: float
    """Share of human scores inside the interval; nan without essays."""
    mean_width: float
    """Mean distance between an interval's ends, on the prompt's scale."""


@dataclass(frozen=True)
class PromptResult:
    """How one model's grades agree with people on one prompt's test essays of one fold."""

    model: str
    prompt: Prompt
    fold: int
    qwk: float
    qwk_draws: NDArray[np.float64]
    """Bootstrap draws of `qwk`, (num_resamples,)."""
    qwk_interval: tuple[float, float]
    dev_qwk: float
    """On the dev essays that calibration was fitted on: an upper hint, not a result."""
    human_qwk: float
    """Rater 1 with rater 2 on the same test essays; nan where single ratings are not published."""
    exact: float
    """Share of grades that are the human score."""
    adjacent: float
    """Share of grades at most one step from it."""
    mean_difference: float
    """Standardized: the model's mean grade above (+) or below (-) the humans'."""
    spread: float
    """Standard deviation of grades over that of human scores."""
    coverage: float
    """Share of human scores inside the answered interval."""
    promised_coverage: float
    """What the intervals were fitted for."""
    interval_width: float
    """Mean distance between an interval's ends, on the prompt's scale."""
    bands: tuple[BandResult, ...]
    essay_ids: NDArray[np.str_]
    """(N,), as all below."""
    human_scores: NDArray[np.float64]
    predicted: NDArray[np.float64]
    """Calibrated scores on the prompt's scale, not rounded."""
    grades: NDArray[np.float64]
    lows: NDArray[np.float64]
    """Lower ends of the answered intervals."""
    highs: NDArray[np.float64]

    @property
    def num_essays(self) -> int:
        """Test essays."""
        return len(self.human_scores)


@dataclass(frozen=True)
class Evaluator:
    """Measures any model the same way."""

    config: EvaluateConfig
    seed: int
    """Decides the bootstrap's draws, together with fold and prompt."""
    raters: RaterPairs

    def fold_results(self, model: str, fold: int, scores: FoldScores, calibration: Calibration) -> list[PromptResult]:
        """One result for each prompt, in alphabetical order. Raises StageFailed for a prompt without test essays."""
        return [
            self.prompt_result(model, fold, get_prompt(prompt_id), scores, calibration)
            for prompt_id in scores.prompts()
        ]

    def prompt_result(
        self, model: str, fold: int, prompt: Prompt, scores: FoldScores, calibration: Calibration
    ) -> PromptResult:
        """The result of one prompt."""
        dev, test = (scores.select(part, prompt.prompt_id) for part in ("dev", "test"))
        if not len(test):
            raise StageFailed(f"{model}, fold {fold}: no test essay of {prompt.prompt_id}; run the split stage again")
        score_range, human = prompt.score_range, test.human_scores
        graded = calibration.grades(prompt, test.raw_unit_scores)
        dev_grades = calibration.grades(prompt, dev.raw_unit_scores).scores
        draws = self._draws(fold, prompt, graded.scores, human)
        covered = (graded.lows <= human) & (human <= graded.highs)
        return PromptResult(
            model=model,
            prompt=prompt,
            fold=fold,
            qwk=quadratic_weighted_kappa(graded.scores, human, score_range),
            qwk_draws=draws,
            qwk_interval=percentile_interval(draws, self.config.interval_coverage),
            dev_qwk=quadratic_weighted_kappa(dev_grades, dev.human_scores, score_range),
            human_qwk=human_agreement(self.raters, test.essay_ids.tolist(), score_range.step),
            exact=exact_agreement(graded.scores, human, score_range),
            adjacent=exact_agreement(graded.scores, human, score_range, within_steps=1),
            mean_difference=standardized_mean_difference(graded.scores, human),
            spread=spread_ratio(graded.scores, human),
            coverage=float(covered.mean()),
            promised_coverage=calibration.coverage,
            interval_width=float((graded.highs - graded.lows).mean()),
            bands=band_results(prompt, calibration, graded, covered),
            essay_ids=test.essay_ids,
            human_scores=human,
            predicted=score_range.from_unit(graded.unit_scores),
            grades=graded.scores,
            lows=graded.lows,
            highs=graded.highs,
        )

    def _draws(self, fold: int, prompt: Prompt, grades: NDArray, human: NDArray) -> NDArray[np.float64]:
        return qwk_draws(prompt, grades, human, self.config.num_resamples, self.seed, fold)


def qwk_draws(
    prompt: Prompt, grades: NDArray, human: NDArray, num_resamples: int, seed: int, fold: int
) -> NDArray[np.float64]:
    """Bootstrap draws of QWK, (num_resamples,), of grades and human scores, (N,): other ones for each prompt and fold.

    `seed` is that of the run: whoever measures it again gets the same interval.
    """
    own_seed = (seed, fold, zlib.crc32(prompt.prompt_id.encode()))
    return bootstrap_qwk(grades, human, prompt.score_range, num_resamples=num_resamples, seed=own_seed)


def band_results(
    prompt: Prompt, calibration: Calibration, graded: Grades, covered: NDArray[np.bool_]
) -> tuple[BandResult, ...]:
    """What the intervals of each band hold and how wide they are."""
    ends = [0.0, *(band.up_to for band in calibration.of(prompt.prompt_id).bands)]
    from_scores = prompt.score_range.from_unit(ends).tolist()
    widths = graded.highs - graded.lows
    inside = [graded.bands == index for index in range(len(ends) - 1)]
    return tuple(
        BandResult(from_score, to_score, int(chosen.sum()), _mean(covered[chosen]), _mean(widths[chosen]))
        for from_score, to_score, chosen in zip(from_scores[:-1], from_scores[1:], inside, strict=True)
    )


def rater_pairs(essays: Sequence[Essay]) -> RaterPairs:
    """The first two raters of every essay that has two."""
    return {
        essay.essay_id: (essay.rater_scores[0], essay.rater_scores[1])
        for essay in essays
        if len(essay.rater_scores) >= 2 and all(map(math.isfinite, essay.rater_scores[:2]))
    }


def human_agreement(raters: RaterPairs, essay_ids: Sequence[str], step: float) -> float:
    """QWK of rater 1 with rater 2 on these essays; nan where fewer than two have both raters, or nobody varies."""
    pairs = np.array([raters[essay_id] for essay_id in essay_ids if essay_id in raters])
    if len(pairs) < 2:
        return float("nan")
    first, second = pairs.T
    return quadratic_weighted_kappa(first, second, seen_range(first, second, step))


def require_whole_parts(name: str, scores: FoldScores, parts: Mapping[str, str]) -> None:
    """Pass scores of exactly the fold's dev and test essays, each under its part; `parts` by essay id.

    Raises StageFailed: scores made on other folds would leak train essays into the test, or leave some out.
    """
    found = dict(zip(scores.essay_ids.tolist(), scores.parts.tolist(), strict=True))
    expected = {essay_id: part for essay_id, part in parts.items() if part != "train"}
    if found == expected and len(found) == len(scores):
        return
    wrong = sum(expected.get(essay_id) != part for essay_id, part in found.items())
    raise StageFailed(
        f"{name}: {len(scores)} scores, of which {wrong} are of no such dev or test essay, and"
        f" {len(expected.keys() - found.keys())} of {len(expected)} essays have none; train it again on these folds"
    )


def _mean(values: NDArray) -> float:
    return float(values.mean()) if values.size else float("nan")
