"""Fits the gate's profile on training essays: word order, each prompt's words, and where ordinary essays end.

A bound lies where the strangest few training essays lie (`GateConfig.false_alarms`), but never so tight or so loose as
to be foolish. For the bound of a topic, essays are judged by words learned from the other half, as new essays are.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy import sparse
from sklearn.linear_model import LogisticRegression

from essays.english import learn_word_order, long_share, order_score
from essays.errors import StageFailed
from essays.gate import MIN_WORDS
from essays.gate_profile import (
    NUM_BUCKETS,
    GateProfile,
    PromptProfile,
    pack_task,
    pack_topic,
    topic_buckets,
)
from essays.params import Section
from essays.shingles import repeated_share, share_found_in, shingles
from essays.text import sentences, words

_INVERSE_PENALTY = 3.0
ORDER_BOUNDS = (0.05, 0.15)
"""Shuffled essays have a word order of -.1 or less, read essays of .15 or more."""
LONG_BOUNDS = (0.32, 0.40)
"""Hardly an essay has so many; sentences around a prompt's long words have more."""
REPEATED_BOUNDS = (0.3, 0.5)
MOST_TOPIC_ESSAYS = 500
"""Of each prompt: more change the topics' heads little and take long."""
COPIED_BOUNDS = (0.4, 0.8)


class GateConfig(Section):
    """Section `gate` of params.yaml."""

    false_alarms: float = Field(gt=0, lt=0.5)
    """Share of training essays that a prompt's bound may leave outside, for each reason."""
    num_essays: int = Field(ge=1)
    """Test essays of each prompt that the report looks at."""
    seed: int
    """Of the bad essays that the report makes."""


@dataclass(frozen=True)
class ReadEssay:
    """An essay as the gate reads it."""

    prompt_id: str
    sentences: tuple[tuple[str, ...], ...]
    """Lower-case words."""

    @property
    def words(self) -> list[str]:
        """All words in order."""
        return [word for sentence in self.sentences for word in sentence]


def read_essay(prompt_id: str, text: str) -> ReadEssay:
    """A text in its normal form as `essays.gate` reads it."""
    parted = (words(sentence.lower()) for sentence in sentences(text))
    return ReadEssay(prompt_id, tuple(tuple(word.replace("’", "'") for word in sentence) for sentence in parted))


class TopicHead:
    """Tells essays of one prompt from those of others by their words: a linear model for each, fitted here."""

    def __init__(self, essays: Sequence[ReadEssay]) -> None:
        essays = _first_of_each(essays, MOST_TOPIC_ESSAYS)
        self.prompt_ids = np.array([essay.prompt_id for essay in essays])
        self.rows = bucket_rows([topic_buckets(essay.words) for essay in essays])

    def weights(self, prompt_id: str, without: str = "") -> NDArray[np.float64]:
        """What each bucket of words says for this prompt, (NUM_BUCKETS,).

        `without` leaves another prompt's essays out, to ask what an essay on a topic that was never seen would get.
        """
        chosen = self.prompt_ids != without
        model = LogisticRegression(C=_INVERSE_PENALTY, class_weight="balanced", solver="liblinear", random_state=0)
        return model.fit(self.rows[chosen], self.prompt_ids[chosen] == prompt_id).coef_[0]


def _first_of_each(essays: Sequence[ReadEssay], most: int) -> list[ReadEssay]:
    taken: Counter[str] = Counter()
    chosen = []
    for essay in essays:
        taken[essay.prompt_id] += 1
        if taken[essay.prompt_id] <= most:
            chosen.append(essay)
    return chosen


def bucket_rows(rows: Sequence[NDArray[np.int64]]) -> sparse.csr_matrix:
    """Buckets as a matrix whose product with weights is each row's `topic_score`, (N, NUM_BUCKETS)."""
    starts = np.concatenate([[0], np.cumsum([len(row) for row in rows])])
    values = [np.full(len(row), 1 / np.sqrt(max(len(row), 1))) for row in rows]
    return sparse.csr_matrix((np.concatenate(values), np.concatenate(rows), starts), shape=(len(rows), NUM_BUCKETS))


def fit_gate(essays: Sequence[ReadEssay], tasks: Mapping[str, str], config: GateConfig) -> GateProfile:
    """The profile of these training essays; `tasks` are the texts that writers had, by prompt, where they are known.

    Raises StageFailed for a prompt whose essays are all too short to be scored.
    """
    order = learn_word_order(essay.sentences for essay in essays)
    fitter = _Fitter(essays, order.ratios(), config.false_alarms)
    prompt_ids = sorted({essay.prompt_id for essay in essays})
    return GateProfile(
        word_order=order, prompts=tuple(fitter.profile(prompt_id, tasks.get(prompt_id)) for prompt_id in prompt_ids)
    )


class _Fitter:
    def __init__(self, essays: Sequence[ReadEssay], ratios: NDArray, false_alarms: float) -> None:
        self.essays = [essay for essay in essays if len(essay.words) >= MIN_WORDS]
        self.ratios = ratios
        self.false_alarms = false_alarms
        self.halves = [TopicHead(self.essays[start::2]) for start in (0, 1)]
        self.whole = TopicHead(self.essays)

    def profile(self, prompt_id: str, task: str | None) -> PromptProfile:
        own = [essay for essay in self.essays if essay.prompt_id == prompt_id]
        if not own:
            raise StageFailed(
                f"{prompt_id}: no training essay has {MIN_WORDS} words, and the service scores none that is shorter;"
                " leave the prompt out"
            )
        known = None if task is None else shingles(read_essay(prompt_id, task).words)
        copied = [] if known is None else [share_found_in(shingles(essay.words), known) for essay in own]
        return PromptProfile(
            prompt_id=prompt_id,
            **self._topic(prompt_id),
            task=None if known is None else pack_task(known),
            most_copied=self._most(copied, COPIED_BOUNDS) if copied else 1.0,
            least_order=self._least([order_score(essay.sentences, self.ratios) for essay in own], ORDER_BOUNDS),
            most_long=self._most([long_share(essay.words) for essay in own], LONG_BOUNDS),
            most_repeated=self._most([repeated_share(essay.words) for essay in own], REPEATED_BOUNDS),
        )

    def _topic(self, prompt_id: str) -> dict[str, Any]:
        """The head, and a bound from each half's essays under the other half's head."""
        if len(set(self.whole.prompt_ids)) < 2:
            return {}
        scores = [
            half.rows[half.prompt_ids == prompt_id] @ other.weights(prompt_id)
            for half, other in zip(self.halves, reversed(self.halves), strict=True)
        ]
        topic, step = pack_topic(self.whole.weights(prompt_id))
        least = float(np.quantile(np.concatenate(scores), self.false_alarms))
        return {"topic": topic, "topic_step": step, "least_topic": least}

    def _least(self, values: Sequence[float], bounds: tuple[float, float]) -> float:
        return float(np.clip(np.quantile(values, self.false_alarms), *bounds))

    def _most(self, values: Sequence[float], bounds: tuple[float, float]) -> float:
        return float(np.clip(np.quantile(values, 1 - self.false_alarms), *bounds))
