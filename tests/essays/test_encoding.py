"""What models see: ids with head and tail kept, n-grams, and batches padded without a change to any row."""

from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from essays.encoding import (
    NgramEncoder,
    NgramEncoding,
    TokenEncoder,
    TokenEncoding,
    load_encoder,
    pad_rows,
)
from essays.features import NUM_FEATURES, ngram_buckets, surface_features

WORDS = [f"w{number}" for number in range(30)]
LONG = " ".join(WORDS)


@pytest.fixture
def tokenizer() -> Tokenizer:
    """A word a token, `[CLS]` (1) before and `[SEP]` (2) after; with truncation and padding that must not survive."""
    vocabulary = {word: index for index, word in enumerate(["[PAD]", "[CLS]", "[SEP]", "[UNK]", *WORDS])}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    made.enable_truncation(5)
    made.enable_padding(length=12)
    return made


def encoder(tokenizer: Tokenizer, head: int, tail: int) -> TokenEncoder:
    return TokenEncoder(TokenEncoding(head_tokens=head, tail_tokens=tail), tokenizer)


def test_short_essay_is_kept_whole(tokenizer: Tokenizer) -> None:
    essay = encoder(tokenizer, 6, 4).encode("w0 w1 unknown", 3)
    assert essay.arrays["input_ids"].tolist() == [1, 4, 5, 3, 2]
    assert essay.arrays["attention_mask"].tolist() == [1] * 5
    assert int(essay.arrays["num_tokens"]) == 5
    assert int(essay.arrays["prompt_index"]) == 3
    assert (essay.tokens_used, essay.truncated) == (5, False)


def test_long_essay_keeps_head_and_tail_with_special_tokens(tokenizer: Tokenizer) -> None:
    essay = encoder(tokenizer, 4, 3).encode(LONG, 0)
    ids = [tokenizer.id_to_token(number) for number in essay.arrays["input_ids"]]
    assert ids == ["[CLS]", "w0", "w1", "w2", "w28", "w29", "[SEP]"]
    assert (essay.tokens_used, essay.truncated) == (7, True)
    assert int(essay.arrays["num_tokens"]) == 32  # of the whole essay


def test_without_a_tail_only_the_head_is_kept(tokenizer: Tokenizer) -> None:
    essay = encoder(tokenizer, 4, 0).encode(LONG, 0)
    assert essay.arrays["input_ids"].tolist() == [1, 4, 5, 6]


def test_essay_of_exactly_the_bound_is_not_truncated(tokenizer: Tokenizer) -> None:
    essay = encoder(tokenizer, 20, 12).encode(LONG, 0)
    assert (essay.tokens_used, essay.truncated) == (32, False)


def test_text_without_tokens_still_has_a_row(tokenizer: Tokenizer) -> None:
    tokenizer.post_processor = processors.TemplateProcessing(single="$A", special_tokens=[])
    essay = encoder(tokenizer, 4, 2).encode("", 0)
    assert essay.arrays["input_ids"].tolist() == [0]
    assert essay.tokens_used == 1


def test_batch_pads_to_its_longest_and_keeps_the_order(tokenizer: Tokenizer) -> None:
    encode = encoder(tokenizer, 20, 12)
    batch = encode.collate([encode.encode("w5", 1), encode.encode("w1 w2 w3", 0)])
    assert batch["input_ids"].tolist() == [[1, 9, 2, 0, 0], [1, 5, 6, 7, 2]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 0, 0], [1] * 5]
    assert batch["num_tokens"].tolist() == [3, 5]
    assert batch["prompt_index"].tolist() == [1, 0]
    assert {array.dtype for array in batch.values()} == {np.dtype(np.int64)}


def test_encoder_of_a_folder_encodes_as_the_one_that_was_saved(tokenizer: Tokenizer, tmp_path: Path) -> None:
    encoding = TokenEncoding(head_tokens=9, tail_tokens=3)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    first, second = TokenEncoder(encoding, tokenizer), load_encoder(encoding, tmp_path)
    for text in ("w1", LONG, ""):
        assert second.encode(text, 0).arrays["input_ids"].tolist() == first.encode(text, 0).arrays["input_ids"].tolist()


def test_ngrams_and_features_are_those_of_the_text(tmp_path: Path) -> None:
    encoding = NgramEncoding(shortest=1, longest=3, num_buckets=512)
    encode = load_encoder(encoding, tmp_path)
    essay = encode.encode("A small essay.", 2)
    assert essay.arrays["ngram_ids"].tolist() == ngram_buckets("A small essay.", 1, 3, 512).tolist()
    assert essay.arrays["features"].tolist() == surface_features("A small essay.").tolist()
    assert essay.truncated is False


def test_ngram_batch_has_zero_where_a_row_ends() -> None:
    encode = NgramEncoder(NgramEncoding(shortest=1, longest=2, num_buckets=512))
    short, long = encode.encode("ab", 0), encode.encode("a longer text", 1)
    batch = encode.collate([short, long])
    width = short.tokens_used
    assert batch["ngram_ids"].shape == (2, long.tokens_used)
    assert batch["ngram_ids"][0, :width].tolist() == short.arrays["ngram_ids"].tolist()
    assert not batch["ngram_ids"][0, width:].any()
    assert batch["features"].shape == (2, NUM_FEATURES)
    assert batch["features"].dtype == np.float32


def test_rows_are_filled_at_their_ends() -> None:
    assert pad_rows([np.array([1]), np.array([2, 3])], 9).tolist() == [[1, 9], [2, 3]]


def test_range_of_ngrams_that_runs_backwards_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"longest \(2\) is below shortest \(3\)"):
        NgramEncoding(shortest=3, longest=2, num_buckets=64)
