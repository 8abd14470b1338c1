"""What is known of models that were trained for serving and have no test part: the figures of runs that had one.

`measured.json` beside this file holds them, each with the run that it comes from; it is made of committed reports.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from essays.errors import StageFailed
from essays.manifest import PromptMetrics
from essays.params import Section
from essays.prompts import get_prompt

MEASURED_FILE = Path(__file__).with_name("measured.json")


@dataclass(frozen=True)
class Source:
    """A run whose report is committed."""

    corpus: str
    """Whose prompts are taken from it."""
    metrics_file: Path
    """As `training.summary` writes it; a run that was never made leaves none."""
    settings: str
    """The file of the settings that it measured."""


SOURCES = (
    Source("ellipse", Path("reports/metrics.json"), "params.yaml"),
    Source("asap-aes", Path("reports/asap/metrics.json"), "profiles/asap-5-folds.yaml"),
)


class Measured(Section):
    """Figures by model."""

    models: dict[str, tuple[PromptMetrics, ...]]

    def of(self, model: str, corpora: Sequence[str]) -> tuple[PromptMetrics, ...]:
        """A model's figures on prompts of these corpora; none for what was never measured."""
        found = self.models.get(model, ())
        return tuple(figure for figure in found if get_prompt(figure.prompt_id).corpus in corpora)


def collect(sources: Sequence[Source] = SOURCES) -> Measured:
    """The figures of every run that left a report."""
    models: dict[str, tuple[PromptMetrics, ...]] = {}
    for source in sources:
        if source.metrics_file.exists():
            tree = json.loads(source.metrics_file.read_text(encoding="utf-8"))
            for model, measured in tree.items():
                models[model] = models.get(model, ()) + tuple(_figures(measured, source))
    return Measured(models=models)


def read_measured(path: Path = MEASURED_FILE) -> Measured:
    """The figures in this file. Raises StageFailed when it is missing or malformed."""
    try:
        return Measured.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise StageFailed(f"{path}: no such file; run `python -m pipelines.measured`") from error
    except ValidationError as error:
        raise StageFailed(f"{path}: {error.error_count()} faults; run `python -m pipelines.measured` again") from error


def _figures(measured: Mapping[str, Any], source: Source) -> Iterator[PromptMetrics]:
    for prompt_id, numbers in measured["prompts"].items():
        if get_prompt(prompt_id).corpus == source.corpus:
            yield PromptMetrics(
                prompt_id=prompt_id,
                num_essays=numbers["num_essays"],
                qwk=numbers["qwk"],
                qwk_interval=(numbers["qwk_low"], numbers["qwk_high"]),
                human_qwk=numbers.get("human_qwk"),
                measured_on=_run_in_words(sorted(numbers["folds"], key=int), list(measured["corpora"]), source),
            )


def _run_in_words(folds: Sequence[str], corpora: Sequence[str], source: Source) -> str:
    several = "s" * (len(folds) > 1)
    named = f"test part{several} of fold{several} {', '.join(folds)}"
    return f"{named}, trained on {' and '.join(corpora)} ({source.settings})"
