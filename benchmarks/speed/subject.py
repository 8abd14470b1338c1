"""The model that every peer serves, and the scores that all of them must give.

Graph, tokenizer and manifest are those of the published bundle; the reference is its fp32 graph in ONNX Runtime, one
essay at a time. Torch peers load the checkpoint that the graph was exported from.
"""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.speed.chosen import ChosenEssay
from essays.bundle import verify_and_extract
from essays.calibration import read_calibration
from essays.encoding import TokenEncoding, load_encoder
from essays.errors import StageFailed
from essays.manifest import CALIBRATION_FILE, MANIFEST_FILE, Graph, Manifest, describe_file, read_manifest
from essays.params import read_params
from essays.prompts import get_prompt
from essays.registry import read_champion
from essays.settings import Settings, load_settings
from essays.store import open_store
from export.bundles import BUNDLE_FOLDER
from training.fold_scores import model_folder

# As in `training.models.spec`, whose package would import torch.
SPEC_FILE = "model.json"
_MOST_BYTES = 4_000_000_000


@dataclass(frozen=True)
class Subject:
    """A published model on this disk."""

    name: str
    digest: str
    """sha256 of its bundle."""
    bundle: Path
    folder: Path
    """The bundle, extracted."""
    manifest: Manifest
    weights: Path
    """The checkpoint's folder, for peers that run torch; may be missing."""

    @property
    def encoding(self) -> TokenEncoding:
        """How it reads an essay. Raises StageFailed for a model that reads no tokens."""
        if not isinstance(self.manifest.encoding, TokenEncoding):
            raise StageFailed(f"{self.name} reads no tokens; choose an encoder (--model)")
        return self.manifest.encoding

    @property
    def fp32_graph(self) -> Graph:
        """The graph that the reference and all fp32 peers run. Raises StageFailed when the bundle has none."""
        for graph in self.manifest.graphs:
            if graph.precision == "fp32":
                return graph
        raise StageFailed(f"{self.bundle}: no fp32 graph, so there is nothing to compare scores with")


@dataclass(frozen=True)
class Expected:
    """What an essay must get."""

    raw_unit_score: float
    """The graph's own."""
    unit_score: float
    """After calibration, as Fairmark answers."""
    grade: float
    num_tokens: int
    """That the model sees."""


def find_subject(name: str, bundle: Path | None, weights: Path | None, folder: Path) -> Subject:
    """The model by name: this bundle, else the one in out/bundles, else the store's champion."""
    path = bundle or _local_bundle(name) or _champion(name, folder / "downloaded")
    entry = describe_file(path)
    target = folder / entry.sha256[:16]
    if not (target / MANIFEST_FILE).exists():
        staging = target.with_suffix(".part")
        shutil.rmtree(staging, ignore_errors=True)
        verify_and_extract(path, entry, staging)
        staging.rename(target)
    return Subject(
        name=name,
        digest=entry.sha256,
        bundle=path,
        folder=target,
        manifest=read_manifest(target / MANIFEST_FILE),
        weights=weights or _checkpoint(name),
    )


def expect(subject: Subject, essays: Sequence[ChosenEssay]) -> dict[str, Expected]:
    """The reference, by essay id."""
    from serving.runtimes.onnxruntime_cpu import OnnxRuntimeCpu  # runtimes take a second, and `--help` needs none

    encoder = load_encoder(subject.encoding, subject.folder)
    calibration = read_calibration(subject.folder / CALIBRATION_FILE)
    (session,) = OnnxRuntimeCpu().open(subject.fp32_graph, subject.folder, 1)
    expected = {}
    for essay in essays:
        encoded = encoder.encode(essay.text, essay.prompt_index)
        raw = float(session.outputs(encoder.collate([encoded])).raw_unit_scores[0])
        grade = calibration.grade(get_prompt(essay.prompt_id, subject.manifest.prompt_ids), raw)
        expected[essay.essay_id] = Expected(raw, grade.unit_score, grade.score, encoded.tokens_used)
    return expected


def grader(subject: Subject) -> Callable[[str, float], float]:
    """The grade on a prompt for a raw unit score."""
    calibration = read_calibration(subject.folder / CALIBRATION_FILE)
    return lambda prompt_id, raw: calibration.grade(get_prompt(prompt_id, subject.manifest.prompt_ids), raw).score


def flop_per_essay(subject: Subject, expected: Sequence[Expected]) -> float | None:
    """Multiplications and additions of an average essay's forward pass; None where the shape is not known.

    Of the matrix products alone: for each layer four projections and two of the feed-forward part, and the two
    products with every other token. Embeddings, norms and heads are less than a hundredth.
    """
    try:
        shape = json.loads((subject.weights / SPEC_FILE).read_text("utf-8"))["shape"]["backbone"]
        hidden, inner, layers = shape["hidden_size"], shape["intermediate_size"], shape["num_hidden_layers"]
    except (OSError, KeyError, ValueError):
        return None
    per_token = 2 * (4 * hidden**2 + 2 * hidden * inner)
    counts = [each.num_tokens for each in expected]
    return layers * sum(tokens * per_token + 4 * tokens**2 * hidden for tokens in counts) / len(counts)


def _checkpoint(name: str) -> Path:
    """Of the fold whose model the export stage takes."""
    return model_folder(name, read_params("folds", tuple[int, ...])[0])


def _local_bundle(name: str) -> Path | None:
    found = sorted((BUNDLE_FOLDER / name).glob("*.zip"))
    return found[0] if len(found) == 1 else None


def _champion(name: str, folder: Path) -> Path:
    store = open_store(load_settings(Settings).store)
    pointer = read_champion(store, name).pointer
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{pointer.version}.zip"
    store.download(pointer.key, path, max_bytes=_MOST_BYTES, size_bytes=pointer.size_bytes)
    return path
