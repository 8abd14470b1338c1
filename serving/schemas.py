"""What the HTTP calls take and give, as closed pydantic types; the OpenAPI document is made from them.

A JSON number may stand for a float, and nothing else is converted: `strict`, no extra fields, no NaN.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from essays.scores import ScoreRange
from serving.errors import MAX_NAME_CHARACTERS, ErrorDetail

DEFAULT_MODEL = "ensemble"
_EXAMPLE = (
    "My school is small, and I like it. The teachers know every pupil by name, so when somebody is sad they see it."
    " However, we have no laboratory, and I want to learn chemistry."
)
MAX_MARKED_ESSAYS = 5_000
"""In one validity report; of larger ones a sample says as much."""


class Schema(BaseModel):
    """Closed, frozen and strict, with its docstrings in the OpenAPI document."""

    model_config = ConfigDict(
        frozen=True, strict=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True
    )


class ComparisonRequest(Schema):
    """An essay to be scored by every model."""

    essay: str = Field(examples=[_EXAMPLE])
    """The whole text, as written; line ends and composed or decomposed accents make no difference."""
    prompt_id: str = Field(max_length=MAX_NAME_CHARACTERS, examples=["ellipse-overall"])
    """The writing task: one of `GET /prompts`."""
    advisory: bool = False
    """Whether an essay that should not be scored gets a score all the same, marked as advice, beside its reasons."""


class ScoreRequest(ComparisonRequest):
    """An essay to be scored."""

    model: str = Field(default=DEFAULT_MODEL, max_length=MAX_NAME_CHARACTERS)
    """The model to ask: one of `GET /models`; `NAME@VERSION` refuses another version than this."""


class BatchRequest(Schema):
    """Essays to be scored one by one; at most as many as `GET /status` says."""

    essays: list[ScoreRequest] = Field(min_length=1)


class ModelIdentity(Schema):
    """Which model answered, down to its bytes."""

    name: str
    version: str
    digest: str
    """sha256 of the published bundle."""
    runtime: str
    """What ran its graph, with its version."""


class Flag(Schema):
    """A reason to look twice at a score."""

    code: Literal[
        "too_short",
        "language",
        "gibberish",
        "repetitive",
        "copied_prompt",
        "off_topic",
        "injection",
        "near_duplicate",
        "truncated",
        "wide_interval",
        "models_disagree",
    ]
    message: str
    """The reason in a sentence."""


NearState = Literal["off", "filling", "trying", "does_not_pay", "proving", "on", "alarm"]
CacheTier = Literal["exact", "near", "miss", "bypass", "off"]


class CacheMarker(Schema):
    """Where the score came from. An ensemble's is its members': one near is near, else one computed is a miss."""

    tier: CacheTier = "off"
    """`exact`: of this essay, kept. `near`: of an essay that differs by at most two words. `miss`: computed now.
    `bypass`: computed, since the request asked for it. `off`: there is no cache."""
    age_s: float | None = None
    """Seconds since the score was computed; null when it was computed for this request."""


class Timing(Schema):
    """Where the time went, in milliseconds. An ensemble's members run side by side: each part is the slowest's."""

    queue: float
    """Waiting for a free lane."""
    tokenize: float
    infer: float
    total: float
    """From the parsed request to the answer."""


class TraitScore(Schema):
    """A part of the writing, scored beside the whole."""

    trait: str
    """As the corpus calls it: `cohesion`."""
    score: float
    """On the trait's scale, which `GET /models` names; for ELLIPSE it is the prompt's."""
    low: float
    """Lowest grade that a human score of the trait is likely to have, with the answer's `coverage`."""
    high: float
    """Highest such grade."""


class ScoreResponse(Schema):
    """A score and how far to trust it."""

    score: float
    """On the prompt's scale, one of its grades."""
    score_range: ScoreRange
    unit_score: float = Field(ge=0, le=1)
    """The calibrated score before rounding, from 0 (lowest) to 1 (highest)."""
    interval: tuple[float, float]
    """Lowest and highest grade that a human score is likely to have."""
    coverage: float
    """The share of human scores that intervals such as this are built to hold."""
    traits: list[TraitScore] = []
    """Empty where the model, or a member of the ensemble, scores none on this prompt."""
    flags: list[Flag]
    """Reasons to look twice; empty for an ordinary essay."""
    hand_off: bool
    """Whether a person should score this essay: true as soon as there is a flag."""
    advisory: bool
    """Whether this should be no score, and was asked for as advice: its flags begin with the reasons against it."""
    truncated: bool
    """Whether a part of the essay was too long for the model to see."""
    tokens_used: int
    """Tokens (or n-grams) that the model saw; an ensemble gives its members' largest number."""
    model: ModelIdentity
    cache: CacheMarker = CacheMarker()
    timing_ms: Timing


class BatchItem(Schema):
    """One essay's result or, in its place, its error."""

    result: ScoreResponse | None = None
    error: ErrorDetail | None = None


class BatchResponse(Schema):
    """Results in the order of the request."""

    results: list[BatchItem]


class Disagreement(Schema):
    """How far the models are apart."""

    lowest: float
    """The lowest of their scores, on the prompt's scale."""
    highest: float
    unit_spread: float
    """Highest minus lowest calibrated unit score."""


class ComparisonResponse(Schema):
    """Every model's answer to one essay."""

    prompt_id: str
    results: list[ScoreResponse]
    """In the order of `GET /models`."""
    disagreement: Disagreement


class SentenceContribution(Schema):
    """A sentence and what it adds."""

    text: str
    """With the white space behind it: all texts joined are the essay in its normal form. A very long sentence is cut;
    of an essay with very many, neighbours are taken together."""
    points: float
    """How far the score falls when the sentence is left out, on the prompt's scale, neither rounded nor cut off at its
    ends; negative where the score rises. Sentences say much the same together: points do not add up to the score."""


class ExplanationResponse(Schema):
    """A score, and what each sentence adds to it by this model."""

    result: ScoreResponse
    sentences: list[SentenceContribution]
    """In the order of the essay."""


RaterScore = Annotated[float, Field(ge=-1e6, le=1e6)]


class MarkedEssay(Schema):
    """What the service gave an essay, and what people gave it; no text."""

    score: float
    """The service's, as answered."""
    unit_score: float = Field(ge=0, le=1)
    interval: tuple[float, float]
    human_score: float
    """The teacher's, on the prompt's scale."""
    rater_scores: tuple[RaterScore, RaterScore] | None = None
    """Two raters' own scores, on any scale of theirs, where there are two."""


class ValidityRequest(Schema):
    """A class that its teacher marked, scored by one model."""

    prompt_id: str = Field(max_length=MAX_NAME_CHARACTERS)
    model: str = Field(default=DEFAULT_MODEL, max_length=MAX_NAME_CHARACTERS)
    essays: list[MarkedEssay] = Field(min_length=1, max_length=MAX_MARKED_ESSAYS)


Verdict = Literal["met", "missed", "cannot_tell"]
Use = Literal["yes", "likely", "unlikely", "no", "cannot_tell"]


class BarVerdict(Schema):
    """One bar of the validity report, held against one class."""

    bar: str
    title: str
    """What it is for, in words."""
    verdict: Verdict
    sure: bool
    """Whether the whole interval says the same."""
    num_essays: int
    """That it was measured on: of the class, or of a band of its scores."""
    value: float | None
    low: float | None
    """Of the interval that holds the true value 95 % of the time."""
    high: float | None
    at_least: float | None
    """What is asked; null where that end is open."""
    at_most: float | None
    found: str
    """The number in words."""
    asked: str


class ValidityResponse(Schema):
    """Whether a model may be used for a class, by the bars of the validity report."""

    prompt_id: str
    model: ModelIdentity
    num_essays: int
    use: Use
    answer: str
    """The same in words, with the reason."""
    bars: list[BarVerdict]
    """Those that apply."""


class PromptQuality(Schema):
    """How well a model agreed with people on held-out essays of one prompt."""

    prompt_id: str
    num_essays: int
    qwk: float
    """Quadratic weighted kappa with the human score: 0 is chance, 1 is full agreement."""
    qwk_interval: tuple[float, float]
    """95 % bootstrap interval."""
    human_qwk: float | None
    """Agreement of two human raters on the same corpus, where it is known."""
    measured_on: str | None
    """The run of another model of this kind that it was measured on, where this one was trained on every essay."""


class TraitInfo(Schema):
    """A trait that a model scores, and how well it agreed with people; nulls where that was not measured."""

    trait: str
    prompt_id: str
    score_range: ScoreRange
    num_essays: int | None
    qwk: float | None
    qwk_interval: tuple[float, float] | None
    """95 % bootstrap interval."""
    holistic_qwk: float | None
    """Of the model's holistic score in the trait's place."""
    better_than_holistic: bool | None
    """Whether the trait's own score surely agrees better; where not, it says no more than the holistic score."""


class MemberWeights(Schema):
    """A part of an ensemble."""

    name: str
    version: str
    weights: dict[str, float]
    """By prompt."""


class CorpusInfo(Schema):
    """Essays that a model learned from."""

    name: str
    licence: str


class ModelInfo(Schema):
    """A model that is served."""

    name: str
    version: str
    digest: str
    kind: str
    runtime: str
    precision: str | None
    """Of its numbers, as it runs; null for an ensemble, which has none of its own."""
    precisions: list[str]
    """Those that it may be served at: fp32, and what kept its grades when it was published."""
    size_bytes: int
    """Of its files."""
    prompts: list[PromptQuality]
    not_measured: list[str]
    """Prompts that it scores, of which no agreement is known."""
    traits: list[TraitInfo] = []
    """Beside the holistic score; an ensemble answers with those of the member that has them."""
    members: list[MemberWeights]
    corpora: list[CorpusInfo]
    git_commit: str
    """The commit of the code that trained it."""
    card: str
    """The model card, in Markdown."""


class ModelsResponse(Schema):
    """Every model that is served."""

    default: str
    """The model that the page asks first."""
    models: list[ModelInfo]


class PromptInfo(Schema):
    """A writing task that can be scored."""

    prompt_id: str
    title: str
    description: str
    writers: str
    """Who wrote the essays that the models learned from."""
    score_range: ScoreRange
    answers_source: bool
    """Whether writers had a text before them, which the models do not see."""
    models: list[str]
    """The models that score it."""


class PromptsResponse(Schema):
    """Every writing task that can be scored."""

    prompts: list[PromptInfo]


class ModelState(Schema):
    """Where a model stands on its way to being served."""

    name: str
    state: Literal["waiting", "fetching", "loading", "warming", "ready", "failed"]
    detail: str | None = None
    """The reason, when it failed or waits for something."""


class QueueInfo(Schema):
    """Work in hand."""

    lanes: int
    """Essays that are scored at the same moment."""
    open_jobs: int
    """Runs of a model that wait or go on now; an ensemble takes one for each member."""
    max_open_jobs: int
    """Beyond this, requests get 429."""


class NearInfo(Schema):
    """How answers for near-duplicates stand, for one model."""

    state: NearState
    """`trying`: not yet known whether it pays. `proving`: every near-duplicate is scored anyway. `on`: handed out.
    `alarm`: closed for good, since too many grades would have changed."""
    pays: bool | None
    """Whether look-ups save more time than they cost; null while nobody knows."""
    lookups: int
    found: int
    lookup_s: float
    unsteady: int
    """Found, but scored, since the grade stood too near to another."""
    verified: int
    """Lately scored anyway, by this and other instances."""
    disagreed: int
    """Of these, with another grade."""
    bound: float
    """Upper 95 % bound of the share of changed grades."""
    gap: float | None
    """How far one word of 400 moves a raw unit score, at most, 99 % of the time; null while that is not known."""
    alarm: str | None


class ModelCacheInfo(Schema):
    """What the cache does for one model, since this instance started."""

    model: str
    exact: int
    """Runs that were not needed, since this essay's was kept."""
    near: int
    computed: int
    bypassed: int
    hit_rate: float | None
    saved_s: float
    """Time of the runs that were not needed."""
    lookup_s: float
    """Time of all look-ups."""
    mean_run_s: float
    """Time of one run."""
    near_tier: NearInfo


class CacheInfo(Schema):
    """The cache, as an operator asks for it."""

    store: Literal["off", "embedded", "postgresql"]
    working: bool
    fault: str | None
    """What is wrong, while something is; every score is computed then."""
    entries: int | None
    """Essays kept, by all instances that share the store."""
    max_entries: int
    ttl_s: float
    near: Literal["auto", "on", "off"]
    metric: str
    faults: dict[str, int]
    """How often something failed since the start, by kind."""
    models: list[ModelCacheInfo]


class PurgeRequest(Schema):
    """What to forget: the scores that fit all that is given. At least one must be; `everything` must be said."""

    model: str | None = Field(default=None, max_length=MAX_NAME_CHARACTERS)
    """Of this model, in every version; what was verified of it too, and with it an alarm."""
    prompt_id: str | None = Field(default=None, max_length=MAX_NAME_CHARACTERS)
    """On this prompt."""
    essay: str | None = None
    """Of exactly this essay."""
    everything: bool = False


class PurgeResponse(Schema):
    """What was forgotten."""

    purged: int
    """Runs of single models; an ensemble's answer is made of its members' runs."""


class Limits(Schema):
    """What one request may ask for."""

    max_body_bytes: int
    max_characters: int
    """Of an essay."""
    min_words: int
    max_batch_essays: int
    timeout_s: float
    """For one essay."""
    max_explained_parts: int
    """Sentences, or passages, in an explanation."""


class UpdateInfo(Schema):
    """What became of the last change of champions; until a set is warm, or when it is refused, the last one stays."""

    state: Literal["none", "loading", "served", "refused"]
    """`none`: the models are those of the start."""
    reason: str | None = None
    """Why it was refused."""
    num_switches: int = 0
    """Changes that were served, since this worker process began."""
    models: list[ModelState] = []
    """Where its models stand, while they are loaded or after they were refused."""


class StatusResponse(Schema):
    """The state of the service."""

    ready: bool
    models: list[ModelState]
    update: UpdateInfo
    """The last change of champions."""
    runtimes: dict[str, str]
    """What runs each model's graph, with version, device and precision; an ensemble has none of its own."""
    uptime_s: float
    queue: QueueInfo | None
    """null while nothing can be scored yet."""
    cache: CacheInfo
    limits: Limits
    versions: dict[str, str]
    """Of the software that computes scores."""


class DriftBin(Schema):
    """Essays whose quantity lies between two values."""

    low: float | None
    """The least value of the bin; null where everything below `high` is in it."""
    high: float | None
    """What its values are below; null where everything from `low` on is in it."""
    expected: float
    """The share of essays that the models were made for, from 0 to 1."""
    found: float | None
    """The share of the last essays; null while there are too few to say."""


class QuantityDrift(Schema):
    """How one quantity of the last essays compares with essays that the models were made for."""

    quantity: Literal["words", "unknown_words", "topic_distance", "unit_score"]
    title: str
    """The same in words."""
    model: str | None
    """Whose scores they are; null for what the text alone says."""
    num_essays: int
    """The last ones, as many as are looked at."""
    drifted: bool | None
    """Whether PSI or KS passes its bound; null while there are too few essays to say."""
    psi: float | None
    """Population stability index."""
    psi_bound: float | None
    """What it must pass: more than chance with so many essays, and enough to matter."""
    ks: float | None
    """Largest distance of cumulated shares."""
    ks_bound: float | None
    num_reference: int
    """Held-out essays that the last ones are compared with."""
    bins: list[DriftBin]
    """Both distributions, in ascending order."""


class PromptDrift(Schema):
    """How the last essays on one prompt compare."""

    prompt_id: str
    drifted: bool
    """Whether any quantity has."""
    quantities: list[QuantityDrift]


class DriftResponse(Schema):
    """Whether essays are still like those that the models were made for."""

    drifted: bool
    least_essays: int
    """With fewer nothing is said of a quantity."""
    prompts: list[PromptDrift]
    """Those of which a served bundle brings a reference."""


class ReadinessResponse(Schema):
    """Whether requests may be sent here."""

    ready: bool
    models: list[ModelState]
    reason: str | None = None
    """What the service waits for, where it is no single model."""
