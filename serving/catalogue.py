"""Which models are served, on which prompts, with everything of them but the sessions."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from essays.calibration import Calibration, read_calibration
from essays.drift import REFERENCE_FILE, DriftReference, read_reference
from essays.encoding import TOKENIZER_FILE, Encoder, NgramEncoding, TokenEncoding, load_encoder
from essays.errors import InvalidManifest, UnknownModel, UnknownPrompt
from essays.gate import Gate
from essays.gate_profile import GATE_FILE, GateProfile, read_gate_profile
from essays.manifest import CALIBRATION_FILE, CARD_FILE, GOLDEN_FILE, MANIFEST_FILE, Golden, Manifest, read_manifest
from essays.prompts import Prompt, all_prompts, get_prompt
from serving.errors import NotReady

Part = TypeVar("Part")


@dataclass(frozen=True)
class LocalArtifact:
    """A verified bundle on this machine's disk."""

    name: str
    version: str
    digest: str
    """sha256 of the published zip; also the folder's name."""
    folder: Path
    stale: bool = False
    """Whether nobody could say if it is the champion still."""


@dataclass(frozen=True)
class ServedModel:
    """A model's artifact, read."""

    artifact: LocalArtifact
    manifest: Manifest
    calibration: Calibration
    golden: Golden
    card: str
    encoder: Encoder | None
    """None for an ensemble."""
    gate_profile: GateProfile | None = None
    """What the gate knows of its prompts; none in bundles that were published without."""
    reference: DriftReference | None = None
    """How essays were that it was made for; none in bundles that were published without."""

    @property
    def name(self) -> str:
        """The name that requests use."""
        return self.artifact.name

    @property
    def is_ensemble(self) -> bool:
        """Whether it mixes other models' scores."""
        return self.encoder is None

    @property
    def graph_names(self) -> list[str]:
        """The models whose graphs must run for an answer: its members, or itself."""
        return [member.name for member in self.manifest.members] or [self.name]

    @property
    def size_bytes(self) -> int:
        """Of its files."""
        return sum(entry.size_bytes for entry in self.manifest.files.values())

    @property
    def unmeasured(self) -> list[str]:
        """Prompts that it scores, of which no agreement with people is known."""
        measured = {quality.prompt_id for quality in self.manifest.metrics}
        return [prompt_id for prompt_id in self.manifest.prompt_ids if prompt_id not in measured]

    def weights(self, prompt_id: str) -> dict[str, float]:
        """An ensemble's weights by member on this prompt."""
        return {member.name: member.weights[prompt_id] for member in self.manifest.members}


def read_model(artifact: LocalArtifact) -> ServedModel:
    """The model of a verified folder. Raises InvalidManifest, naming the file at fault."""
    folder = artifact.folder
    manifest = read_manifest(folder / MANIFEST_FILE)
    if unknown := [prompt_id for prompt_id in manifest.prompt_ids if prompt_id not in all_prompts()]:
        raise InvalidManifest(
            f"{folder / MANIFEST_FILE}: this service's essays/prompts.toml has no {', '.join(unknown)}; serve from the"
            " checkout in which the prompt was added, or from an image built there"
        )
    card = folder / CARD_FILE
    return ServedModel(
        artifact=artifact,
        manifest=manifest,
        calibration=_read_part(folder / CALIBRATION_FILE, read_calibration),
        golden=_read_part(folder / GOLDEN_FILE, lambda path: Golden.model_validate_json(path.read_bytes())),
        card=card.read_text(encoding="utf-8") if card.exists() else "",
        encoder=None if manifest.encoding is None else _read_encoder(manifest.encoding, folder),
        gate_profile=_read_part(folder / GATE_FILE, read_gate_profile) if GATE_FILE in manifest.files else None,
        reference=_read_part(folder / REFERENCE_FILE, read_reference) if REFERENCE_FILE in manifest.files else None,
    )


class Catalogue:
    """The served models by name, single models first."""

    def __init__(self, models: Sequence[ServedModel]) -> None:
        ordered = sorted(models, key=lambda model: model.is_ensemble)
        self.models: Mapping[str, ServedModel] = {model.name: model for model in ordered}
        self.unavailable: dict[str, str] = {}
        """Why a model that should be served is not, by name."""

    @property
    def default_model(self) -> str:
        """The model that the page asks first: an ensemble, where there is one."""
        return list(self.models)[-1]

    def model(self, name: str) -> ServedModel:
        """The model of this name, `tiny`, or of this version alone, `tiny@1d5c…`.

        Raises UnknownModel, which lists those there are, or NotReady for one that failed.
        """
        plain, _, version = name.partition("@")
        if plain in self.unavailable:
            raise NotReady(f"{plain} is not served now: its model failed to load; served: {', '.join(self.models)}")
        if plain not in self.models:
            raise _unknown(name, ", ".join(self.models))
        model = self.models[plain]
        if version and version != model.artifact.version:
            raise _unknown(name, f"{plain}@{model.artifact.version}")
        return model

    def prompt(self, prompt_id: str, model: ServedModel) -> Prompt:
        """A prompt that this model scores. Raises UnknownPrompt, which lists those it does, or the models that do."""
        others = [other.name for other in self.models.values() if prompt_id in other.manifest.prompt_ids]
        if others and model.name not in others:
            raise UnknownPrompt(
                f"{model.name} does not score {prompt_id}; {', '.join(others)} {'do' if others[1:] else 'does'}",
                field="prompt_id",
                hint="GET /prompts lists every prompt with the models that score it",
            )
        return get_prompt(prompt_id, model.manifest.prompt_ids)

    @cached_property
    def prompts(self) -> tuple[Prompt, ...]:
        """Every prompt that some model scores, in the order of the prompts' file."""
        served = {prompt_id for model in self.models.values() for prompt_id in model.manifest.prompt_ids}
        return tuple(prompt for prompt_id, prompt in all_prompts().items() if prompt_id in served)

    @cached_property
    def gate(self) -> Gate:
        """What must not be scored, by the profiles of all models."""
        return Gate([model.gate_profile for model in self.models.values() if model.gate_profile is not None])

    def models_for(self, prompt_id: str) -> list[ServedModel]:
        """The models that score this prompt; raises UnknownPrompt when none does."""
        get_prompt(prompt_id, [prompt.prompt_id for prompt in self.prompts])
        return [model for model in self.models.values() if prompt_id in model.manifest.prompt_ids]

    def runs_needed(self, models: Sequence[ServedModel]) -> list[ServedModel]:
        """The single models whose graphs must run to answer for these, each once."""
        names = dict.fromkeys(name for model in models for name in model.graph_names)
        return [self.models[name] for name in names]


def _unknown(name: str, known: str) -> UnknownModel:
    hint = "GET /models lists every model with its version and quality"
    return UnknownModel(f"no model {name!r:.80}; known: {known}", field="model", hint=hint)


def _read_encoder(encoding: TokenEncoding | NgramEncoding, folder: Path) -> Encoder:
    try:
        return load_encoder(encoding, folder)
    except Exception as error:  # all that the tokenizers library raises
        raise InvalidManifest(f"{folder / TOKENIZER_FILE}: no tokenizer: {error}; publish the model again") from error


def _read_part(path: Path, read: Callable[[Path], Part]) -> Part:
    try:
        return read(path)
    except ValidationError as error:
        raise InvalidManifest(
            f"{path}: {error.error_count()} faults, the first: {error.errors()[0]['msg']}; publish the model again"
        ) from error
