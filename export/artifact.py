"""From an export or an ensemble's weights to a bundle: files, golden essays, manifest, zip."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from essays.bundle import read_bundle_manifest, write_bundle
from essays.calibration import Calibration, read_calibration, write_calibration
from essays.drift import REFERENCE_FILE, DriftReference, write_reference
from essays.encoding import TOKENIZER_FILE
from essays.ensemble import EnsembleWeights, mix_unit_scores
from essays.errors import StageFailed
from essays.manifest import (
    CALIBRATION_FILE,
    CARD_FILE,
    GOLDEN_FILE,
    CorpusSource,
    FileEntry,
    Golden,
    Manifest,
    Member,
    Parity,
    PromptMetrics,
    content_version,
    describe_file,
)
from essays.params import write_section
from export.card import write_card
from export.config import ExportConfig
from export.exported import COMPARED_FILE, PARITY_FILE, PRECISIONS_FILE, read_exported, read_part
from export.golden import RawScore, score_golden
from export.graphs import GraphScorer, open_exported
from export.parity import Compared, mix_compared, require_parity
from export.precisions import PrecisionScores, judge, mix_precisions

_UNVERSIONED = "0" * 12


@dataclass(frozen=True)
class Facts:
    """What a manifest says of a model's making, beside its content."""

    name: str
    metrics: tuple[PromptMetrics, ...]
    corpora: tuple[CorpusSource, ...]
    git_commit: str
    pipeline_digest: str
    gate_file: Path | None = None
    """The gate's profile, to go along with a single model; an ensemble's comes with its members."""
    reference: DriftReference | None = None
    """How essays were that it was made for; of an ensemble its members' is watched."""

    @property
    def origin(self) -> str:
        """Commit and pipeline in a sentence."""
        return f"Fairmark at commit {self.git_commit}, from the entries of dvc.lock with sha256 {self.pipeline_digest}."


@dataclass(frozen=True)
class PackagedMember:
    """A model of which an ensemble is made."""

    manifest: Manifest
    scorer: GraphScorer
    calibration: Calibration
    compared: Compared
    precisions: PrecisionScores


def package_model(facts: Facts, export: Path, calibration_file: Path, out_folder: Path) -> Path:
    """The bundle of a single model. Raises StageFailed when a part is missing."""
    exported, scorer = read_exported(export), open_exported(export)
    parity = read_part(export / PARITY_FILE, Parity)
    calibration = read_calibration(calibration_file)
    golden = score_golden(exported.prompt_ids, scorer.raw_score, calibration, scorer.raw_traits)
    card = write_card(
        facts.name,
        exported.kind,
        exported.prompt_ids,
        facts.metrics,
        facts.corpora,
        parity,
        facts.origin,
        precisions=exported.precisions,
        traits=exported.traits,
    )
    copied = [
        *(export / graph.file for graph in exported.graphs),
        *([export / TOKENIZER_FILE] if exported.encoding.kind == "tokens" else []),
        *([facts.gate_file] if facts.gate_file else []),
    ]
    manifest = Manifest(
        name=facts.name,
        version=_UNVERSIONED,
        kind=exported.kind,
        prompt_ids=exported.prompt_ids,
        encoding=exported.encoding,
        graphs=exported.graphs,
        metrics=facts.metrics,
        corpora=facts.corpora,
        parity=parity,
        precisions=exported.precisions,
        memory=exported.memory,
        traits=exported.traits,
        git_commit=facts.git_commit,
        pipeline_digest=facts.pipeline_digest,
        files=_staged(out_folder, card, calibration, golden, copied, facts.reference),
    )
    return _zip(manifest, out_folder)


def package_ensemble(
    facts: Facts,
    weights: EnsembleWeights,
    calibration_file: Path,
    members: Sequence[PackagedMember],
    out_folder: Path,
    config: ExportConfig,
) -> Path:
    """The bundle of an ensemble; it names its members by version and holds no graph.

    Raises StageFailed when the mix of the members' graphs is not the mix of their checkpoints.
    """
    prompt_ids = tuple(part.prompt_id for part in weights.prompts)
    calibration = read_calibration(calibration_file)
    mixed = mix_compared(
        weights,
        {member.manifest.name: member.compared for member in members},
        {member.manifest.name: member.calibration for member in members},
    )
    parity = require_parity(facts.name, mixed, calibration, config)
    precisions = judge(facts.name, _mixed_precisions(weights, members), calibration, config)
    golden = score_golden(prompt_ids, _mixed(weights, members), calibration)
    listed = tuple(
        Member(
            name=member.manifest.name,
            version=member.manifest.version,
            weights={prompt_id: weights.of(prompt_id)[member.manifest.name] for prompt_id in prompt_ids},
        )
        for member in members
    )
    card = write_card(
        facts.name,
        "ensemble",
        prompt_ids,
        facts.metrics,
        facts.corpora,
        parity,
        facts.origin,
        listed,
        precisions=precisions,
    )
    manifest = Manifest(
        name=facts.name,
        version=_UNVERSIONED,
        kind="ensemble",
        prompt_ids=prompt_ids,
        members=listed,
        metrics=facts.metrics,
        corpora=facts.corpora,
        parity=parity,
        precisions=precisions,
        git_commit=facts.git_commit,
        pipeline_digest=facts.pipeline_digest,
        files=_staged(out_folder, card, calibration, golden, []),
    )
    return _zip(manifest, out_folder)


def open_member(bundle: Path, export: Path, calibration_file: Path) -> PackagedMember:
    """A packaged model, ready to score golden essays for its ensemble."""
    return PackagedMember(
        read_bundle_manifest(bundle),
        open_exported(export),
        read_calibration(calibration_file),
        read_part(export / COMPARED_FILE, Compared),
        read_part(export / PRECISIONS_FILE, PrecisionScores),
    )


def _mixed_precisions(weights: EnsembleWeights, members: Sequence[PackagedMember]) -> PrecisionScores:
    return mix_precisions(
        weights,
        {member.manifest.name: member.precisions for member in members},
        {member.manifest.name: member.manifest.precisions for member in members},
        {member.manifest.name: member.calibration for member in members},
    )


def _mixed(weights: EnsembleWeights, members: Sequence[PackagedMember]) -> RawScore:
    def raw_score(text: str, prompt_id: str) -> float:
        unit_scores = {
            member.manifest.name: float(
                member.calibration.unit_scores(prompt_id, member.scorer.raw_score(text, prompt_id))
            )
            for member in members
        }
        return float(mix_unit_scores(weights.of(prompt_id), unit_scores))

    return raw_score


def _staged(
    out_folder: Path,
    card: str,
    calibration: Calibration,
    golden: Golden,
    copied: Sequence[Path],
    reference: DriftReference | None = None,
) -> dict[str, FileEntry]:
    """Lay all files of the bundle into a fresh staging folder; their digests and sizes by name."""
    staging = _staging(out_folder)
    shutil.rmtree(out_folder, ignore_errors=True)
    staging.mkdir(parents=True)
    for source in copied:
        if not source.exists():
            raise StageFailed(f"{source}: missing; run the stage that writes it (python -m pipelines.export, or .gate)")
        shutil.copyfile(source, staging / source.name)
    write_calibration(calibration, staging / CALIBRATION_FILE)
    write_section(golden, staging / GOLDEN_FILE)
    if reference is not None:
        write_reference(reference, staging / REFERENCE_FILE)
    (staging / CARD_FILE).write_text(card, encoding="utf-8")
    return {path.name: describe_file(path) for path in sorted(staging.iterdir())}


def _zip(manifest: Manifest, out_folder: Path) -> Path:
    versioned = manifest.model_copy(update={"version": content_version(manifest)})
    bundle = write_bundle(_staging(out_folder), versioned, out_folder)
    shutil.rmtree(_staging(out_folder))
    return bundle


def _staging(out_folder: Path) -> Path:
    return out_folder / "staging"
