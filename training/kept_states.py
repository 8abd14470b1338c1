"""States of an encoder's frozen layers, computed once for all epochs and folds and kept on disk.

A frozen layer knows no fold: its weights are the pretrained ones, so an essay's states are the same in every part.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from essays.console import Progress
from essays.encoding import Arrays, EncodedEssay, Encoder, pad_rows
from essays.errors import StageFailed
from training.batches import Part, as_tensors, batches_by_length
from training.device import best_device
from training.models.probe import ProbeScorer

_BATCH = 16
# One number for an essay, beside its states.
_SINGLE = ("num_tokens", "prompt_index")


class StatesCollator:
    """Puts kept states into batches, as a tokenizer's encoder does with ids."""

    def collate(self, essays: Sequence[EncodedEssay]) -> Arrays:
        """`states` (B, T, H) float32, `attention_mask` (B, T), `num_tokens` and `prompt_index` (B,)."""
        rows = [essay.arrays["states"] for essay in essays]
        longest = max(map(len, rows))
        states = np.zeros((len(rows), longest, rows[0].shape[1]), dtype=np.float32)
        for index, row in enumerate(rows):
            states[index, : len(row)] = row
        mask = pad_rows([np.ones(len(row), dtype=np.int64) for row in rows], 0)
        single = {name: np.stack([essay.arrays[name] for essay in essays]) for name in _SINGLE}
        return {"states": states, "attention_mask": mask, **single}


def keep_states(
    lower: nn.Module, encoder: Encoder, parts: Mapping[str, Part], folder: Path, *settings: str
) -> dict[str, Part]:
    """The same parts with `states` (T, H) instead of ids, from a file in `folder` that is made where it is missing.

    `settings` are what the states depend on beside weights and ids. Raises StageFailed for states beyond float16.
    """
    essays = {
        essay_id: essay for part in parts.values() for essay_id, essay in zip(part.essay_ids, part.encoded, strict=True)
    }
    place = {essay_id: index for index, essay_id in enumerate(sorted(essays))}
    ordered = [essays[essay_id] for essay_id in place]
    path = folder / f"{_digest(lower, ordered, *settings)}.npy"
    if not path.exists():
        _write(lower, encoder, ordered, path)
    kept = np.load(path, mmap_mode="r")
    ends = np.cumsum([0, *(essay.tokens_used for essay in ordered)])

    def with_states(essay_id: str) -> EncodedEssay:
        essay, index = essays[essay_id], place[essay_id]
        single = {name: essay.arrays[name] for name in _SINGLE}
        return replace(essay, arrays={"states": kept[ends[index] : ends[index + 1]], **single})

    return {name: replace(part, encoded=list(map(with_states, part.essay_ids))) for name, part in parts.items()}


def keep_pooled(
    scorer: ProbeScorer, encoder: Encoder, parts: Mapping[str, Part], folder: Path
) -> dict[str, torch.Tensor]:
    """What a scorer whose backbone does not learn pools of each part's essays, (N, D) float32, from a file as above."""
    essays = {
        essay_id: essay for part in parts.values() for essay_id, essay in zip(part.essay_ids, part.encoded, strict=True)
    }
    place = {essay_id: index for index, essay_id in enumerate(sorted(essays))}
    ordered = [essays[essay_id] for essay_id in place]
    path = folder / f"{_digest(scorer.get_submodule('backbone'), ordered, *map(str, scorer.pooled_layers))}.npy"
    if not path.exists():
        pooled = _pool(scorer, encoder, ordered)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.with_suffix(".partial").open("wb") as file:
            np.save(file, pooled)
        path.with_suffix(".partial").rename(path)
    kept = torch.from_numpy(np.load(path))
    return {
        name: kept[torch.tensor([place[essay_id] for essay_id in part.essay_ids], dtype=torch.int64)]
        for name, part in parts.items()
    }


def _pool(scorer: ProbeScorer, encoder: Encoder, essays: Sequence[EncodedEssay]) -> NDArray[np.float32]:
    device = best_device()
    scorer.to(device).eval()
    lengths = np.array([essay.tokens_used for essay in essays])
    rows: dict[int, NDArray[np.float32]] = {}
    progress, done = Progress("frozen encoder: tokens", int(lengths.sum())), 0
    for chosen in batches_by_length(lengths, _BATCH):
        inputs = as_tensors(encoder.collate([essays[index] for index in chosen]))
        with torch.inference_mode():
            pooled = scorer.pooled(**{name: value.to(device) for name, value in inputs.items()}).cpu().numpy()
        rows.update(zip(chosen.tolist(), pooled, strict=True))
        done += int(lengths[chosen].sum())
        progress.update(done)
    scorer.to("cpu")
    return np.stack([rows[index] for index in range(len(essays))])


def _write(lower: nn.Module, encoder: Encoder, essays: Sequence[EncodedEssay], path: Path) -> None:
    """All essays' states in a row, (tokens, H); the file has its name only once it is whole."""
    device = best_device()
    lower = lower.to(device).eval()
    lengths = np.array([essay.tokens_used for essay in essays])
    ends = np.cumsum([0, *lengths])
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    kept: np.memmap | None = None
    progress, done = Progress("frozen layers: tokens", int(ends[-1])), 0
    for chosen in batches_by_length(lengths, _BATCH):
        inputs = as_tensors(encoder.collate([essays[index] for index in chosen]))
        with torch.inference_mode():
            states = lower(inputs["input_ids"].to(device), inputs["attention_mask"].to(device)).cpu().numpy()
        if kept is None:
            shape = (int(ends[-1]), states.shape[-1])
            kept = np.lib.format.open_memmap(partial, mode="w+", dtype=np.float16, shape=shape)
        if not np.abs(states).max() < np.finfo(np.float16).max:
            raise StageFailed(
                "states of frozen layers are beyond float16, in which they are kept; set frozen_layers: 0"
            )
        for row, index in zip(states, chosen, strict=True):
            kept[ends[index] : ends[index + 1]] = row[: lengths[index]]
        done += int(lengths[chosen].sum())
        progress.update(done)
    assert kept is not None
    kept.flush()
    partial.rename(path)


def _digest(lower: nn.Module, essays: Sequence[EncodedEssay], *settings: str) -> str:
    digest = hashlib.sha256("\0".join(settings).encode())
    for name, weight in sorted(lower.state_dict().items()):
        digest.update(name.encode() + weight.cpu().numpy().tobytes())
    for essay in essays:
        digest.update(essay.arrays["input_ids"].tobytes() + b"\0")
    return digest.hexdigest()[:16]
