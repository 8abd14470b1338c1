"""The essays that we wrote for warm-up (`golden.toml`), and their scores by the graphs that are published."""

import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path

from data.corpora import is_own
from essays.calibration import Calibration
from essays.errors import StageFailed
from essays.manifest import Golden, GoldenEssay
from essays.params import Section, parse_params
from essays.prompts import get_prompt
from essays.text import normalize_text

GOLDEN_SOURCE = Path(__file__).with_name("golden.toml")
BORROWED = "ellipse-overall"
RawScore = Callable[[str, str], float]
"""From normalized text and prompt id to a raw unit score."""
RawTraits = Callable[[str, str], tuple[float, ...]]
"""From normalized text and prompt id to the traits' raw unit scores."""


class WrittenEssay(Section):
    """One essay of ours."""

    prompt_id: str
    text: str


def written_essays(prompt_ids: Sequence[str], path: Path = GOLDEN_SOURCE) -> list[WrittenEssay]:
    """Our essays on these prompts; a prompt of one's own has those of `BORROWED`, whose numbers prove a graph as well.

    Raises StageFailed when another prompt has none: its warm-up would prove nothing.
    """
    tables = tomllib.loads(path.read_text(encoding="utf-8"))["essay"]
    essays = [parse_params(table, f"essay.{place}", WrittenEssay, path) for place, table in enumerate(tables)]
    mine = [essay for essay in essays if essay.prompt_id in prompt_ids]
    borrowed = [essay.text for essay in essays if essay.prompt_id == BORROWED]
    own = [prompt_id for prompt_id in prompt_ids if is_own(get_prompt(prompt_id).corpus)]
    mine += [WrittenEssay(prompt_id=prompt_id, text=text) for prompt_id in own for text in borrowed]
    if bare := sorted(set(prompt_ids) - {essay.prompt_id for essay in mine}):
        raise StageFailed(f"{path}: no golden essay for {', '.join(bare)}; write one of at least 21 words")
    return mine


def score_golden(
    prompt_ids: Sequence[str],
    raw_score: RawScore,
    calibration: Calibration,
    raw_traits: RawTraits = lambda text, prompt_id: (),
) -> Golden:
    """Our essays with what a model gives them now."""
    scored = []
    for essay in written_essays(prompt_ids):
        text = normalize_text(essay.text)
        raw = raw_score(text, essay.prompt_id)
        grade = calibration.grade(get_prompt(essay.prompt_id), raw)
        scored.append(
            GoldenEssay(
                text=text,
                prompt_id=essay.prompt_id,
                raw_unit_score=raw,
                score=grade.score,
                raw_trait_scores=raw_traits(text, essay.prompt_id),
            )
        )
    return Golden(essays=tuple(scored))
