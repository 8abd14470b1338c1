"""What the service answers, as types. Fields that a newer service adds are ignored, so an older client goes on."""

from pydantic import BaseModel, ConfigDict


class Answer(BaseModel):
    """Frozen, and open for what is not known yet."""

    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)


class ErrorDetail(Answer):
    """What was wrong with a request or with one essay."""

    code: str
    """Which kind of error, for programs."""
    message: str
    """What is wrong and what was expected, in a sentence."""
    field: str | None = None
    """The field at fault."""
    hint: str | None = None
    """What to do next."""


class ScoreRange(Answer):
    """The scores of a prompt: from `low` to `high` in equal steps."""

    low: float
    high: float
    step: float = 1.0


class ModelIdentity(Answer):
    """Which model answered."""

    name: str
    version: str
    digest: str
    """sha256 of the published bundle."""
    runtime: str


class Flag(Answer):
    """A reason to look twice at a score."""

    code: str
    message: str


class CacheMarker(Answer):
    """Where the score came from."""

    tier: str = "off"
    age_s: float | None = None
    """Seconds since it was computed; none when it was computed for this request."""


class Timing(Answer):
    """Where the time went, in milliseconds."""

    queue: float
    tokenize: float
    infer: float
    total: float


class TraitScore(Answer):
    """A part of the writing, scored beside the whole."""

    trait: str
    """As the corpus calls it: `cohesion`."""
    score: float
    low: float
    """Lowest grade that a human score of it is likely to have."""
    high: float


class Score(Answer):
    """A score and how far to trust it."""

    score: float
    """On the prompt's scale."""
    score_range: ScoreRange
    unit_score: float
    """The calibrated score before rounding, from 0 (lowest) to 1 (highest)."""
    interval: tuple[float, float]
    """Lowest and highest grade that a human score is likely to have."""
    coverage: float
    """The share of human scores that such intervals are built to hold."""
    traits: list[TraitScore] = []
    """Empty where the model scores none on this prompt, or the service is older than traits."""
    flags: list[Flag]
    hand_off: bool
    """Whether a person should score this essay."""
    truncated: bool
    tokens_used: int
    model: ModelIdentity
    cache: CacheMarker = CacheMarker()
    timing_ms: Timing


class BatchItem(Answer):
    """One essay's score or, in its place, its error."""

    result: Score | None = None
    error: ErrorDetail | None = None


class BatchAnswer(Answer):
    """In the order of the request."""

    results: list[BatchItem]


class Disagreement(Answer):
    """How far the models are apart."""

    lowest: float
    highest: float
    unit_spread: float
    """Highest minus lowest calibrated unit score."""


class Comparison(Answer):
    """Every model's answer to one essay."""

    prompt_id: str
    results: list[Score]
    disagreement: Disagreement


class BarVerdict(Answer):
    """One bar, held against one class."""

    bar: str
    title: str
    verdict: str
    """`met`, `missed` or `cannot_tell`."""
    sure: bool
    """Whether the whole interval says the same."""
    num_essays: int
    value: float | None
    low: float | None
    high: float | None
    found: str
    asked: str


class Validity(Answer):
    """Whether a model may be used for a class."""

    prompt_id: str
    model: ModelIdentity
    num_essays: int
    use: str
    """`yes`, `likely`, `unlikely`, `no` or `cannot_tell`."""
    answer: str
    """The same in words."""
    bars: list[BarVerdict]


class DriftBin(Answer):
    """Essays whose quantity lies between two values."""

    low: float | None
    high: float | None
    expected: float
    """The share of essays that the models were made for."""
    found: float | None = None
    """The share of the last essays; none while there are too few to say."""


class QuantityDrift(Answer):
    """How one quantity of the last essays compares with essays that the models were made for."""

    quantity: str
    title: str
    """The same in words."""
    model: str | None = None
    num_essays: int
    drifted: bool | None = None
    """Whether PSI or KS passes its bound; none while there are too few essays to say."""
    psi: float | None = None
    psi_bound: float | None = None
    ks: float | None = None
    ks_bound: float | None = None
    num_reference: int
    bins: list[DriftBin]


class PromptDrift(Answer):
    """How the last essays on one writing task compare."""

    prompt_id: str
    drifted: bool
    quantities: list[QuantityDrift]


class Drift(Answer):
    """Whether essays are still like those that the models were made for."""

    drifted: bool
    least_essays: int
    prompts: list[PromptDrift]


class PromptQuality(Answer):
    """How well a model agreed with people on held-out essays of one prompt."""

    prompt_id: str
    num_essays: int
    qwk: float
    """Quadratic weighted kappa: 0 is chance, 1 is full agreement."""
    qwk_interval: tuple[float, float]
    human_qwk: float | None = None


class TraitInfo(Answer):
    """A trait that a model scores, and how well it agreed with people."""

    trait: str
    prompt_id: str
    score_range: ScoreRange
    qwk: float | None = None
    """None where it was not measured."""
    better_than_holistic: bool | None = None
    """Whether it surely tells more than the holistic score in its place."""


class ModelInfo(Answer):
    """A model that is served."""

    name: str
    version: str
    kind: str
    runtime: str
    prompts: list[PromptQuality]
    not_measured: list[str]
    """Prompts that it scores, of which no agreement is known."""
    traits: list[TraitInfo] = []


class Models(Answer):
    """Every model that is served."""

    default: str
    models: list[ModelInfo]


class PromptInfo(Answer):
    """A writing task that can be scored."""

    prompt_id: str
    title: str
    description: str
    score_range: ScoreRange
    models: list[str]


class Prompts(Answer):
    """Every writing task that can be scored."""

    prompts: list[PromptInfo]


class ModelState(Answer):
    """Where a model stands on its way to being served."""

    name: str
    state: str
    detail: str | None = None


class Limits(Answer):
    """What one request may ask for."""

    max_body_bytes: int
    max_characters: int
    min_words: int
    max_batch_essays: int
    timeout_s: float


class Status(Answer):
    """The state of the service."""

    ready: bool
    models: list[ModelState]
    limits: Limits
    versions: dict[str, str]
