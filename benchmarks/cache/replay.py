"""The replay: real essays handed in again, whole, with slips and changed, to this cache and to naive ones.

First the near tier is proved on essays of their own, as in service, by scoring anyway. Then other essays are kept, and
their variants asked for, each alone against the originals. What is right is what the graphs say of the variant itself.
Counts and shares only: no text leaves this module.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.cache.naive import THRESHOLDS, Embedder, NaiveCache
from benchmarks.cache.served import digests
from benchmarks.cache.variants import EXACT, NEVER, SLIPS, variant, variant_names
from benchmarks.speed.chosen import ChosenEssay
from essays.console import say
from essays.errors import BadInput
from essays.gate import scorable_text
from essays.text import normalize_text
from serving.cache.proof import upper_bound
from serving.cache.result_cache import ResultCache
from serving.cache.runs import CacheMode
from serving.desk import Desk
from serving.schemas import ScoreResponse

SLIPS_TO_PROVE = ("one_typo", "one_word_replaced", "two_words_replaced")
ONE_WORD_EDITS = ("one_typo", "one_word_replaced", "one_word_left_out")
AIMS = (0.001, 0.002, 0.003, 0.005, 0.0075, None)
"""Shares of changed grades that the margin may be chosen for; the service takes the first."""
_SAY_EVERY = 100


@dataclass(frozen=True)
class Asked:
    """A variant that was asked for, and what it should get."""

    name: str
    essay: ChosenEssay
    place: int
    text: str


class Replay:
    """One run over one service."""

    def __init__(self, desk: Desk, kept: Sequence[ChosenEssay], proving: Sequence[ChosenEssay]) -> None:
        self.desk = desk
        self.kept = kept
        self.proving = proving
        self.models = list(desk.catalogue().models)
        cache = desk.scorer().cache
        assert cache is not None
        self.cache: ResultCache = cache
        self.asked: Sequence[Asked] = ()
        self.truths: Sequence[dict[str, float]] = ()
        """What each asked text should get, by model."""
        self.originals: Sequence[dict[str, ScoreResponse]] = ()

    def run(self) -> dict[str, Any]:
        """This cache's part of the report."""
        return asyncio.run(self._run())

    async def _run(self) -> dict[str, Any]:
        proof = await self._prove()
        self.originals = [await self._score_all(essay, essay.text, CacheMode.REFRESH) for essay in self.kept]
        self.cache.settle()
        self.asked = list(self._variants())
        self.truths = [await self._truths(each) for each in self.asked]
        say(f"replay: {len(self.asked)} variants scored")
        return {
            "kept_essays": len(self.kept),
            "prompts": sorted({essay.prompt_id for essay in self.kept}),
            "models": digests(self.desk),
            "proof": proof,
            "fairmark": {model: await self._ask_all(model, self.asked, self.truths) for model in self.models},
            "frontier": {model: [self._at(model, aim) for aim in AIMS] for model in self.models},
        }

    async def _prove(self) -> dict[str, Any]:
        for number, essay in enumerate(self.proving):
            if number % _SAY_EVERY == 0:
                say(f"replay: proving, essay {number} of {len(self.proving)}")
            other = self.proving[number - 1].text
            await self._score_all(essay, essay.text, CacheMode.REFRESH)
            self.cache.settle()
            for name in SLIPS_TO_PROVE:
                text = variant(name, essay.essay_id, essay.text, other)
                for model in self.models:
                    await self._score(essay, text, model)
                    self._forget(text)
            # These are asked for again, as essays that nobody has handed in.
            self._forget(essay.text)
        report = {}
        for name, digest in digests(self.desk).items():
            verified, disagreed = self.cache.proof.counts(digest)
            own = self.cache.proof
            report[name] = {
                "state": own.state(digest),
                "verified": verified,
                "disagreed": disagreed,
                "upper_bound": own.bound(digest),
                "gap_p99": own.gap(digest),
            }
        return report

    async def _truths(self, asked: Asked) -> dict[str, float]:
        answers = await self._score_all(asked.essay, asked.text, CacheMode.BYPASS)
        return {name: answer.score for name, answer in answers.items()}

    async def _ask_all(self, model: str, asked: Sequence[Asked], truths: Sequence[dict[str, float]]) -> dict[str, Any]:
        tiers: dict[str, Counter[str]] = {name: Counter() for name in (*variant_names(), "another_essay")}
        changed: dict[str, Counter[str]] = {name: Counter() for name in tiers}
        for each, truth in zip(asked, truths, strict=True):
            answer = await self._score(each.essay, each.text, model)
            tier = answer.cache.tier
            tiers[each.name][tier] += 1
            changed[each.name][tier] += answer.score != truth[model]
            if tier == "miss":
                self._forget(each.text)
        say(f"replay: {model} asked")
        return _summary(tiers, changed)

    def _at(self, model: str, aim: float | None) -> dict[str, Any]:
        """Of the one-word edits: how many would be answered, and how many of these wrongly, had the margin this aim.

        Without an aim there is no margin: the guard alone decides.
        """
        served = self.desk.catalogue().models[model]
        answered = changed = asked = 0
        for each, truth in zip(self.asked, self.truths, strict=True):
            if each.name not in ONE_WORD_EDITS:
                continue
            asked += 1
            kept = self.originals[each.place][model]
            steps = kept.score_range.num_grades - 1
            stretch = served.calibration.of(each.essay.prompt_id).stretch
            margin = 0.0
            if aim is not None:
                margin = stretch * self.cache.proof.margin(served.artifact.digest, 1 / (steps * stretch), 1, aim)
            # Grades change half-way between two of them.
            if abs((kept.unit_score * steps) % 1 - 0.5) >= min(margin * steps, 1.0):
                answered += 1
                changed += kept.score != truth[model]
        share = answered / asked if asked else None
        return {
            "aim": aim,
            "hit_rate": share,
            "grade_changed": changed,
            "answered": answered,
            "upper_bound": upper_bound(changed, answered),
        }

    def _variants(self) -> Sequence[Asked]:
        made = []
        for place, essay in enumerate(self.kept):
            other = self.kept[place - 1].text
            for name in variant_names():
                text = variant(name, essay.essay_id, essay.text, other)
                # A change that this essay does not show is no change.
                if name in EXACT or (is_scorable(text) and normalize_text(text) != essay.text):
                    made.append(Asked(name, essay, place, text))
        return [*made, *(Asked("another_essay", essay, -1, essay.text) for essay in self.proving)]

    def naive(self) -> dict[str, Any]:
        """The naive caches' part, on what `run` asked."""
        asked, truths, originals = self.asked, self.truths, self.originals
        embed = Embedder()
        cache = NaiveCache([embed(essay.text) for essay in self.kept])
        model = self.desk.catalogue().default_model
        found = []
        for number, each in enumerate(asked):
            if number % (10 * _SAY_EVERY) == 0:
                say(f"replay: naive caches, {number} of {len(asked)}")
            found.append(cache.nearest(embed(normalize_text(each.text))))
        report = {}
        for name, threshold in THRESHOLDS.items():
            hits: Counter[str] = Counter()
            wrong: Counter[str] = Counter()
            others: Counter[str] = Counter()
            for each, truth, (place, cosine) in zip(asked, truths, found, strict=True):
                if cosine >= threshold:
                    hits[each.name] += 1
                    wrong[each.name] += originals[place][model].score != truth[model]
                    others[each.name] += place != each.place
            totals = Counter(each.name for each in asked)
            report[name] = {
                "threshold": threshold,
                "model": model,
                "hits": sum(hits.values()),
                "wrong_grades": sum(wrong.values()),
                "another_pupils_answer": sum(others.values()),
                "variants": {
                    kind: {
                        "asked": total,
                        "hits": hits[kind],
                        "wrong_grades": wrong[kind],
                        "another_pupils_answer": others[kind],
                    }
                    for kind, total in totals.items()
                },
            }
        return report

    async def _score_all(self, essay: ChosenEssay, text: str, mode: CacheMode) -> dict[str, ScoreResponse]:
        """By every model, computed now."""
        comparison = await self.desk.scorer().compare(text, essay.prompt_id, mode, advisory=True)
        return {answer.model.name: answer for answer in comparison.results}

    async def _score(self, essay: ChosenEssay, text: str, model: str) -> ScoreResponse:
        return await self.desk.scorer().score(text, essay.prompt_id, model, advisory=True)

    def _forget(self, text: str) -> None:
        self.cache.purge(text=normalize_text(text))


def is_scorable(text: str) -> bool:
    """Whether the service gives this text a score at all."""
    try:
        scorable_text(text)
    except BadInput:
        return False
    return True


def _summary(tiers: dict[str, Counter[str]], changed: dict[str, Counter[str]]) -> dict[str, Any]:
    exact, near = (_grades(tiers, changed, tier) for tier in ("exact", "near"))
    asked = sum(sum(tiers[name].values()) for name in ONE_WORD_EDITS)
    hit = sum(tiers[name]["near"] + tiers[name]["exact"] for name in ONE_WORD_EDITS)
    return {
        "exact": exact,
        "near": near,
        "one_word_edits": {"asked": asked, "hits": hit, "hit_rate": hit / asked if asked else None},
        "never_answered": {name: tiers[name]["near"] + tiers[name]["exact"] for name in (*NEVER, "another_essay")},
        "variants": {
            name: {"asked": sum(counts.values()), **counts, "changed": dict(changed[name])}
            for name, counts in tiers.items()
        },
        "slips": sorted(SLIPS),
    }


def _grades(tiers: dict[str, Counter[str]], changed: dict[str, Counter[str]], tier: str) -> dict[str, Any]:
    answered = sum(counts[tier] for counts in tiers.values())
    other = sum(counts[tier] for counts in changed.values())
    return {
        "answered": answered,
        "grade_changed": other,
        "share": other / answered if answered else None,
        "upper_bound": upper_bound(other, answered),
    }
