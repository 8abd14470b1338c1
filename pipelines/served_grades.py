"""Whether the service grades as the pipeline did: held-out essays, asked one by one over HTTP.

The essays are those that `train` scored with its torch modules and did not learn from; their raw scores and the
calibration give the pipeline's grades. The service starts from the bundles as it does anywhere: verified, extracted,
loaded, warmed. Writes ids and scores alone: a summary to `reports/`, every pair of grades below `out/`.
"""

import argparse
import asyncio
import csv
import tempfile
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pandas as pd
from pydantic import SecretStr

from data.tables import ESSAYS_FILE, ESSAYS_SCHEMA, read_table
from essays.calibration import read_calibration
from essays.console import Progress, run, say, wrote
from essays.ensemble import ENSEMBLE
from essays.errors import StageFailed, UnscorableEssay
from essays.gate import scorable_text
from essays.manifest import GOLDEN_TOLERANCE
from essays.params import Section, read_params, write_section
from essays.prompts import get_prompt
from export.bundles import find_bundle
from export.config import ExportConfig
from export.parity import sample_essays
from pipelines.extracted import extracted
from serving.cache.settings import OFF, CacheSettings
from serving.catalogue import LocalArtifact
from serving.config import ServiceSettings
from serving.desk import Desk
from serving.routes import create_app
from serving.schemas import ModelIdentity
from training.fold_scores import SCORES_FILE, calibration_file, read_fold_scores, scores_folder

REPORT_FILE = Path("reports/served.json")
PAIRS_FILE = Path("out/served_grades.csv")
HEADER = ("model", "essay_id", "prompt_id", "pipeline_grade", "served_grade", "pipeline_unit", "served_unit")


@dataclass(frozen=True)
class Graded:
    """A grade, and the calibrated unit score before rounding."""

    grade: float
    unit_score: float


@dataclass(frozen=True)
class Pair:
    """One essay's grade from one model, on both roads."""

    model: str
    essay_id: str
    prompt_id: str
    pipeline: Graded
    served: Graded

    @property
    def is_same(self) -> bool:
        """Whether the grades are equal."""
        return self.pipeline.grade == self.served.grade

    @property
    def unit_gap(self) -> float:
        """How far the unit scores are apart."""
        return abs(self.pipeline.unit_score - self.served.unit_score)


class ModelCheck(Section):
    """One model's essays."""

    version: str
    runtime: str
    """What ran its graph, or its members' graphs."""
    same_grades: int
    max_unit_gap: float


class ServedReport(Section):
    """`reports/served.json`."""

    fold: int
    """Whose model is served; its held-out essays were asked."""
    essays: int
    essays_by_prompt: dict[str, int]
    same_grades: int
    """Essays to which every model gives the pipeline's grade."""
    max_unit_gap: float
    """Largest difference of calibrated unit scores, over all models."""
    models: dict[str, ModelCheck]


def main() -> None:
    """Parse, load parameters, compare, write. Fails where the service grades otherwise."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.served_grades", description=__doc__)
    parser.add_argument("--per-prompt", type=int, default=25, help="essays of each prompt (default: %(default)s)")
    options = parser.parse_args()
    config, fold = read_params("export", ExportConfig), read_params("folds", tuple[int, ...])[0]
    models = [*read_params("models", tuple[str, ...]), ENSEMBLE]
    grades = {model: pipeline_grades(model, fold) for model in models}
    essays = held_out_essays(grades[ENSEMBLE].keys(), options.per_prompt)
    with tempfile.TemporaryDirectory() as folder:
        artifacts = extracted([find_bundle(model) for model in models], Path(folder))
        with opened(artifacts) as desk:
            pairs = asyncio.run(compare(desk, essays, grades))
            catalogue = desk.catalogue()
            identities = {model: desk.scorer().identity(catalogue.model(model)) for model in models}
    report = summary(fold, pairs, identities)
    write_pairs(pairs, PAIRS_FILE)
    write_section(report, REPORT_FILE)
    say(f"{report.essays} essays  same grades {report.same_grades}  largest unit gap {report.max_unit_gap:.1e}")
    wrote(REPORT_FILE)
    require_same(report, config.min_same_grades)


def pipeline_grades(model: str, fold: int) -> dict[str, Graded]:
    """What the pipeline gives each held-out essay of the fold, by essay id. Raises StageFailed."""
    scores = read_fold_scores(scores_folder(model, fold) / SCORES_FILE)
    calibration = read_calibration(calibration_file(model, fold))
    found: dict[str, Graded] = {}
    for prompt_id in scores.prompts():
        mine = scores.rows(scores.prompt_ids == prompt_id)
        graded = calibration.grades(get_prompt(prompt_id), mine.raw_unit_scores)
        rows = zip(mine.essay_ids.tolist(), graded.scores.tolist(), graded.unit_scores.tolist(), strict=True)
        found |= {essay_id: Graded(grade, unit_score) for essay_id, grade, unit_score in rows}
    return found


def held_out_essays(essay_ids: Collection[str], per_prompt: int) -> pd.DataFrame:
    """Up to so many of these essays on each prompt, spread over their lengths, that the service's gate lets pass."""
    table = read_table(ESSAYS_FILE, ESSAYS_SCHEMA).select(["essay_id", "prompt_id", "text"]).to_pandas()
    mine = table[table.essay_id.isin(essay_ids)]
    passing = mine[mine.text.map(_is_scorable).astype(bool)]
    say(f"{len(mine)} held-out essays, of which the gate refuses {len(mine) - len(passing)}")
    return pd.concat([sample_essays(passing, [name], per_prompt) for name in sorted(set(passing.prompt_id))])


@contextmanager
def opened(artifacts: Sequence[LocalArtifact]) -> Iterator[Desk]:
    """A desk that takes requests and computes every answer: a cache could know one from an earlier model."""
    # In fp32: the road is checked here; lower precisions have a gate of their own, on all held-out essays.
    desk = Desk(ServiceSettings(precision="fp32", cache=CacheSettings(store=SecretStr(OFF))))
    desk.expect(artifacts)
    desk.open(artifacts, lambda state: say(f"service: {state.name}: {state.state}"))
    try:
        yield desk
    finally:
        desk.close()


async def compare(desk: Desk, essays: pd.DataFrame, grades: Mapping[str, Mapping[str, Graded]]) -> list[Pair]:
    """Ask every model for every essay, as a client would."""
    # Swagger's files are asked for by nobody here.
    transport = httpx.ASGITransport(create_app(lambda: desk, Path()))
    progress, pairs = Progress("served grades", len(essays)), []
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        for done, row in enumerate(essays.itertuples(), start=1):
            for model, of_model in grades.items():
                # Scores are compared, not what the gate thinks of an essay.
                asked = {"essay": row.text, "prompt_id": row.prompt_id, "model": model, "advisory": True}
                answer = await client.post("/score", json=asked)
                if answer.status_code != httpx.codes.OK:
                    raise StageFailed(f"{model}, {row.essay_id}: the service answered {answer.status_code}")
                served = Graded(answer.json()["score"], answer.json()["unit_score"])
                pairs.append(Pair(model, row.essay_id, row.prompt_id, of_model[row.essay_id], served))
            progress.update(done)
    return pairs


def summary(fold: int, pairs: Sequence[Pair], identities: Mapping[str, ModelIdentity]) -> ServedReport:
    """The pairs, counted."""
    prompt_of = {pair.essay_id: pair.prompt_id for pair in pairs}
    differing = {pair.essay_id for pair in pairs if not pair.is_same}
    by_model = {model: [pair for pair in pairs if pair.model == model] for model in identities}
    return ServedReport(
        fold=fold,
        essays=len(prompt_of),
        essays_by_prompt=dict(sorted(Counter(prompt_of.values()).items())),
        same_grades=len(prompt_of) - len(differing),
        max_unit_gap=max(pair.unit_gap for pair in pairs),
        models={
            model: ModelCheck(
                version=identities[model].version,
                runtime=identities[model].runtime,
                same_grades=sum(pair.is_same for pair in own),
                max_unit_gap=max(pair.unit_gap for pair in own),
            )
            for model, own in by_model.items()
        },
    )


def require_same(report: ServedReport, min_same_grades: float) -> None:
    """Pass a service that is the pipeline. A score on the edge between two grades may fall either way."""
    for model, check in report.models.items():
        if check.same_grades < min_same_grades * report.essays or check.max_unit_gap > GOLDEN_TOLERANCE:
            raise StageFailed(
                f"{model}@{check.version}: the service gives {check.same_grades} of {report.essays} essays the"
                f" pipeline's grade, unit scores differ by up to {check.max_unit_gap:.1e}; {PAIRS_FILE} lists them"
            )


def write_pairs(pairs: Sequence[Pair], path: Path) -> None:
    """Ids and scores of every pair, one a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(HEADER)
        for pair in pairs:
            ours, theirs = pair.pipeline, pair.served
            scores = (ours.grade, theirs.grade, ours.unit_score, theirs.unit_score)
            writer.writerow((pair.model, pair.essay_id, pair.prompt_id, *scores))


def _is_scorable(text: str) -> bool:
    try:
        scorable_text(text)
    except UnscorableEssay:
        return False
    return True


if __name__ == "__main__":
    run(main)
