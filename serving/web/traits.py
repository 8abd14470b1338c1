"""The page's words for traits: what each is, its score and interval, and what that is worth."""

from collections.abc import Sequence
from dataclasses import dataclass

from essays.traits import TraitQuality
from serving.catalogue import Catalogue
from serving.schemas import ScoreResponse, TraitScore
from serving.traits import TraitSource, trait_source

_MEANINGS = {
    "cohesion": "how ideas hang together, within and between sentences",
    "syntax": "sentences: their variety and how well they are built",
    "vocabulary": "words: their range and how well they are chosen",
    "phraseology": "phrases that writers of English use, and how natural they sound",
    "grammar": "agreement, tenses, articles and other rules",
    "conventions": "spelling, capital letters and punctuation",
}
"""In our own words; a trait of another corpus stands under its name alone."""
_NO_BETTER = "no better than the score as a whole in its place"


@dataclass(frozen=True)
class TraitView:
    """One part of the writing."""

    name: str
    meaning: str
    score: str
    interval: str
    agreement: str
    """With people on held-out essays, and whether the whole score would do as well."""


def trait_views(answer: ScoreResponse, prompt_id: str, catalogue: Catalogue) -> list[TraitView]:
    """Every trait of an answer, in its order; empty where it has none."""
    source = trait_source(catalogue, catalogue.models[answer.model.name], prompt_id)
    return [_view(score, source) for score in answer.traits] if source else []


def _view(score: TraitScore, source: TraitSource) -> TraitView:
    quality = next(trait.quality for trait in source.traits.traits if trait.name == score.trait)
    return TraitView(
        name=f"{score.trait[:1].upper()}{score.trait[1:]}",
        meaning=_MEANINGS.get(score.trait, ""),
        score=f"{score.score:g}",
        interval=f"{score.low:g}" if score.low == score.high else f"{score.low:g} to {score.high:g}",
        agreement=_agreement(quality),
    )


def _agreement(quality: TraitQuality | None) -> str:
    if quality is None:
        return "agreement with people not measured"
    agreement = f"agreement with people {quality.qwk:.2f}"
    return agreement if quality.beats_holistic else f"{agreement}, {_NO_BETTER}"


def range_in_words(views: Sequence[TraitView]) -> str:
    """A sentence on how far apart the parts are."""
    scores = sorted({float(view.score) for view in views})
    if len(scores) == 1:
        return f"All {len(views)} parts get {scores[0]:g}."
    return f"The parts get from {scores[0]:g} to {scores[-1]:g}; differences within an interval mean little."
