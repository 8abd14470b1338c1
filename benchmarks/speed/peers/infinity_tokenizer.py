"""Head, tail, length and prompt of an essay for infinity-emb, which takes plain texts: `PROMPT_INDEX<tab>TEXT`.

Laid beside the weights (`infinity_server`) and loaded by `transformers` as custom code.
"""

from typing import Any

from transformers import BatchEncoding, PreTrainedTokenizerFast

from essays.encoding import TokenEncoder, TokenEncoding


class FairmarkTokenizer(PreTrainedTokenizerFast):
    """Calls go through this project's encoding; everything else stays as in `transformers`."""

    def __init__(self, *args: Any, head_tokens: int = 0, tail_tokens: int = 0, **rest: Any) -> None:
        super().__init__(*args, head_tokens=head_tokens, tail_tokens=tail_tokens, **rest)
        self._encoding = TokenEncoding(head_tokens=head_tokens, tail_tokens=tail_tokens, pad_id=self.pad_token_id)

    def __call__(self, text: str | list[str], return_tensors: str | None = None, **_: Any) -> BatchEncoding:
        """Ids, mask, number of tokens and prompt of one text or several."""
        encoder = TokenEncoder(self._encoding, self.backend_tokenizer)
        parts = [_parts(each) for each in ([text] if isinstance(text, str) else text)]
        arrays = encoder.collate([encoder.encode(essay, prompt_index) for prompt_index, essay in parts])
        return BatchEncoding(arrays, tensor_type=return_tensors)


def _parts(text: str) -> tuple[int, str]:
    index, tab, essay = text.partition("\t")
    # Its warm-up sends texts of its own, without a prompt.
    return (int(index), essay) if tab and index.isdigit() else (0, text)
