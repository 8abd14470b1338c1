"""The list inside a bundle: what the model is, what it expects, and the digest of every file.

Schema 1. A manifest only gains optional fields; anything else is a new schema version, which older code refuses.
"""

import hashlib
import math
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError, model_validator

from essays.digests import sha256_of
from essays.encoding import Encoding
from essays.ensemble import are_shares
from essays.errors import InvalidManifest
from essays.params import Section
from essays.traits import Traits

SCHEMA_VERSION: Literal[1] = 1
MANIFEST_FILE = "manifest.json"
CALIBRATION_FILE = "calibration.json"
GOLDEN_FILE = "golden.json"
CARD_FILE = "card.md"
GRAPH_FILE = "model.onnx"
OUTPUT_NAME = "raw_unit_score"
"""The output that every graph has, (B,)."""
TRAITS_OUTPUT_NAME = "raw_trait_scores"
"""The second output of a graph that scores traits, (B, traits)."""

Precision = Literal["fp32", "bf16", "int8"]
"""Of the numbers that a graph multiplies."""


class FileEntry(Section):
    """A file of the bundle."""

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    size_bytes: int = Field(ge=0)


class TensorSpec(Section):
    """An input or output of the graph."""

    name: str
    dtype: Literal["int64", "float32"]
    shape: tuple[int | str, ...]
    """Numbers are fixed, names are free."""


class Graph(Section):
    """One ONNX file, at one precision."""

    file: str
    precision: Precision
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


class Member(Section):
    """A model whose scores an ensemble mixes."""

    name: str
    version: str
    """The exact version that the weights were fitted for."""
    weights: dict[str, float]
    """By prompt id; non-negative, and over all members they sum to 1 for each prompt."""


class PromptMetrics(Section):
    """How well the model agreed with people on held-out essays of one prompt."""

    prompt_id: str
    num_essays: int
    qwk: float
    qwk_interval: tuple[float, float]
    """95 % bootstrap interval."""
    human_qwk: float | None = None
    """Rater 1 with rater 2 on the same corpus, where single ratings exist."""
    measured_on: str | None = None
    """The run that this was measured on, where the model itself has no test part; none where it has."""


class CorpusSource(Section):
    """Where training essays came from, and on what terms."""

    name: str
    licence: str


class TraitParity(Section):
    """How near the graph's traits come to the checkpoint's, on those of the compared essays that get traits."""

    max_gap: float = Field(ge=0)
    """Largest difference of raw unit scores of any trait, one essay at a time."""
    max_gap_batched: float = Field(ge=0)
    """Likewise between alone and in a batch of mixed lengths."""
    same_grade_share: float = Field(ge=0, le=1)
    """Share of grades, of all traits and essays, that both give alike."""


class Parity(Section):
    """How near the graphs come to the checkpoints that they were made from, on held-out essays."""

    num_essays: int = Field(gt=0)
    max_gap: float = Field(ge=0)
    """Largest difference of raw unit scores, one essay at a time."""
    max_gap_batched: float = Field(ge=0)
    """Largest difference of the graphs' raw unit scores between alone and in a batch of mixed lengths."""
    same_grade_share: float = Field(ge=0, le=1)
    """Share of essays that get the same grade from both."""
    traits: TraitParity | None = None
    """None where the model scores none."""


class TraitPrecision(Section):
    """What a precision below fp32 changes of one trait, measured on the same essays as the holistic score."""

    shift: float
    """Added to raw unit scores at this precision."""
    max_gap: float = Field(ge=0)
    """Largest difference of raw unit scores from the checkpoint's."""
    same_grade_share: float = Field(ge=0, le=1)
    """Share of essays that get the checkpoint's grade."""
    qwk_change: float
    """QWK with people minus the checkpoint's."""


class PrecisionParity(Section):
    """A precision below fp32 that passed the gate of `export.precisions`: what it changes on held-out essays.

    int8 is a graph of its own; bf16 is the fp32 graph, loaded so.
    """

    precision: Literal["bf16", "int8"]
    runtime: Literal["openvino"]
    """What it was measured on; another runtime rounds elsewhere, and is not covered."""
    shifts: dict[str, float]
    """By prompt: added to raw unit scores at this precision, which rounding the weights moves alike for all essays."""
    num_essays: int = Field(gt=0)
    """Other essays than those that the shifts were measured on."""
    max_gap: float = Field(ge=0)
    """Largest difference of raw unit scores from the checkpoint's, one essay at a time."""
    same_grade_share: float = Field(ge=0, le=1)
    """Share of essays that get the checkpoint's grade."""
    qwk_changes: dict[str, float]
    """By corpus: QWK with people, mean of its prompts, minus the checkpoint's."""
    traits: dict[str, TraitPrecision] = Field(default_factory=dict)
    """By trait; empty where the model scores none."""


class RunMemory(Section):
    """What a large model's graph takes, as an upper estimate; models that list none take too little to be asked for."""

    load_bytes: int = Field(gt=0)
    """While it is loaded, weights included."""
    bytes_per_token: int = Field(ge=0)
    """While it runs, for each token of the essay, beside the weights."""
    bytes_per_token_pair: int = Field(ge=0)
    """While it runs, for each pair of tokens, where the runtime computes attention block by block: the mask's."""
    attention_bytes_per_token_pair: int = Field(ge=0)
    """What comes on top where a runtime keeps all of a layer's attention at once."""

    def run_bytes(self, num_tokens: int, *, in_blocks: bool) -> int:
        """While an essay of so many tokens runs, beside the weights."""
        per_pair = self.bytes_per_token_pair + (0 if in_blocks else self.attention_bytes_per_token_pair)
        return num_tokens * self.bytes_per_token + num_tokens * num_tokens * per_pair


class Manifest(Section):
    """Everything that serving must know before it opens another file."""

    schema_version: Literal[1] = SCHEMA_VERSION
    name: str = Field(pattern=r"^[a-z][a-z0-9-]{0,39}$")
    version: str = Field(pattern=r"^[0-9a-f]{12}$")
    """The first 12 digits of the content's digest (`content_version`)."""
    kind: Literal["lexical", "lstm", "encoder", "probe", "trees", "decoder", "ensemble"]
    prompt_ids: tuple[str, ...] = Field(min_length=1)
    """In the order of the graph's `prompt_index`."""
    encoding: Encoding | None = None
    """None for an ensemble, which sees no text."""
    graphs: tuple[Graph, ...] = ()
    members: tuple[Member, ...] = ()
    metrics: tuple[PromptMetrics, ...]
    """A prompt that is missing was not measured."""
    corpora: tuple[CorpusSource, ...]
    parity: Parity | None = None
    """Of an ensemble: of the mix of its members' graphs with the mix of their checkpoints."""
    precisions: tuple[PrecisionParity, ...] = ()
    """Below fp32, and no others may be served. Of an ensemble: with every member at it that lists it too."""
    memory: RunMemory | None = Field(default=None, exclude_if=lambda memory: memory is None)
    """None for small models."""
    traits: Traits | None = None
    """What the second output of the graphs holds; none where there is none. An ensemble answers with its member's."""
    git_commit: str
    """The commit that the pipeline ran at; ends in `-dirty` when files differed from it."""
    pipeline_digest: str
    """sha256 of the entries of dvc.lock that led to this model."""
    files: dict[str, FileEntry]
    """Every file of the bundle but the manifest itself, by name."""

    @model_validator(mode="after")
    def _complete(self) -> "Manifest":
        if self.kind == "ensemble":
            if not self.members or self.graphs or self.encoding is not None:
                raise ValueError("an ensemble has members, and neither graphs nor an encoding")
        elif not self.graphs or self.encoding is None or self.members:
            raise ValueError("a model has graphs and an encoding, and no members")
        listed = [graph.file for graph in self.graphs] + [CALIBRATION_FILE, GOLDEN_FILE]
        if missing := [file for file in listed if file not in self.files]:
            raise ValueError(f"files that the manifest names but does not list: {', '.join(missing)}")
        return self

    @model_validator(mode="after")
    def _runnable(self) -> "Manifest":
        if self.graphs and "fp32" not in {graph.precision for graph in self.graphs}:
            raise ValueError("a model has a graph in fp32, the others stand beside it")
        listed = {each.precision for each in self.precisions}
        found = {graph.precision for graph in self.graphs}
        if self.graphs and ("int8" in listed) != ("int8" in found):
            raise ValueError("an int8 graph and its entry among the precisions come together")
        return self

    @model_validator(mode="after")
    def _second_output_is_described(self) -> "Manifest":
        for graph in self.graphs:
            found = [output.shape[-1] for output in graph.outputs if output.name == TRAITS_OUTPUT_NAME]
            wanted = [] if self.traits is None else [len(self.traits.traits)]
            if found != wanted:
                raise ValueError(
                    f"{graph.file} gives {found or 'no'} traits, the manifest describes {wanted or 'none'}"
                )
        if self.traits is not None and (not self.graphs or self.traits.prompt_id not in self.prompt_ids):
            raise ValueError("traits are those of a graph, on one of the model's prompts")
        return self

    @model_validator(mode="after")
    def _weighed(self) -> "Manifest":
        for prompt_id in self.prompt_ids if self.members else ():
            weights = [member.weights.get(prompt_id, math.nan) for member in self.members]
            # A missing weight is nan, which is neither at least 0 nor part of a sum of 1.
            if not are_shares(weights):
                raise ValueError(f"weights on {prompt_id} must be non-negative and sum to 1, found {weights}")
        return self

    def graph_at(self, precision: Precision) -> Graph:
        """The graph to load for a precision; of bf16 it is the fp32 file, to be loaded so."""
        stored = "fp32" if precision == "bf16" else precision
        graph = next(graph for graph in self.graphs if graph.precision == stored)
        return graph.model_copy(update={"precision": precision})

    def parity_at(self, precision: Precision) -> PrecisionParity | None:
        """What was measured of a precision below fp32; none when it may not be served."""
        return next((each for each in self.precisions if each.precision == precision), None)


class GoldenEssay(Section):
    """An essay that we wrote, and what the model gave it at publication; warm-up asks again."""

    text: str
    prompt_id: str
    raw_unit_score: float
    """Before calibration; compared within `GOLDEN_TOLERANCE`."""
    score: float
    """The grade."""
    raw_trait_scores: tuple[float, ...] = ()
    """The traits', before calibration, in their order; empty where the essay gets none."""


class Golden(Section):
    """The golden essays of a bundle."""

    essays: tuple[GoldenEssay, ...] = Field(min_length=1)


GOLDEN_TOLERANCE = 1e-3
"""Largest gap of raw unit scores between two runtimes or machines that still counts as the same model."""


def read_manifest(path: Path) -> Manifest:
    """The manifest in this file. Raises InvalidManifest, naming the file and every fault."""
    try:
        return parse_manifest(path.read_bytes(), str(path))
    except FileNotFoundError as error:
        raise InvalidManifest(f"{path}: missing; the bundle is incomplete, publish it again") from error


def parse_manifest(raw: bytes, source: str) -> Manifest:
    """A manifest from its bytes; `source` only names it in the error."""
    try:
        return Manifest.model_validate_json(raw)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()[:5])
        raise InvalidManifest(f"{source}: not a manifest of schema {SCHEMA_VERSION}: {faults}") from error


def describe_file(path: Path) -> FileEntry:
    """Digest and size of a file."""
    return FileEntry(sha256=sha256_of(path), size_bytes=path.stat().st_size)


def content_version(manifest: Manifest) -> str:
    """The version that a manifest's content asks for: 12 hex digits over all but the version itself."""
    return hashlib.sha256(manifest.model_dump_json(exclude={"version"}).encode()).hexdigest()[:12]
