"""What an operator can set for the service: `FAIRMARK_SERVICE__…` in the environment, `[service]` in fairmark.toml.

Host and port are `bentoml serve`'s own options.
"""

import os
from pathlib import Path
from typing import Literal

from pydantic import Field

from essays.documents import MAX_FILE_BYTES
from essays.settings import Settings, SettingsSection
from serving.access import AccessSettings
from serving.cache.settings import CacheSettings
from serving.drift.settings import DriftSettings
from serving.explaining import ExplainSettings
from serving.local_copies import COMPILED_FOLDER
from serving.runtimes.choice import Runtimes, RuntimeSetting
from serving.runtimes.precision import PrecisionSetting
from serving.tracing import TracingSettings


class ServiceSettings(SettingsSection):
    """How models are fetched and how requests are bounded."""

    models: tuple[str, ...] = ()
    """The models to serve; none means every champion in the store. An ensemble brings its members along."""
    artifact_folder: Path = Path("out/serving")
    """Where verified models are kept between starts; several instances may share it."""
    require: Literal["all", "any"] = "all"
    """Whether one bad model keeps the service from starting, or only itself from being served."""
    start_budget_s: float = Field(default=120.0, ge=0)
    """How long a start tries again while nobody answers at the store or the disk is full, in seconds."""
    watch_s: float = Field(default=3.0, ge=0)
    """How often the store is asked whether a champion moved, in seconds; 0 looks only after SIGHUP."""
    drain_s: float = Field(default=30.0, gt=0)
    """How long requests in hand may take after a request to end, in seconds."""
    lanes: int | None = Field(default=None, ge=1, le=256)
    """Essays in work at the same moment; none means one per usable core, or 64 where a GPU takes them in batches."""
    runtime: RuntimeSetting = "auto"
    """What runs the graphs: the best that this machine has, or `onnxruntime`, `openvino`, `cuda`, `tensorrt`."""
    precision: PrecisionSetting = "auto"
    """The fastest that each bundle lists and this CPU multiplies, or `fp32`, `bf16`, `int8`."""
    timeout_s: float = Field(default=20.0, gt=0, le=60)
    """The longest that one essay may wait and take, in seconds."""
    decoder_timeout_s: float = Field(default=120.0, gt=0, le=200)
    """The same for an answer that a decoder takes part in, where that is longer: 8,000 tokens take it a while."""
    decoder_max_wait_s: float = Field(default=60.0, gt=0)
    """The longest expected wait for a decoder's lane with which an essay is taken, in seconds."""
    batch_timeout_s: float = Field(default=60.0, gt=0, le=120)
    """After so long, in seconds, a batch begins no further essay; each that is left gets an error."""
    max_wait_s: float = Field(default=10.0, gt=0)
    """The longest expected wait for a lane with which an essay is taken, in seconds; beyond it requests get 429."""
    max_open_jobs: int = Field(default=128, ge=1)
    """Runs of a model that may wait or go on at once; beyond it requests get 429. An ensemble takes one per member."""
    max_body_bytes: int = Field(default=1_000_000, ge=1_000)
    """Largest request body that is read."""
    max_header_bytes: int = Field(default=16_384, ge=1_024)
    """Largest headers of a request, all together."""
    body_timeout_s: float = Field(default=10.0, gt=0, le=60)
    """The longest that a request's body may take to arrive, in seconds."""
    max_file_bytes: int = Field(default=5_000_000, ge=1_000, le=MAX_FILE_BYTES)
    """Largest file (text, Word, PDF) that the page reads, beside the other fields of its form."""
    max_batch_essays: int = Field(default=64, ge=1)
    """Most essays in one batch."""
    access: AccessSettings = Field(default_factory=AccessSettings)
    """Who may call."""
    explain: ExplainSettings = Field(default_factory=ExplainSettings)
    """How explanations are bounded."""
    drift: DriftSettings = Field(default_factory=DriftSettings)
    """How it is watched whether essays change (`serving.drift`)."""
    cache: CacheSettings = Field(default_factory=CacheSettings)
    """Scores that were computed before (`serving.cache`)."""
    tracing: TracingSettings = Field(default_factory=TracingSettings)
    """Traces of requests, for whoever looks for lost time."""

    def num_lanes(self, runtimes: Runtimes) -> int:
        """Lanes, decided."""
        return self.lanes or runtimes.lanes(len(os.sched_getaffinity(0)))

    def make_runtimes(self) -> Runtimes:
        """As set, keeping compiled graphs beside the models. Raises BadParams for a runtime that is not there."""
        return Runtimes(self.runtime, self.artifact_folder / COMPILED_FOLDER, self.precision)


class ServingSettings(Settings):
    """Everything that the service reads at its start."""

    service: ServiceSettings = Field(default_factory=ServiceSettings)
