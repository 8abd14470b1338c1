"""What the page's template is given: words, and positions on a drawn scale. No HTML here, no arithmetic there."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from essays.prompts import Prompt
from essays.scores import ScoreRange
from essays.source_texts import answers_source
from serving.catalogue import Catalogue, ServedModel
from serving.errors import ErrorDetail
from serving.schemas import CacheTier, ComparisonResponse, Flag, ModelIdentity, ModelState, ScoreResponse, Timing
from serving.web.explanation import ExplanationView
from serving.web.traits import TraitView, range_in_words, trait_views

# The drawing leaves room at both ends for half a marker; positions are in percent of its width.
_FIRST, _LAST = 5.0, 95.0
_MOST_LABELS = 7
_SOURCE = "The essay answers a source text that its writer had read; the models see the essay alone."
_CACHE: dict[CacheTier, str] = {
    "exact": "this very essay was scored before",
    "near": "scored before, with at most two words different",
    "miss": "computed now",
    "bypass": "computed now, as asked",
    "off": "computed now (no cache)",
}
_BANDS = ("near the bottom", "in the lower part", "in the middle", "in the upper part", "near the top")
"""Fifths of a scale."""
_WHAT_TO_DO = {
    "truncated": "Judge the part that was left out yourself.",
    "wide_interval": "Take the shaded band for the answer, not the number.",
    "models_disagree": "Compare what each says below, and let your own reading decide.",
}
"""By flag; what a new flag asks for stands in its own words."""
_KINDS = {
    "lexical": "letters, words and length",
    "lstm": "a recurrent network",
    "trees": "decision trees on letters, words and length",
    "probe": "a transformer as it came",
    "encoder": "a transformer that learned from essays",
    "decoder": "a language model",
    "ensemble": "all together",
}
_WRITERS = {"ellipse": "English learners (ELLIPSE)", "asap-aes": "US students (ASAP)"}
"""Whose writing tasks they are, by corpus."""


@dataclass(frozen=True)
class FormValues:
    """What stands in the form."""

    essay: str = ""
    prompt_id: str = ""
    model: str = ""
    api_key: str = field(default="", repr=False)
    """Never shown again."""
    advisory: str = ""
    """`yes` from the button that asks for a score against the gate's advice."""
    explain: str = ""
    """`yes` from the button that asks what each sentence adds; `advice` where the score is advice alone."""

    @property
    def wants_advice(self) -> bool:
        """Whether a score is asked for whatever the gate finds."""
        return self.advisory == "yes" or self.explain == "advice"


@dataclass(frozen=True)
class Option:
    """A choice in a list."""

    value: str
    label: str
    detail: str
    chosen: bool
    prompt_ids: str = ""
    """Of a model: the writing tasks that it scores, with blanks between them."""
    details: str = ""
    """Of a model: what is known of it on each writing task, as a JSON object of sentences."""


@dataclass(frozen=True)
class OptionGroup:
    """Choices under one heading."""

    label: str
    options: list[Option]


@dataclass(frozen=True)
class Tick:
    """A mark on the scale, in percent of the drawing's width, with a label where there is room for one."""

    x: str
    label: str


@dataclass(frozen=True)
class Scale:
    """An answer drawn on its prompt's range."""

    ticks: list[Tick]
    score_x: str
    interval_x: str
    interval_width: str
    in_words: str
    """What a reader who cannot see the drawing hears."""


@dataclass(frozen=True)
class ModelAnswer:
    """One model's answer among the others."""

    name: str
    kind: str
    score: str
    interval: str
    agreement: str
    scale: Scale


@dataclass(frozen=True)
class ResultView:
    """The answer below the form."""

    task: str
    score: str
    low: str
    high: str
    band: str
    """Where on the scale, in words."""
    interval: str
    coverage: str
    hand_off: bool
    advisory: bool
    """Whether it should be no score at all."""
    flags: list[str]
    scale: Scale
    traits: list[TraitView]
    traits_in_words: str
    others: list[ModelAnswer]
    spread: str
    model: str
    version: str
    agreement: str
    """QWK on held-out essays of this prompt, beside that of two people where it is known; or that it is not known."""
    runtime: str
    read: str
    timing: str
    timing_parts: str
    cache: str
    explanation: ExplanationView | None = None
    """What each sentence adds, where that was asked for."""
    unexplained: str = ""
    """Why there is none, although it was asked for."""


@dataclass(frozen=True)
class PageView:
    """Everything that the template shows."""

    values: FormValues
    prompts: list[OptionGroup] = field(default_factory=list)
    models: list[Option] = field(default_factory=list)
    result: ResultView | None = None
    errors: dict[str, str] = field(default_factory=dict)
    """By field of the form; under an empty name what belongs to none."""
    hint: str = ""
    can_advise: bool = False
    """Whether the essay may be scored all the same, as advice."""
    waiting: Sequence[ModelState] = ()
    """Where the models stand, while they are not all ready."""
    min_words: int = 0
    max_characters: int = 0
    asks_key: bool = False
    """Whether the form has a field for an API key."""
    max_file_bytes: int = 0
    page: str = "essay"

    @property
    def model_detail(self) -> str:
        """Of the chosen model, on the chosen writing task."""
        return "".join(option.detail for option in self.models if option.chosen)

    @property
    def max_file(self) -> str:
        """In megabytes."""
        return f"{self.max_file_bytes / 1_000_000:g} MB"

    @property
    def prompt_detail(self) -> str:
        """Of the chosen writing task."""
        return "".join(option.detail for group in self.prompts for option in group.options if option.chosen)

    @property
    def title(self) -> str:
        """For the window, with what happened first."""
        if self.errors:
            return "Not scored: Fairmark"
        return f"Score {self.result.score}: Fairmark" if self.result else "Fairmark: essay scores you can question"


@dataclass(frozen=True)
class ClassView:
    """What the page for a class is given."""

    prompts: list[OptionGroup]
    models: list[Option]
    max_batch_essays: int
    max_body_bytes: int
    asks_key: bool
    """Whether there is a field for an API key."""
    judges: bool
    """Whether the essays are marked, and the model is held against the marks."""

    @property
    def title(self) -> str:
        """For the window."""
        return "May I use it for my class? Fairmark" if self.judges else "Score a class: Fairmark"

    @property
    def page(self) -> str:
        """Which of the pages it is."""
        return "validity" if self.judges else "class"


def prompt_options(catalogue: Catalogue, chosen: str) -> list[OptionGroup]:
    """The writing tasks to choose from, by who wrote and whether they answered a text."""
    groups: dict[str, list[Option]] = {}
    for prompt in catalogue.prompts:
        bounds = prompt.score_range
        option = Option(
            value=prompt.prompt_id,
            label=f"{prompt.title} ({bounds.low:g} to {bounds.high:g})",
            detail=_describe(prompt),
            chosen=prompt.prompt_id == chosen,
        )
        groups.setdefault(_heading(prompt), []).append(option)
    return [OptionGroup(label, options) for label, options in groups.items()]


def model_options(
    catalogue: Catalogue,
    chosen: str,
    prompt_id: str,
    *,
    runtime_of: Callable[[ServedModel], ModelIdentity],
    seconds_of: Callable[[str], float | None],
) -> list[Option]:
    """The models to choose from, the default first; `seconds_of` says how long one took for an essay."""
    models = sorted(catalogue.models.values(), key=lambda model: model.name != catalogue.default_model)
    wanted = chosen or catalogue.default_model

    def option(model: ServedModel) -> Option:
        here = _speed(runtime_of(model).runtime, seconds_of(model.name))
        details = {
            each: f"{_sentence(_agreement(model.name, each, catalogue))} {here}" for each in model.manifest.prompt_ids
        }
        return Option(
            value=model.name,
            label=f"{model.name}: {_KINDS[model.manifest.kind]}",
            detail=details.get(prompt_id, ""),
            chosen=model.name == wanted,
            prompt_ids=" ".join(model.manifest.prompt_ids),
            details=json.dumps(details),
        )

    return [option(model) for model in models]


def result_view(comparison: ComparisonResponse, chosen: str, catalogue: Catalogue) -> ResultView:
    """The chosen model's answer, with the others beside it."""
    answer = next(result for result in comparison.results if result.model.name == chosen)
    timing = answer.timing_ms
    traits = trait_views(answer, comparison.prompt_id, catalogue)
    return ResultView(
        task=next(prompt.title for prompt in catalogue.prompts if prompt.prompt_id == comparison.prompt_id),
        score=f"{answer.score:g}",
        low=f"{answer.score_range.low:g}",
        high=f"{answer.score_range.high:g}",
        band=_BANDS[min(int(answer.unit_score * len(_BANDS)), len(_BANDS) - 1)],
        interval=_interval(answer),
        coverage=f"{answer.coverage:.0%}",
        hand_off=answer.hand_off,
        advisory=answer.advisory,
        flags=[_advice(flag) for flag in answer.flags],
        scale=scale_of(answer),
        traits=traits,
        traits_in_words=range_in_words(traits) if traits else "",
        others=[
            _model_answer(result, comparison.prompt_id, catalogue)
            for result in comparison.results
            if result.model.name != chosen
        ],
        spread=_spread(comparison),
        model=answer.model.name,
        version=answer.model.version,
        runtime=answer.model.runtime,
        agreement=_agreement(chosen, comparison.prompt_id, catalogue),
        read="a part of the essay" if answer.truncated else "the whole essay",
        timing=f"{timing.total:.0f} ms",
        timing_parts=_timing_parts(timing, is_ensemble=catalogue.models[chosen].is_ensemble),
        cache=_CACHE[answer.cache.tier],
    )


def errors_of(detail: ErrorDetail) -> dict[str, str]:
    """An error beside its field of the form, or above the form when it belongs to none."""
    place = detail.field if detail.field in ("essay", "prompt_id", "model", "file", "api_key") else ""
    return {place or "": _sentence(detail.message)}


def scale_of(answer: ScoreResponse) -> Scale:
    """Where score and interval lie on the drawn range."""
    score_range = answer.score_range
    left, right = (_position(score_range, bound) for bound in answer.interval)
    return Scale(
        ticks=_ticks(score_range),
        score_x=_percent(_position(score_range, answer.score)),
        interval_x=_percent(left),
        interval_width=_percent(right - left),
        in_words=f"Score {answer.score:g} on a scale from {score_range.low:g} to {score_range.high:g};"
        f" likely between {answer.interval[0]:g} and {answer.interval[1]:g}",
    )


def _describe(prompt: Prompt) -> str:
    bounds = prompt.score_range
    scale = f"Scored from {bounds.low:g} to {bounds.high:g} in steps of {bounds.step:g}"
    learned = f"{prompt.description} {scale}, as learned from essays by {prompt.writers}."
    return f"{learned} {_SOURCE}" if answers_source(prompt.prompt_id) else learned


def _heading(prompt: Prompt) -> str:
    writers = _WRITERS.get(prompt.corpus, prompt.corpus)
    return f"{writers}, answers to a text" if answers_source(prompt.prompt_id) else writers


def _model_answer(result: ScoreResponse, prompt_id: str, catalogue: Catalogue) -> ModelAnswer:
    return ModelAnswer(
        name=result.model.name,
        kind=_KINDS[catalogue.models[result.model.name].manifest.kind],
        score=f"{result.score:g}",
        interval=_interval(result),
        agreement=_agreement(result.model.name, prompt_id, catalogue),
        scale=scale_of(result),
    )


def _speed(runtime: str, seconds: float | None) -> str:
    if seconds is None:
        return f"Runs on {runtime}."
    return f"Takes about {max(1, round(seconds * 1000)):,} ms an essay here, on {runtime}."


def reason_of(detail: ErrorDetail) -> str:
    """An error as a sentence, with what to do."""
    return " ".join(map(_sentence, filter(None, (detail.message, detail.hint))))


def _advice(flag: Flag) -> str:
    return f"{flag.message} {_WHAT_TO_DO.get(flag.code, '')}".strip()


def _sentence(words: str) -> str:
    return f"{words[:1].upper()}{words[1:]}."


def _agreement(name: str, prompt_id: str, catalogue: Catalogue) -> str:
    for measured in catalogue.models[name].manifest.metrics:
        if measured.prompt_id == prompt_id:
            people = "" if measured.human_qwk is None else f" (two people: {measured.human_qwk:.2f})"
            elsewhere = ", measured on a model of its kind" if measured.measured_on else ""
            return f"agreement with people {measured.qwk:.2f}{people}{elsewhere}"
    return "agreement with people not measured"


def _spread(comparison: ComparisonResponse) -> str:
    apart = comparison.disagreement
    if len(comparison.results) < 2:
        return ""
    if apart.lowest == apart.highest:
        return f"All {len(comparison.results)} models give {apart.lowest:g}."
    return (
        f"The models' scores lie between {apart.lowest:g} and {apart.highest:g};"
        f" before rounding they are {apart.unit_spread:.0%} of the scale apart."
    )


def _timing_parts(timing: Timing, *, is_ensemble: bool) -> str:
    parts = f"{timing.queue:.0f} ms waiting, {timing.tokenize:.1f} ms reading, {timing.infer:.0f} ms computing"
    # Members run side by side and each part is the slowest's: together they may be more than the whole.
    return f"its models at most {parts}" if is_ensemble else parts


def _interval(answer: ScoreResponse) -> str:
    low, high = answer.interval
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def _ticks(score_range: ScoreRange) -> list[Tick]:
    grades = [float(grade) for grade in score_range.grades()]
    every = _label_every(len(grades))
    # Every grade is a mark, unless they would touch.
    marked = grades if len(grades) <= 21 else grades[::every]
    return [
        Tick(_percent(_position(score_range, grade)), f"{grade:g}" if grades.index(grade) % every == 0 else "")
        for grade in marked
    ]


def _label_every(num_grades: int) -> int:
    """The smallest distance between labelled grades that labels both ends with few labels in all."""
    steps = num_grades - 1
    fitting = [every for every in range(1, steps + 1) if steps % every == 0 and steps // every < _MOST_LABELS]
    return min(fitting)


def _position(score_range: ScoreRange, score: float) -> float:
    return _FIRST + (_LAST - _FIRST) * float(score_range.to_unit(score))


def _percent(position: float) -> str:
    return f"{position:.2f}%"
