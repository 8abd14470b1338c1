"""How an explanation is shown: the essay with its sentences marked, and the same as a table."""

from dataclasses import dataclass

from serving.schemas import ExplanationResponse

_LEVELS = (2 / 3, 1 / 3, 0.1)
"""Shares of the largest contribution from which a sentence is marked strongly, plainly, faintly."""
_LEAST_OF_SCALE = 0.005
"""Share of the scale below which nothing is marked: models are not that exact."""
_STRENGTHS = ("strongly", "", "a little")


@dataclass(frozen=True)
class Piece:
    """A sentence, or a passage."""

    text: str
    points: str
    """With its sign, on the prompt's scale."""
    mark: str
    """Class of its mark: `adds-3` to `adds-1`, `takes-3` to `takes-1`, or nothing."""
    meaning: str
    """What the mark says, for who cannot see it; empty without one."""


@dataclass(frozen=True)
class ExplanationView:
    """The explanation below a result."""

    model: str
    pieces: list[Piece]

    @property
    def is_flat(self) -> bool:
        """Whether no sentence matters enough to be marked."""
        return not any(piece.mark for piece in self.pieces)


def explanation_view(explanation: ExplanationResponse) -> ExplanationView:
    """The explanation, with marks."""
    bounds = explanation.result.score_range
    largest = max(abs(sentence.points) for sentence in explanation.sentences)
    least = _LEAST_OF_SCALE * (bounds.high - bounds.low)
    pieces = [_piece(sentence.text, sentence.points, largest, least) for sentence in explanation.sentences]
    return ExplanationView(explanation.result.model.name, pieces)


def _piece(text: str, points: float, largest: float, least: float) -> Piece:
    shown = f"{points:+.2f}".replace("-", "−")
    fitting = [place for place, share in enumerate(_LEVELS) if abs(points) >= max(share * largest, least)]
    if not fitting:
        return Piece(text, shown, "", "")
    kind, verb = ("adds", "raises") if points > 0 else ("takes", "lowers")
    meaning = " ".join(filter(None, (_STRENGTHS[fitting[0]], verb, f"the score: {shown}")))
    return Piece(text, shown, f"{kind}-{len(_LEVELS) - fitting[0]}", meaning)
