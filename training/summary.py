"""Results over folds and prompts, and `reports/metrics.json`, which DVC compares and packaging reads."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from essays.errors import StageFailed
from essays.manifest import PromptMetrics
from essays.metrics import fisher_mean, percentile_interval
from essays.scores import ScoreRange
from training.evaluate import PromptResult

METRICS_FILE = Path("reports/metrics.json")

# Numbers of a prompt that are averaged over folds, by their names in metrics.json.
MEASURES = {
    "qwk": "qwk",
    "dev_qwk": "dev_qwk",
    "human_qwk": "human_qwk",
    "exact": "exact",
    "adjacent": "adjacent",
    "smd": "mean_difference",
    "sd_ratio": "spread",
    "coverage": "coverage",
    "interval_width": "interval_width",
}


@dataclass(frozen=True)
class PromptSummary:
    """One model on one prompt, over all folds."""

    model: str
    results: tuple[PromptResult, ...]
    """By fold, ascending."""

    @property
    def prompt_id(self) -> str:
        """The prompt."""
        return self.results[0].prompt.prompt_id

    @property
    def score_range(self) -> ScoreRange:
        """The prompt's scale."""
        return self.results[0].prompt.score_range

    @property
    def promised_coverage(self) -> float:
        """What the intervals were fitted for."""
        return self.results[0].promised_coverage

    @property
    def num_essays(self) -> int:
        """Test essays of all folds."""
        return sum(result.num_essays for result in self.results)

    def mean(self, measure: str) -> float:
        """The mean over folds of a measure named in `MEASURES`; nan where any fold lacks it."""
        return float(np.mean([getattr(result, MEASURES[measure]) for result in self.results]))

    def share(self, measure: str) -> float:
        """A share (`exact`, `adjacent`, `coverage`) of the test essays of all folds together."""
        hits = sum(getattr(result, MEASURES[measure]) * result.num_essays for result in self.results)
        return float(hits / self.num_essays)

    def qwk_interval(self, coverage: float) -> tuple[float, float]:
        """Bootstrap interval of the mean QWK."""
        return percentile_interval(np.mean([result.qwk_draws for result in self.results], axis=0), coverage)


@dataclass(frozen=True)
class CorpusSummary:
    """One model on one corpus: the mean over prompts of their means over folds."""

    model: str
    corpus: str
    prompts: tuple[PromptSummary, ...]

    def mean(self, measure: str) -> float:
        """The plain mean over prompts."""
        return float(np.mean([prompt.mean(measure) for prompt in self.prompts]))

    def fisher_qwk(self) -> float:
        """The mean QWK through Fisher's z."""
        return fisher_mean([prompt.mean("qwk") for prompt in self.prompts])

    def qwk_interval(self, coverage: float) -> tuple[float, float]:
        """Bootstrap interval of the plain mean QWK; prompts and folds are drawn independently."""
        draws = [np.mean([result.qwk_draws for result in prompt.results], axis=0) for prompt in self.prompts]
        return percentile_interval(np.mean(draws, axis=0), coverage)


def summarise(results: Iterable[PromptResult]) -> list[CorpusSummary]:
    """One summary for each model and corpus, models in the order in which they first occur."""
    tree: dict[str, dict[str, dict[str, list[PromptResult]]]] = {}
    for result in results:
        corpora = tree.setdefault(result.model, {})
        corpora.setdefault(result.prompt.corpus, {}).setdefault(result.prompt.prompt_id, []).append(result)
    return [
        CorpusSummary(model, corpus, tuple(_prompt_summary(model, prompts[prompt_id]) for prompt_id in sorted(prompts)))
        for model, corpora in tree.items()
        for corpus, prompts in sorted(corpora.items())
    ]


def metrics_tree(summaries: Sequence[CorpusSummary], coverage: float) -> dict[str, Any]:
    """metrics.json: `MODEL.corpora.CORPUS` and `MODEL.prompts.PROMPT`, rounded; what is undefined is left out."""
    tree: dict[str, Any] = {}
    for summary in summaries:
        of_model = tree.setdefault(summary.model, {"corpora": {}, "prompts": {}})
        low, high = summary.qwk_interval(coverage)
        of_model["corpora"][summary.corpus] = rounded(
            {
                "mean_qwk": summary.mean("qwk"),
                "mean_qwk_low": low,
                "mean_qwk_high": high,
                "fisher_mean_qwk": summary.fisher_qwk(),
                "mean_dev_qwk": summary.mean("dev_qwk"),
                "mean_human_qwk": summary.mean("human_qwk"),
            }
        )
        for prompt in summary.prompts:
            of_model["prompts"][prompt.prompt_id] = _prompt_tree(prompt, coverage)
    return tree


def write_metrics(tree: Mapping[str, Any], path: Path) -> None:
    """The same bytes for the same numbers."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(tree, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def read_prompt_metrics(model: str, fold: int, path: Path = METRICS_FILE) -> tuple[PromptMetrics, ...]:
    """What a manifest says of the model trained on this fold. Raises StageFailed when it was not evaluated."""
    try:
        prompts = json.loads(path.read_text(encoding="utf-8"))[model]["prompts"]
        return tuple(
            _manifest_metrics(prompt_id, numbers["folds"][str(fold)]) for prompt_id, numbers in prompts.items()
        )
    except FileNotFoundError as error:
        raise StageFailed(f"{path}: no such file; run `dvc repro evaluate`") from error
    except KeyError as error:
        raise StageFailed(f"{path}: nothing on {model}, fold {fold}: no {error}; run `dvc repro evaluate`") from error


def rounded(numbers: Mapping[str, int | float]) -> dict[str, int | float]:
    """To four places, without what is not a number: JSON has no nan, and a missing key says as much."""
    return {
        # + 0.0 makes 0 of a number that was rounded to -0.
        name: number if isinstance(number, int) else round(number, 4) + 0.0
        for name, number in numbers.items()
        if not math.isnan(number)
    }


def _manifest_metrics(prompt_id: str, numbers: Mapping[str, Any]) -> PromptMetrics:
    return PromptMetrics(
        prompt_id=prompt_id,
        num_essays=numbers["num_essays"],
        qwk=numbers["qwk"],
        qwk_interval=(numbers["qwk_low"], numbers["qwk_high"]),
        human_qwk=numbers.get("human_qwk"),
    )


def _prompt_summary(model: str, results: Sequence[PromptResult]) -> PromptSummary:
    return PromptSummary(model, tuple(sorted(results, key=lambda result: result.fold)))


def _prompt_tree(prompt: PromptSummary, coverage: float) -> dict[str, Any]:
    low, high = prompt.qwk_interval(coverage)
    measures = {measure: prompt.mean(measure) for measure in MEASURES}
    numbers = {"num_essays": prompt.num_essays, **measures, "qwk_low": low, "qwk_high": high}
    return {**rounded(numbers), "folds": {str(result.fold): _fold_tree(result) for result in prompt.results}}


def _fold_tree(result: PromptResult) -> dict[str, Any]:
    low, high = result.qwk_interval
    numbers = {
        "num_essays": result.num_essays,
        "qwk": result.qwk,
        "qwk_low": low,
        "qwk_high": high,
        "dev_qwk": result.dev_qwk,
        "human_qwk": result.human_qwk,
    }
    return rounded(numbers)
