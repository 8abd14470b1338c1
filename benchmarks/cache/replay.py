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
from serving.cache.answers import Answers
from serving.cache.proof import AIM, shift_scale, upper_bound
from serving.cache.result_cache import ResultCache
from serving.cache.runs import CHEAP_SHARE, CachedRuns, CacheMode
from serving.desk import Desk
from serving.inference import Run
from serving.schemas import ScoreResponse
from serving.tracing import Tracing, TracingSettings

ONE_WORD_EDITS = ("one_typo", "one_word_replaced", "one_word_left_out")
AIMS = (0.001, 0.002, 0.003, 0.004, 0.006, None)
"""Shares of changed grades that may be aimed at; the service takes `proof.AIM`."""
_SAY_EVERY = 100
_TIMEOUT_S = 60.0

Runs = dict[str, Run]
"""By model name."""


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
        scorer = desk.scorer()
        assert scorer.cache is not None
        self.cache: ResultCache = scorer.cache
        self.runs = CachedRuns(desk.catalogue(), scorer.pool, scorer.cache, Tracing(TracingSettings()))
        self.asked: Sequence[Asked] = ()
        self.truths: Sequence[Runs] = ()
        """What the graphs say of each asked text."""
        self.originals: Sequence[Runs] = ()

    def run(self) -> dict[str, Any]:
        """This cache's part of the report."""
        return asyncio.run(self._run())

    async def _run(self) -> dict[str, Any]:
        proof = await self._prove()
        self.originals = [await self._run_all(essay, essay.text, CacheMode.REFRESH) for essay in self.kept]
        self.cache.settle()
        self.asked = list(self._variants())
        self.truths = [await self._truth(number, each) for number, each in enumerate(self.asked)]
        return {
            "kept_essays": len(self.kept),
            "proving_essays": len(self.proving),
            "prompts": sorted({essay.prompt_id for essay in self.kept}),
            "models": digests(self.desk),
            "aim": AIM,
            "proof": proof,
            "fairmark": {model: await self._ask_all(model) for model in self.models},
            "frontier": {model: [self._at(model, aim) for aim in AIMS] for model in self.models},
        }

    async def _prove(self) -> dict[str, Any]:
        for number, essay in enumerate(self.proving):
            if number % _SAY_EVERY == 0:
                say(f"replay: proving, essay {number} of {len(self.proving)}")
            other = self.proving[number - 1].text
            await self._run_all(essay, essay.text, CacheMode.REFRESH)
            self.cache.settle()
            for name in SLIPS:
                text = variant(name, essay.essay_id, essay.text, other)
                for model in self.models if is_scorable(text) else ():
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

    async def _truth(self, number: int, asked: Asked) -> Runs:
        if number % (5 * _SAY_EVERY) == 0:
            say(f"replay: variant {number} of {len(self.asked)} scored")
        return await self._run_all(asked.essay, normalize_text(asked.text), CacheMode.BYPASS)

    async def _ask_all(self, model: str) -> dict[str, Any]:
        tiers: dict[str, Counter[str]] = {name: Counter() for name in (*variant_names(), "another_essay")}
        changed: dict[str, Counter[str]] = {name: Counter() for name in tiers}
        scores: dict[str, Counter[str]] = {name: Counter() for name in tiers}
        for each, truth in zip(self.asked, self.truths, strict=True):
            answer = await self._score(each.essay, each.text, model)
            real, tier = self._grades(model, each.essay, truth), answer.cache.tier
            tiers[each.name][tier] += 1
            scores[each.name][tier] += answer.score != real[0]
            changed[each.name][tier] += [answer.score, *(trait.score for trait in answer.traits)] != real
            if tier != "exact":
                self._forget(each.text)
        say(f"replay: {model} asked")
        return _summary(tiers, changed, scores)

    def _at(self, model: str, aim: float | None) -> dict[str, Any]:
        """Of the one-word edits: how many would be answered, and how many of these wrongly, at this aim.

        Without an aim the guard alone decides.
        """
        digest = self.desk.catalogue().models[model].artifact.digest
        limit = 1.0 if aim is None else self.cache.proof.limit(digest, aim)
        risks = [
            self._risk(model, each, truth)
            for each, truth in zip(self.asked, self.truths, strict=True)
            if each.name in ONE_WORD_EDITS
        ]
        answered = [changed for risk, changed in risks if risk <= limit]
        return {
            "aim": aim,
            "hit_rate": len(answered) / len(risks) if risks else None,
            "grade_changed": sum(answered),
            "answered": len(answered),
            "upper_bound": upper_bound(sum(answered), len(answered)),
        }

    def _risk(self, model: str, asked: Asked, truth: Runs) -> tuple[float, bool]:
        """The risk of a kept answer, and whether it would be wrong."""
        served = self.desk.catalogue().models[model]
        answers, original = self._answers(model, asked.essay), self.originals[asked.place]
        names = served.graph_names
        cheap = {name for name in names if self.cache.ledger.is_cheap(name, names, CHEAP_SHARE)}
        kept = answers.raw({name: truth[name] if name in cheap else original[name] for name in names})
        shifts = self.cache.proof.shifts(served.artifact.digest, 1, len(kept))
        num_tokens = len(self.cache.essay(normalize_text(asked.text)).tokens)
        risk = 1.0 if shifts is None else answers.risk(kept, shifts / shift_scale(num_tokens))
        return risk, answers.differ(kept, answers.raw(truth))

    def _answers(self, model: str, essay: ChosenEssay) -> Answers:
        catalogue = self.desk.catalogue()
        served = catalogue.models[model]
        return Answers(catalogue, served, catalogue.prompt(essay.prompt_id, served))

    def _grades(self, model: str, essay: ChosenEssay, runs: Runs) -> list[float]:
        """The score, and each trait's."""
        answers = self._answers(model, essay)
        return list(map(float, answers.grades(answers.raw(runs)[None])[0]))

    def _variants(self) -> Sequence[Asked]:
        made = []
        for place, essay in enumerate(self.kept):
            other = self.kept[place - 1].text
            for name in variant_names():
                text = variant(name, essay.essay_id, essay.text, other)
                # A change that this essay does not show, or in white space alone, is no change.
                if name in EXACT or (is_scorable(text) and normalize_text(text).split() != essay.text.split()):
                    made.append(Asked(name, essay, place, text))
        return [*made, *(Asked("another_essay", essay, -1, essay.text) for essay in self.proving)]

    def naive(self) -> dict[str, Any]:
        """The naive caches' part, on what `run` asked."""
        asked, truths, originals = self.asked, self.truths, self.originals
        embed = Embedder()
        cache = NaiveCache([embed(essay.text) for essay in self.kept])
        model = self.desk.catalogue().default_model
        right = [self._grades(model, each.essay, truth)[0] for each, truth in zip(asked, truths, strict=True)]
        given = [self._grades(model, essay, runs)[0] for essay, runs in zip(self.kept, originals, strict=True)]
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
            for each, score, (place, cosine) in zip(asked, right, found, strict=True):
                if cosine >= threshold:
                    hits[each.name] += 1
                    wrong[each.name] += given[place] != score
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

    async def _run_all(self, essay: ChosenEssay, text: str, mode: CacheMode) -> Runs:
        """Every graph, computed now."""
        models = list(self.desk.catalogue().models.values())
        prompt = self.desk.catalogue().prompt(essay.prompt_id, models[0])
        parts = await self.runs.collect(text, prompt, models, mode, _TIMEOUT_S)
        return {name: part.run for name, part in parts.items()}

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


Counts = dict[str, Counter[str]]
"""By variant and tier."""


def _summary(tiers: Counts, changed: Counts, scores: Counts) -> dict[str, Any]:
    exact, near = (_wrong(tiers, changed, scores, tier) for tier in ("exact", "near"))
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


def _wrong(tiers: Counts, changed: Counts, scores: Counts, tier: str) -> dict[str, Any]:
    """Answers of which any grade, a trait's too, was another; and those of which the score was."""
    answered = sum(counts[tier] for counts in tiers.values())
    grades, score = (sum(counts[tier] for counts in wrong.values()) for wrong in (changed, scores))
    return {
        "answered": answered,
        "grade_changed": grades,
        "share": grades / answered if answered else None,
        "upper_bound": upper_bound(grades, answered),
        "score_changed": score,
        "score_upper_bound": upper_bound(score, answered),
    }
