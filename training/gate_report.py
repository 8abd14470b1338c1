"""How the gate does on held-out essays and on bad ones made from them: recall and false alarms by reason and prompt."""

import random
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from data.rows import Essay
from essays.gate import MIN_WORDS, Gate, near_duplicates
from essays.gate_profile import GateProfile, topic_buckets
from essays.prompts import get_prompt
from essays.text import words
from training.bad_essays import Source, bad_essays, near_copy
from training.gate_fit import ReadEssay, TopicHead, bucket_rows, read_essay
from training.report import table

LEAST_RECALL = 0.95
MOST_FALSE_ALARMS = 0.02
BATCH_ESSAYS = 64
_NEAR_DUPLICATE = "near_duplicate"


@dataclass(frozen=True)
class GateRow:
    """One reason on one prompt."""

    prompt_id: str
    reason: str
    num_bad: int
    recall: float
    """Share of the bad essays that got this very reason."""
    num_good: int
    """Held-out essays with words enough to be scored."""
    false_alarms: float
    """Share of them that got it all the same."""

    @property
    def held(self) -> bool:
        """Whether both bars hold."""
        return self.recall >= LEAST_RECALL and self.false_alarms <= MOST_FALSE_ALARMS


@dataclass(frozen=True)
class UnseenTopic:
    """What becomes of essays on a topic that the head never saw."""

    prompt_id: str
    recall: float
    """Share of good essays of other prompts that are found off topic, each prompt left out of training in turn."""
    worst: float
    """Of the prompt that is found least."""


@dataclass(frozen=True)
class GateTime:
    """How long one essay takes, in milliseconds."""

    median_ms: float
    p95_ms: float


class GateEvaluator:
    """Measures a gate on the essays of a test part."""

    def __init__(
        self, profile: GateProfile, test: Sequence[Essay], tasks: Mapping[str, str], num_essays: int, seed: int
    ) -> None:
        self.profile, self.tasks, self.num_essays, self.seed = profile, tasks, num_essays, seed
        self.gate = Gate([profile])
        long_enough = [essay for essay in test if len(words(essay.text)) >= MIN_WORDS]
        self.essays: dict[str, list[Essay]] = {}
        for essay in sorted(long_enough, key=lambda each: each.essay_id):
            self.essays.setdefault(essay.prompt_id, []).append(essay)
        self.good = {prompt_id: self._sample(own) for prompt_id, own in self.essays.items()}
        self.better = {prompt_id: _better_half(own) for prompt_id, own in self.essays.items()}

    def rows(self, prompt_id: str) -> list[GateRow]:
        """Each reason that this prompt can have."""
        good = self.good[prompt_id]
        alarms = Counter(found.reason for essay in good for found in self.gate.findings(essay.text, prompt_id))
        rows = [
            GateRow(
                prompt_id, reason, len(bad), self._recall(bad, reason, prompt_id), len(good), alarms[reason] / len(good)
            )
            for reason, bad in bad_essays(self._source(prompt_id), self.num_essays, self.seed).items()
        ]
        return [*rows, self._copies(prompt_id)]

    def unseen_topic(self, prompt_id: str, train: TopicHead) -> UnseenTopic | None:
        """Recall of topics that were left out, one by one; none where there is no third prompt to learn from."""
        profile = next(part for part in self.profile.prompts if part.prompt_id == prompt_id)
        others = [name for name in self.better if name != prompt_id]
        if profile.least_topic is None or len(others) < 2:
            return None
        recalls = []
        for other in others:
            rows = bucket_rows([topic_buckets(read_essay(other, essay.text).words) for essay in self.better[other]])
            scores = rows @ train.weights(prompt_id, without=other)
            recalls.append(float(np.mean(scores < profile.least_topic)))
        return UnseenTopic(prompt_id, float(np.mean(recalls)), min(recalls))

    def time(self) -> GateTime | None:
        """Of all rules on the good essays, as this machine is now; None where there are none."""
        taken = []
        for prompt_id, own in self.good.items():
            for essay in own:
                started = time.perf_counter()
                self.gate.findings(essay.text, prompt_id)
                taken.append((time.perf_counter() - started) * 1000)
        return GateTime(float(np.median(taken)), float(np.quantile(taken, 0.95))) if taken else None

    def _recall(self, bad: Sequence[str], reason: str, prompt_id: str) -> float:
        return float(
            np.mean([reason in {found.reason for found in self.gate.findings(text, prompt_id)} for text in bad])
        )

    def _copies(self, prompt_id: str) -> GateRow:
        """Batches of real essays, without and with a near-copy of one among them."""
        rng = random.Random(self.seed)  # noqa: S311
        texts = [essay.text for essay in self.good[prompt_id]]
        batches = [texts[start : start + BATCH_ESSAYS] for start in range(0, len(texts), BATCH_ESSAYS)]
        alarms = sum(len(near_duplicates(dict(enumerate(batch)))) for batch in batches)
        found = []
        for _ in range(self.num_essays):
            batch = rng.sample(texts, min(BATCH_ESSAYS - 1, len(texts)))
            flagged = near_duplicates(dict(enumerate([*batch, near_copy(batch[0], rng)])))
            found.append(0 in flagged and len(batch) in flagged)
        return GateRow(
            prompt_id, _NEAR_DUPLICATE, len(found), float(np.mean(found)), len(texts), alarms / max(len(texts), 1)
        )

    def _source(self, prompt_id: str) -> Source:
        return Source(
            texts=[essay.text for essay in self.good[prompt_id]],
            others=[essay.text for name, own in self.better.items() if name != prompt_id for essay in own],
            task=self.tasks.get(prompt_id),
            highest=get_prompt(prompt_id).score_range.high,
        )

    def _sample(self, own: Sequence[Essay]) -> list[Essay]:
        rng = random.Random(self.seed)  # noqa: S311
        return rng.sample(list(own), min(self.num_essays, len(own)))


def train_head(essays: Sequence[ReadEssay]) -> TopicHead:
    """The head's training essays, as `fit_gate` takes them."""
    return TopicHead([essay for essay in essays if len(essay.words) >= MIN_WORDS])


def gate_tree(
    rows: Sequence[GateRow], unseen: Sequence[UnseenTopic], taken: GateTime | None, fold: int
) -> Mapping[str, Any]:
    """`reports/gate.json`."""
    return {
        "fold": fold,
        "bars": {"recall": LEAST_RECALL, "false_alarms": MOST_FALSE_ALARMS},
        "rows": [{**asdict(row), "held": row.held} for row in rows],
        "unseen_topics": [asdict(topic) for topic in unseen],
        "time": None if taken is None else asdict(taken),
    }


def gate_page(rows: Sequence[GateRow], unseen: Sequence[UnseenTopic], taken: GateTime | None, fold: int) -> str:
    """`reports/gate.md`."""
    lines = ["# The gate", "", _INTRODUCTION]
    if not rows:
        return "\n".join([*lines, _UNMEASURED])
    reasons = list(dict.fromkeys(row.reason for row in rows))
    by_place = {(row.prompt_id, row.reason): row for row in rows}
    prompt_ids = list(dict.fromkeys(row.prompt_id for row in rows))
    cells = ([_cell(by_place.get((prompt_id, reason))) for reason in reasons] for prompt_id in prompt_ids)
    lines += [f"## Recall / false alarms, in per cent (fold {fold})", ""]
    lines += table(["prompt", *reasons], ([name, *row] for name, row in zip(prompt_ids, cells, strict=True)))
    held = sum(row.held for row in rows)
    lines += ["", f"{held} of {len(rows)} hold both bars; **bold** misses one.", ""]
    if unseen:
        lines += ["## Topics that were never seen", "", _UNSEEN]
        lines += table(
            ["prompt", "recall, mean", "least"],
            ([each.prompt_id, f"{each.recall:.1%}", f"{each.worst:.1%}"] for each in unseen),
        )
        lines += [""]
    if taken is not None:
        lines += [
            f"All rules take {taken.median_ms:.1f} ms an essay (median), {taken.p95_ms:.1f} ms at the 95th percentile.",
            "",
        ]
    return "\n".join(lines)


def _cell(row: GateRow | None) -> str:
    if row is None:
        return ""
    shown = f"{100 * row.recall:.1f} / {100 * row.false_alarms:.1f}"
    return shown if row.held else f"**{shown}**"


def _better_half(essays: Sequence[Essay]) -> list[Essay]:
    return sorted(essays, key=lambda essay: (-essay.score, essay.essay_id))[: max(len(essays) // 2, 1)]


_INTRODUCTION = """\
Written by `python -m pipelines.gate`. Recall: of bad essays made for a reason (`training/bad_essays.py`), the share
that gets this very reason. False alarms: of held-out essays with words enough to be scored, the share that gets it. The
bars: recall of at least 95 %, false alarms of at most 2 %. Bounds were fitted on training essays; nothing on bad ones.
"""
_UNSEEN = """\
Above, off-topic essays answer prompts whose training essays the head has seen. Here each such prompt is left out of its
training in turn.
"""
_UNMEASURED = "Nothing was measured: no test essay has words enough to be scored.\n"
