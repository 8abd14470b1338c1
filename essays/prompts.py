"""The writing tasks and their score ranges, read from `prompts.toml` beside this file.

A prompt is data: to add one, add a table there. Descriptions are in our own words; no task text of a corpus is kept.
"""

import tomllib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from essays.errors import UnknownPrompt
from essays.params import Section, parse_params
from essays.scores import ScoreRange

PROMPTS_FILE = Path(__file__).with_name("prompts.toml")


class Prompt(Section):
    """A writing task that essays answer, and how its score comes about."""

    prompt_id: str
    """Unique, lower case: `asap-1`, `ellipse-overall`."""
    corpus: str
    """The corpus whose essays and scores define it."""
    title: str
    """A few words for a list."""
    description: str
    """What writers were asked, in our own words."""
    writers: str
    """Who wrote the essays that it was learned from."""
    score_range: ScoreRange
    resolution: str
    """How the resolved score comes from the raters' scores."""
    human_qwk: float | None = None
    """Published agreement of rater 1 with rater 2; none where single ratings are not published."""


@cache
def all_prompts() -> dict[str, Prompt]:
    """Every known prompt by its id, in the file's order."""
    tables = tomllib.loads(PROMPTS_FILE.read_text(encoding="utf-8"))
    return {
        prompt_id: parse_params({"prompt_id": prompt_id, **table}, prompt_id, Prompt, PROMPTS_FILE)
        for prompt_id, table in tables.items()
    }


def get_prompt(prompt_id: str, among: Iterable[str] | None = None) -> Prompt:
    """The prompt of this id. Raises UnknownPrompt, which lists those there are (only `among`, when given)."""
    known = list(all_prompts()) if among is None else list(among)
    if prompt_id not in known:
        raise UnknownPrompt(
            f"no prompt {prompt_id!r:.80}; known: {', '.join(known)}",
            field="prompt_id",
            hint="GET /prompts lists every prompt with its score range",
        )
    return all_prompts()[prompt_id]


def prompts_of(corpora: Iterable[str]) -> list[Prompt]:
    """The prompts of these corpora, in the file's order."""
    wanted = set(corpora)
    return [prompt for prompt in all_prompts().values() if prompt.corpus in wanted]
