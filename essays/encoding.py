"""What a model sees of an essay: named arrays, made in training and serving by this one piece of code.

Two kinds. `tokens`: ids of a `tokenizer.json` (Rust tokenizers), keeping the head and the tail of an essay that is too
long. `ngrams`: hashed character n-grams that occur, and surface features (`features`). A graph's inputs are the arrays'
names; every array's first axis is the batch, and `prompt_index` counts in the order of the artifact's prompts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator
from tokenizers import Tokenizer

from essays.features import NUM_FEATURES, ngram_buckets, surface_features
from essays.params import Section

TOKENIZER_FILE = "tokenizer.json"
Arrays = dict[str, NDArray]
"""Graph inputs by name, each (B, ...)."""


class TokenEncoding(Section):
    """Ids of a tokenizer, `(B, T)`, a mask that is 1 on real tokens, and the tokens of the whole essay, `(B,)`."""

    kind: Literal["tokens"] = "tokens"
    head_tokens: int = Field(gt=0)
    """Tokens kept from the start of an essay that is too long, special tokens counted in."""
    tail_tokens: int = Field(ge=0)
    """Tokens kept from its end."""
    pad_id: int = 0
    """The id that fills short rows; masked, so its value does not matter to a score."""

    @property
    def max_tokens(self) -> int:
        """The most tokens that the model sees."""
        return self.head_tokens + self.tail_tokens


class NgramEncoding(Section):
    """Hashed character n-grams that occur in the essay `(B, T)`, 0 in short rows; surface features `(B, F)`."""

    kind: Literal["ngrams"] = "ngrams"
    shortest: int = Field(gt=0)
    """Characters of the shortest n-gram."""
    longest: int = Field(gt=0)
    """Characters of the longest n-gram."""
    num_buckets: int = Field(gt=1)
    """Hash buckets; ids run from 1 to this, 0 is padding."""

    @model_validator(mode="after")
    def _ordered(self) -> "NgramEncoding":
        if self.longest < self.shortest:
            raise ValueError(f"longest ({self.longest}) is below shortest ({self.shortest})")
        return self


Encoding = Annotated[TokenEncoding | NgramEncoding, Field(discriminator="kind")]


@dataclass(frozen=True)
class EncodedEssay:
    """One essay as a model sees it, before it joins a batch."""

    arrays: Mapping[str, NDArray]
    """By input name, without the batch axis."""
    tokens_used: int
    """Tokens (or n-grams) that the model sees."""
    truncated: bool
    """Whether a part of the essay was left out."""


class Encoder(Protocol):
    """Turns normalized text into a model's inputs."""

    def encode(self, text: str, prompt_index: int) -> EncodedEssay:
        """One essay; `text` is in the normal form of `essays.text.normalize_text`."""
        ...

    def collate(self, essays: Sequence[EncodedEssay]) -> Arrays:
        """A batch, padded to its longest essay, in the order given."""
        ...


def load_encoder(encoding: TokenEncoding | NgramEncoding, folder: Path) -> Encoder:
    """The encoder of an artifact's or a checkpoint's folder."""
    if isinstance(encoding, TokenEncoding):
        return TokenEncoder(encoding, Tokenizer.from_file(str(folder / TOKENIZER_FILE)))
    return NgramEncoder(encoding)


class TokenEncoder:
    """Ids, mask and prompt index."""

    def __init__(self, encoding: TokenEncoding, tokenizer: Tokenizer) -> None:
        self.encoding = encoding
        self.tokenizer = tokenizer
        # A tokenizer.json may carry truncation and padding of its own; ours is the only one.
        tokenizer.no_truncation()
        tokenizer.no_padding()

    def encode(self, text: str, prompt_index: int) -> EncodedEssay:
        """Head and tail of the essay's ids; the special tokens at both ends stay."""
        ids = np.asarray(self.tokenizer.encode(text).ids or [self.encoding.pad_id], dtype=np.int64)
        num_tokens, truncated = len(ids), len(ids) > self.encoding.max_tokens
        if truncated:
            ids = np.concatenate([ids[: self.encoding.head_tokens], ids[len(ids) - self.encoding.tail_tokens :]])
        arrays = {
            "input_ids": ids,
            "attention_mask": np.ones_like(ids),
            "num_tokens": np.asarray(num_tokens, dtype=np.int64),
            "prompt_index": np.asarray(prompt_index, dtype=np.int64),
        }
        return EncodedEssay(arrays, len(ids), truncated)

    def collate(self, essays: Sequence[EncodedEssay]) -> Arrays:
        """`input_ids` and `attention_mask` (B, T), `num_tokens` and `prompt_index` (B,)."""
        return {
            "input_ids": pad_rows([essay.arrays["input_ids"] for essay in essays], self.encoding.pad_id),
            "attention_mask": pad_rows([essay.arrays["attention_mask"] for essay in essays], 0),
            "num_tokens": np.stack([essay.arrays["num_tokens"] for essay in essays]),
            "prompt_index": np.stack([essay.arrays["prompt_index"] for essay in essays]),
        }


class NgramEncoder:
    """Hashed n-grams, surface features and prompt index."""

    def __init__(self, encoding: NgramEncoding) -> None:
        self.encoding = encoding

    def encode(self, text: str, prompt_index: int) -> EncodedEssay:
        """Never truncates."""
        encoding = self.encoding
        buckets = ngram_buckets(text, encoding.shortest, encoding.longest, encoding.num_buckets)
        arrays: Arrays = {
            "ngram_ids": buckets,
            "features": surface_features(text),
            "prompt_index": np.asarray(prompt_index, dtype=np.int64),
        }
        return EncodedEssay(arrays, len(buckets), truncated=False)

    def collate(self, essays: Sequence[EncodedEssay]) -> Arrays:
        """`ngram_ids` (B, T) with 0 as padding, `features` (B, NUM_FEATURES) float32, `prompt_index` (B,)."""
        features = np.stack([essay.arrays["features"] for essay in essays])
        assert features.shape[1:] == (NUM_FEATURES,)
        return {
            "ngram_ids": pad_rows([essay.arrays["ngram_ids"] for essay in essays], 0),
            "features": features,
            "prompt_index": np.stack([essay.arrays["prompt_index"] for essay in essays]),
        }


def pad_rows(rows: Sequence[NDArray], fill: int) -> NDArray[np.int64]:
    """Rows of different lengths as one (B, T) array, `fill` at their ends."""
    padded = np.full((len(rows), max(map(len, rows))), fill, dtype=np.int64)
    for index, row in enumerate(rows):
        padded[index, : len(row)] = row
    return padded
