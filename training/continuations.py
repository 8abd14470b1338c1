"""Children by a language model: it continues the opening of a train essay whose score is scarce, and the score is kept.

A model asked for "an essay of score 2" does not write one; one that goes on from a real opening stays near its level.
What was written is kept on disk, batch by batch, so that a killed run goes on and another fold pays only for parents of
its own.
"""

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from data.rows import Essay
from data.synthetic.children import Child, child_seed, name_child
from data.synthetic.config import ContinueConfig
from data.synthetic.parents import scarce_parents
from data.synthetic.quality import counted, faults_of_writing
from essays.console import Progress, say
from essays.prompts import get_prompt
from essays.text import normalize_text
from training.language_model import LanguageModel, load_language_model, write_on

_WORD = re.compile(r"\S+")
_SENTENCE_END = re.compile(r"[.!?][\"'”’)]*(?=\s|$)")
LEAST_WORDS = 40
"""Of a parent: less has no opening to go on from."""
MOST_OPENING = 0.65
"""Share of a child that may be its parent's: with more, the two count as near-duplicates (`data.duplicates`)."""
_MOST_LOST = 0.25
"""Share of what was written that may be cut to end with a whole sentence."""


@dataclass(frozen=True)
class Task:
    """One continuation to write."""

    child_id: str
    parent: Essay
    seed: int
    opening: str
    num_words: int
    """To write."""


@dataclass(frozen=True)
class Kept:
    """A line of the file of what was written."""

    child_id: str
    text: str
    """The whole child, opening included."""
    num_tokens: int
    """That the model wrote."""
    perplexity: float


def continued(train: Sequence[Essay], config: ContinueConfig, fold: int, seed: int, folder: Path) -> list[Child]:
    """Children of scarce scores that pass the filters of `data.synthetic.quality`; says how many fell to which."""
    most_words = config.most_new_words / (1 - MOST_OPENING)
    usable = [essay for essay in train if LEAST_WORDS <= len(_WORD.findall(essay.text)) <= most_words]
    tasks = plan(scarce_parents(usable, config.num_children, config.most_per_parent, seed), config, seed)
    written = write_all(tasks, config, seed, folder)
    children, faults = [], []
    for task in tasks:
        kept = written[task.child_id]
        found = faults_of_writing(
            kept.text, task.parent, kept.perplexity, config.length_tolerance, config.most_repeated, config.perplexity
        )
        faults += found
        if not found:
            children.append(_child(task, kept, fold))
    say(f"continue  fold {fold}: {len(children)} of {len(tasks)} continuations kept; refused for: {counted(faults)}")
    return children


def plan(parents: Sequence[Essay], config: ContinueConfig, seed: int) -> list[Task]:
    """A task for each parent, numbered where one comes again."""
    tasks: list[Task] = []
    for place, parent in enumerate(parents):
        number = sum(other.essay_id == parent.essay_id for other in parents[:place])
        ends = [match.end() for match in _WORD.finditer(parent.text)]
        num_words = min(round((1 - config.opening_share) * len(ends)), config.most_new_words)
        child_id = name_child(parent.essay_id, "continue", number)
        opening = parent.text[: ends[len(ends) - num_words - 1]]
        tasks.append(Task(child_id, parent, child_seed(seed, child_id), opening, num_words))
    return tasks


def write_all(
    tasks: Sequence[Task],
    config: ContinueConfig,
    seed: int,
    folder: Path,
    load: Callable[[str], LanguageModel] = load_language_model,
) -> dict[str, Kept]:
    """What the model writes for each task, by child; taken from `folder` as far as it was written before."""
    path = folder / f"{_settings_digest(config, seed)}.jsonl"
    kept = _read_kept(path)
    left = sorted(
        (task for task in tasks if not _is_kept(task, kept)), key=lambda task: (task.num_words, len(task.opening))
    )
    if not left:
        return kept
    folder.mkdir(parents=True, exist_ok=True)
    say(f"continue  {len(left)} continuations to write, {len(tasks) - len(left)} were here; loads {config.model}")
    language = load(config.model)
    progress, num_tokens = Progress("continue  words", sum(task.num_words for task in left)), 0
    done = 0
    for start in range(0, len(left), config.batch_size):
        batch = left[start : start + config.batch_size]
        rows = _write_batch(language, batch, config)
        with path.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(asdict(row)) + "\n" for row in rows)
        kept |= {row.child_id: row for row in rows}
        done += sum(task.num_words for task in batch)
        num_tokens += sum(row.num_tokens for row in rows)
        progress.update(done, f"{num_tokens} tokens")
    return kept


def _write_batch(language: LanguageModel, batch: Sequence[Task], config: ContinueConfig) -> list[Kept]:
    written = write_on(
        language,
        [task.opening for task in batch],
        [task.num_words for task in batch],
        [task.seed for task in batch],
        config.temperature,
        config.top_share,
    )
    return [
        Kept(
            task.child_id,
            normalize_text(task.opening + to_sentence_end(result.text)),
            len(result.tokens),
            result.perplexity,
        )
        for task, result in zip(batch, written, strict=True)
    ]


def to_sentence_end(text: str) -> str:
    """The text up to its last whole sentence, where that costs little; otherwise as it is."""
    ends = [match.end() for match in _SENTENCE_END.finditer(text)]
    return text[: ends[-1]] if ends and ends[-1] >= (1 - _MOST_LOST) * len(text) else text


def _child(task: Task, kept: Kept, fold: int) -> Child:
    unit_score = float(get_prompt(task.parent.prompt_id).score_range.to_unit(task.parent.score))
    return Child(
        task.child_id, fold, "continue", task.parent.essay_id, task.seed, task.parent.prompt_id, unit_score, kept.text
    )


def _is_kept(task: Task, kept: dict[str, Kept]) -> bool:
    """Whether it was written from this very opening: a parent's text may have changed under its id."""
    return task.child_id in kept and kept[task.child_id].text.startswith(normalize_text(task.opening))


def _read_kept(path: Path) -> dict[str, Kept]:
    if not path.exists():
        return {}
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    # A killed run may have left half a line at the end.
    whole = [line for line in lines if line.endswith("}\n")]
    if len(whole) < len(lines):
        path.write_text("".join(whole), encoding="utf-8")
    rows = [Kept(**json.loads(line)) for line in whole]
    return {row.child_id: row for row in rows}


def _settings_digest(config: ContinueConfig, seed: int) -> str:
    """Names the file by what decides a continuation; what is kept afterwards may change."""
    names = ("model", "opening_share", "most_new_words", "temperature", "top_share")
    settings = {name: getattr(config, name) for name in names}
    return hashlib.sha256(json.dumps([settings, seed]).encode()).hexdigest()[:16]
