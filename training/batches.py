"""From tables to batches: a fold's parts, encoded once, cut into batches of essays of like length.

The order of batches is a function of seed and epoch alone, so a run that was killed goes on where it was.
"""

import hashlib
import inspect
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import pyarrow as pa
import torch
from datasets import Dataset, disable_progress_bars
from numpy.typing import NDArray

import essays.encoding
import essays.features
import essays.text
from data.folds import PARTS
from essays.encoding import Arrays, EncodedEssay, Encoder, TokenEncoder
from essays.errors import StageFailed
from essays.prompts import get_prompt

# Lengths are blurred by this share before sorting, so that an essay meets other neighbours in each epoch.
_LENGTH_BLUR = 0.1


class Batch(NamedTuple):
    """Inputs by name, and what they should give."""

    inputs: dict[str, torch.Tensor]
    unit_scores: torch.Tensor
    """Human scores, (B,) float32."""


class Collator(Protocol):
    """What makes batches of encoded essays: an encoder, or what stands for it where states are kept."""

    def collate(self, essays: Sequence[EncodedEssay]) -> Arrays:
        """A batch, padded to its longest essay, in the order given."""
        ...


@dataclass(frozen=True)
class Part:
    """Encoded essays of one part of a fold, in the table's order."""

    essay_ids: list[str]
    prompt_ids: list[str]
    human_scores: NDArray[np.float64]
    """On each prompt's scale, (N,)."""
    unit_scores: NDArray[np.float32]
    """What is learned: the same as unit scores, softened on train (`training.soft_targets`), (N,)."""
    encoded: list[EncodedEssay]

    def __len__(self) -> int:
        return len(self.essay_ids)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each essay, (N,)."""
        return np.array([essay.tokens_used for essay in self.encoded])

    def prompt_index(self) -> NDArray[np.int64]:
        """Each essay's prompt, (N,)."""
        return np.array([int(essay.arrays["prompt_index"]) for essay in self.encoded], dtype=np.int64)


def split_fold(essays: Dataset, folds: pa.Table, fold: int) -> dict[str, Dataset]:
    """The train, dev and test essays of a fold; none to test where its model is for serving, not for measuring.

    Raises StageFailed when there is nothing to train or to choose on, or an essay has no part.
    """
    rows = folds.to_pylist()
    part_of = {row["essay_id"]: row["part"] for row in rows if row["fold"] == fold}
    if not part_of:
        known = ", ".join(map(str, sorted({row["fold"] for row in rows})))
        raise StageFailed(f"folds.parquet has no fold {fold}; it has {known}")
    essay_ids = essays["essay_id"]
    if missing := [essay_id for essay_id in essay_ids if essay_id not in part_of]:
        raise StageFailed(f"fold {fold} has no part for {len(missing)} essays, {missing[0]} first; run the split stage")
    parts: dict[str, Dataset] = {
        name: essays.select([i for i, essay_id in enumerate(essay_ids) if part_of[essay_id] == name]) for name in PARTS
    }
    if empty := [name for name in ("train", "dev") if not len(parts[name])]:
        raise StageFailed(f"fold {fold} has no {' and no '.join(empty)} essays; run the split stage again")
    return parts


def encode_part(essays: Dataset, encoder: Encoder, prompt_ids: Sequence[str], key: str) -> Part:
    """A part as its model sees it; `key` names the encoder, so that a cached result is found again."""
    places = {prompt_id: index for index, prompt_id in enumerate(prompt_ids)}
    essay_prompts, scores = list(essays["prompt_id"]), list(essays["score"])
    ranges = [get_prompt(prompt_id).score_range for prompt_id in essay_prompts]
    encode = _encode_cached if isinstance(encoder, TokenEncoder) else _encode
    return Part(
        list(essays["essay_id"]),
        essay_prompts,
        np.array(scores, dtype=np.float64),
        np.array([float(kind.to_unit(score)) for kind, score in zip(ranges, scores, strict=True)], dtype=np.float32),
        encode(essays, encoder, places, key),
    )


def batches_of_epoch(lengths: NDArray, batch_size: int, seed: int, epoch: int) -> list[NDArray[np.int64]]:
    """Every essay once, in batches of like length, batches in random order: places in the part."""
    random = np.random.default_rng([seed, epoch])
    blurred = lengths * random.uniform(1 - _LENGTH_BLUR, 1 + _LENGTH_BLUR, size=len(lengths))
    batches = _cut(np.argsort(blurred, kind="stable"), batch_size)
    return [batches[index] for index in random.permutation(len(batches))]


def batches_by_length(lengths: NDArray, batch_size: int) -> list[NDArray[np.int64]]:
    """Every essay once, shortest first: the least padding, for scoring."""
    return _cut(np.argsort(lengths, kind="stable"), batch_size)


@dataclass(frozen=True)
class Batches:
    """Batches of a part, collated as they are asked for."""

    part: Part
    collator: Collator
    places: Sequence[NDArray[np.int64]]
    """The essays of each batch."""

    def __len__(self) -> int:
        return len(self.places)

    def __iter__(self) -> Iterator[Batch]:
        for chosen in self.places:
            arrays = self.collator.collate([self.part.encoded[place] for place in chosen])
            yield Batch(as_tensors(arrays), torch.from_numpy(self.part.unit_scores[chosen]))


def as_tensors(arrays: Arrays) -> dict[str, torch.Tensor]:
    """Arrays by name as tensors by name."""
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def _encode(essays: Dataset, encoder: Encoder, places: Mapping[str, int], key: str) -> list[EncodedEssay]:
    """Each essay, encoded in memory: n-grams are larger than their essays and as fast to hash as to read."""
    rows = zip(essays["text"], essays["prompt_id"], strict=True)
    return [encoder.encode(text, places[prompt_id]) for text, prompt_id in rows]


def _encode_cached(essays: Dataset, encoder: Encoder, places: Mapping[str, int], key: str) -> list[EncodedEssay]:
    """Each essay, mapped once: the result lies beside the data set under a name made of all that it depends on."""

    def encode(row: Mapping) -> dict:
        essay = encoder.encode(row["text"], places[row["prompt_id"]])
        arrays = {name: array.tolist() for name, array in essay.arrays.items()}
        return {**arrays, "tokens_used": essay.tokens_used, "truncated": essay.truncated}

    disable_progress_bars()
    texts = essays.select_columns(["text", "prompt_id"])
    fingerprint = _digest(essays._fingerprint, key, json.dumps(places), _encoding_sources())
    encoded = texts.map(encode, remove_columns=texts.column_names, new_fingerprint=fingerprint)
    names = [name for name in encoded.column_names if name not in ("tokens_used", "truncated")]
    return [
        EncodedEssay(
            {name: np.asarray(row[name], dtype=np.int64) for name in names}, row["tokens_used"], row["truncated"]
        )
        for row in encoded
    ]


def _cut(order: NDArray[np.int64], batch_size: int) -> list[NDArray[np.int64]]:
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


def _encoding_sources() -> str:
    return "".join(inspect.getsource(module) for module in (essays.encoding, essays.features, essays.text))


def _digest(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:32]
