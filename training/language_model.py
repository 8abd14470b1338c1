"""A causal language model that writes on: whole batches at once, each row from random numbers of its own.

Knows nothing of essays. Leaves which text is continued, and what comes of it, to `training.continuations`.
"""

import contextlib
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache, PreTrainedTokenizerFast
from transformers.utils import logging as transformers_logging

from essays.errors import StageFailed
from training.packaged import require_folder

_LOOKS_SPECIAL = re.compile(r"<[^<>]+>")
_CANDIDATES = 64
"""Likeliest tokens that are looked at in a step; what the nucleus drops beyond them is next to nothing."""


@dataclass(frozen=True)
class LanguageModel:
    """A model, its tokenizer, and what of its vocabulary matters here."""

    model: nn.Module
    """In eval mode; gives logits (B, T, V)."""
    tokenizer: PreTrainedTokenizerFast
    begins_word: NDArray[np.bool_]
    """Tokens that begin a word, (V,)."""
    barred: torch.Tensor
    """Special tokens, which no continuation holds, (V,) bool."""


@dataclass(frozen=True)
class Written:
    """What a model wrote after an opening."""

    text: str
    tokens: tuple[int, ...]
    """The ids that the text was decoded from."""
    perplexity: float
    """Of these tokens under the model itself: low where it turns in circles, high where it is lost."""


def load_language_model(name: str) -> LanguageModel:
    """A model from a folder or an installed package, of safetensors or of one GGUF file.

    bf16 where the hardware multiplies it. Raises StageFailed when there is none, or it is of no causal kind.
    """
    folder = require_folder(name)
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    packed = sorted(folder.glob("*.gguf"))
    source = {"gguf_file": packed[0].name} if packed else {}
    try:
        # Unpacking draws a bar of its own.
        with contextlib.redirect_stderr(io.StringIO()):
            tokenizer = AutoTokenizer.from_pretrained(folder, **source)
            model = AutoModelForCausalLM.from_pretrained(folder, dtype=_dtype(), **source)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise StageFailed(f"language model {name!r}: nothing to load in {folder}: {reason}") from error
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise StageFailed(f"language model {name!r}: it has no tokenizer.json (Rust tokenizers); convert it")
    pieces = tokenizer.convert_ids_to_tokens(list(range(model.config.vocab_size)))
    barred = torch.zeros(model.config.vocab_size, dtype=torch.bool)
    barred[tokenizer.all_special_ids] = True
    # A GGUF file tells only some of the special tokens; all have the look of one.
    barred[[place for place, piece in enumerate(pieces) if piece is None or _LOOKS_SPECIAL.fullmatch(piece)]] = True
    # Byte-level tokenizers write a space as Ġ and a line's end as Ċ, SentencePiece a space as ▁.
    begins = np.array([(piece or "")[:1] in ("Ġ", "Ċ", "▁") for piece in pieces])
    return LanguageModel(model.eval(), tokenizer, begins, barred)


def write_on(
    language: LanguageModel,
    openings: Sequence[str],
    num_words: Sequence[int],
    seeds: Sequence[int],
    temperature: float,
    top_share: float,
    on_step: Callable[[int], None] = lambda num_tokens: None,
) -> list[Written]:
    """Continue each opening by about so many words: nucleus sampling (Holtzman et al., 2020).

    A row's random numbers follow from its seed alone, so neither its neighbours nor their number change what it draws.
    `on_step` hears how many tokens a step wrote.
    """
    model, device = language.model, next(language.model.parameters()).device
    rows = [language.tokenizer(opening, add_special_tokens=False)["input_ids"] for opening in openings]
    most = [2 * number for number in num_words]
    draws = [np.random.default_rng(seed).random(number) for seed, number in zip(seeds, most, strict=True)]
    ids, mask = _left_padded(rows, device)
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    cache = DynamicCache()
    written: list[list[int]] = [[] for _ in rows]
    surprise, words = np.zeros(len(rows)), np.zeros(len(rows), dtype=np.int64)
    barred = language.barred.to(device)
    with torch.inference_mode():
        for step in range(max(most)):
            out = model(
                input_ids=ids,
                attention_mask=mask,
                position_ids=positions,
                cache=cache,
                use_cache=True,
                logits_to_keep=1,
            )
            logits = out.logits[:, -1].float().masked_fill(barred, -torch.inf)  # (B, V)
            numbers = np.array([row[min(step, len(row) - 1)] for row in draws])
            chosen, log_share = _sample(logits, numbers, temperature, top_share)
            open_rows = [place for place in range(len(rows)) if len(written[place]) == step and step < most[place]]
            for place in open_rows:
                token = int(chosen[place])
                words[place] += language.begins_word[token]
                if words[place] > num_words[place]:
                    continue  # the word before is whole, and no more are wanted
                written[place].append(token)
                surprise[place] -= float(log_share[place])
            on_step(len(open_rows))
            if not any(len(tokens) == step + 1 for tokens in written):
                break
            ids = torch.from_numpy(chosen).to(device)[:, None]
            mask = torch.cat([mask, mask.new_ones(len(rows), 1)], dim=1)
            positions = positions[:, -1:] + 1
    return [
        Written(str(language.tokenizer.decode(tokens)), tuple(tokens), float(np.exp(total / max(len(tokens), 1))))
        for tokens, total in zip(written, surprise, strict=True)
    ]


def _sample(
    logits: torch.Tensor, numbers: NDArray[np.float64], temperature: float, top_share: float
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """A token for each row of logits (B, V), by a number in [0, 1); and its log share at temperature 1, (B,)."""
    values, tokens = logits.topk(min(_CANDIDATES, logits.shape[-1]), dim=-1)  # (B, K), likeliest first
    shares = (values.double() / temperature).softmax(-1)
    before = shares.cumsum(-1) - shares
    shares = torch.where(before < top_share, shares, 0.0)
    ends = (shares / shares.sum(-1, keepdim=True)).cumsum(-1)
    drawn = torch.from_numpy(numbers).to(ends.device)[:, None]
    places = (ends <= drawn).sum(-1, keepdim=True).clamp(max=ends.shape[-1] - 1)
    log_shares = values.gather(-1, places)[:, 0] - logits.logsumexp(-1)
    return tokens.gather(-1, places)[:, 0].cpu().numpy(), log_shares.double().cpu().numpy()


def _left_padded(rows: Sequence[Sequence[int]], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and mask, (B, T) each: openings end together, so that all go on at the same place."""
    longest = max(map(len, rows))
    ids = torch.zeros(len(rows), longest, dtype=torch.int64)
    mask = torch.zeros(len(rows), longest, dtype=torch.int64)
    for place, row in enumerate(rows):
        ids[place, longest - len(row) :] = torch.tensor(row)
        mask[place, longest - len(row) :] = 1
    return ids.to(device), mask.to(device)


def _dtype() -> torch.dtype:
    if torch.cuda.is_available():
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    return torch.bfloat16 if torch.cpu._is_avx512_bf16_supported() else torch.float32
