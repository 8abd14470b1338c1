"""The list inside an engine's bundle: the model it was built from, and the GPU architecture and version it runs on.

An engine never replaces a model's bundle: tokenizer, calibration and golden essays are there, and so is the graph that
every other machine runs.
"""

import hashlib
from typing import Literal

from pydantic import Field, model_validator

from essays.manifest import FileEntry, TensorSpec
from essays.params import Section

ENGINE_FILE = "engine.plan"
BuilderName = Literal["tensorrt", "tensorrt_rtx"]


class Bucket(Section):
    """A range of padded lengths that share one of the engine's profiles."""

    shortest: int = Field(ge=1)
    longest: int = Field(ge=1)
    """Tokens; kernels were chosen for this length."""
    most_essays: int = Field(ge=1)
    """In a batch."""


class EngineManifest(Section):
    """Everything that must be known before the plan is opened."""

    schema_version: Literal[1] = 1
    name: str = Field(pattern=r"^[a-z][a-z0-9-]{0,39}$")
    """The model's."""
    version: str = Field(pattern=r"^[0-9a-f]{12}$")
    """The first 12 digits of this content's digest."""
    model_version: str = Field(pattern=r"^[0-9a-f]{12}$")
    """Of the bundle whose graph was built."""
    architecture: str = Field(pattern=r"^sm\d{2,3}$")
    """`sm89`: compute capability 8.9. No engine runs on another."""
    builder: BuilderName
    builder_version: str
    """No engine is read by another."""
    precision: Literal["fp32", "fp16", "bf16"]
    """Of matrix products; everything between them is in fp32."""
    buckets: tuple[Bucket, ...] = Field(min_length=1)
    """In the order of the engine's profiles."""
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    files: dict[str, FileEntry]

    @property
    def key(self) -> str:
        """What the engine is bound to: architecture, builder and version."""
        return engine_key(self.architecture, self.builder, self.builder_version)

    @model_validator(mode="after")
    def _complete(self) -> "EngineManifest":
        if set(self.files) != {ENGINE_FILE}:
            raise ValueError(f"an engine's bundle holds {ENGINE_FILE} alone beside its manifest")
        return self


def engine_key(architecture: str, builder: BuilderName, builder_version: str) -> str:
    """`sm89-tensorrt-rtx-1.7.1`: engines of another key are of no use here."""
    return f"{architecture}-{builder.replace('_', '-')}-{builder_version}"


def engine_version(manifest: EngineManifest) -> str:
    """The version that the content asks for: 12 hex digits over all but the version itself."""
    return hashlib.sha256(manifest.model_dump_json(exclude={"version"}).encode()).hexdigest()[:12]
