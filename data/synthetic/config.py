"""Section `synthesize` of params.yaml: which kinds of synthetic essays are made, how many, and what is kept."""

from pydantic import Field, model_validator

from data.synthetic.children import KINDS, Kind
from essays.params import Section


class ContinueConfig(Section):
    """A language model continues the opening of a train essay with a scarce score."""

    model: str
    """Installed package or folder with a causal language model."""
    num_children: int = Field(ge=1)
    """Continuations begun in each fold, at most; some are refused afterwards."""
    most_per_parent: int = Field(ge=1)
    """Continuations of one essay."""
    opening_share: float = Field(gt=0, lt=1)
    """Share of the parent's words that are kept, at least; more where `most_new_words` leaves more."""
    most_new_words: int = Field(ge=1)
    """Words written, at most: a child is as long as its parent, since length is a part of the score."""
    temperature: float = Field(gt=0)
    """Of sampling; below 1 the likely becomes likelier."""
    top_share: float = Field(gt=0, le=1)
    """The nucleus: the likeliest tokens that hold this share."""
    batch_size: int = Field(ge=1)
    """Continuations written at once."""
    length_tolerance: float = Field(gt=0)
    """Share by which a child's number of words may miss its parent's."""
    most_repeated: float = Field(gt=0, le=1)
    """Share of a child's five-word runs that may have been there before."""
    perplexity: tuple[float, float]
    """Lowest and highest perplexity of what was written, under the model itself."""

    @model_validator(mode="after")
    def _ordered(self) -> "ContinueConfig":
        if not 1 <= self.perplexity[0] < self.perplexity[1]:
            raise ValueError("perplexity must be two numbers, the first from 1 on and below the second")
        return self


class VaryConfig(Section):
    """Changes that leave a score as it is."""

    num_children: int = Field(ge=1)
    """Children in each fold, at most one of an essay."""


class DegradeConfig(Section):
    """Changes that lower a score."""

    num_children: int = Field(ge=1)
    """Children in each fold, at most one of an essay."""
    drop: float = Field(gt=0, lt=1)
    """By how much a mild one lowers the unit score; a hard one takes twice as much."""


class TeacherConfig(Section):
    """Real unlabelled essays with the scores of a model that was trained on the fold's train part."""

    model: str
    """A section of `train`: the teacher."""
    num_children: int = Field(ge=1)
    """Essays in each fold, at most."""
    also_on: tuple[str, ...]
    """Prompts without unlabelled essays of their own that take those of other prompts; may be empty."""


class SynthesizeConfig(Section):
    """All kinds; those that are not chosen make nothing."""

    kinds: tuple[Kind, ...]
    """Those that models are trained with."""
    seed: int
    """Chooses parents, and what becomes of them."""
    continue_: ContinueConfig = Field(alias="continue")
    vary: VaryConfig
    degrade: DegradeConfig
    teacher: TeacherConfig

    @model_validator(mode="after")
    def _each_once(self) -> "SynthesizeConfig":
        if list(self.kinds) != [kind for kind in KINDS if kind in self.kinds]:
            raise ValueError(f"kinds must be some of {', '.join(KINDS)}, each once and in this order")
        return self
