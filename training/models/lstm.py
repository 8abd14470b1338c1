"""A small recurrent reader: static word vectors, an LSTM in each direction, three ways of pooling side by side.

No packed sequences: they do not export with a free batch. Padding stands at the end, so the forward LSTM never meets
it before a real word; the backward one reads each row reversed within its own length. Pooling masks the rest.
"""

import torch
from torch import Tensor, nn

from training.models.parts import PromptHeads, TargetScale, length_feature, masked_mean
from training.models.scorer import TokenScorer
from training.models.spec import LstmShape

# Further from any state than states are from each other, so that padding wins neither softmax nor maximum.
_FAR = 1e9


class LstmScorer(TokenScorer):
    """Reads word ids both ways and sums up what it read."""

    def __init__(self, num_prompts: int, shape: LstmShape) -> None:
        super().__init__()
        pooled_size = 2 * shape.hidden_size
        self.word_vectors = nn.Embedding(shape.num_words, shape.word_size)
        self.prompt_vectors = nn.Embedding(num_prompts, shape.prompt_size)
        self.forward_lstm = nn.LSTM(shape.word_size, shape.hidden_size, batch_first=True)
        self.backward_lstm = nn.LSTM(shape.word_size, shape.hidden_size, batch_first=True)
        self.attention = nn.Sequential(
            nn.Linear(pooled_size, shape.hidden_size), nn.Tanh(), nn.Linear(shape.hidden_size, 1)
        )
        self.dropout = nn.Dropout(shape.dropout)
        self.heads = PromptHeads(num_prompts, 3 * pooled_size + 1 + shape.prompt_size)
        self.target = TargetScale(num_prompts)

    def set_word_vectors(self, table: Tensor) -> None:
        """Take static vectors, (num_words, word_size); they do not learn."""
        self.word_vectors.weight.data.copy_(table)
        self.word_vectors.weight.requires_grad_(False)

    def pooled(self, input_ids: Tensor, attention_mask: Tensor, num_tokens: Tensor, prompt_index: Tensor) -> Tensor:
        """What the heads see: states weighed, averaged, at their highest; length; prompt, (B, 6H + 1 + P)."""
        words = self.dropout(self.word_vectors(input_ids))  # (B, T, E)
        backwards = _reversing_places(attention_mask)
        ahead, _ = self.forward_lstm(words)  # (B, T, H)
        behind, _ = self.backward_lstm(_take(words, backwards))
        states = torch.cat([ahead, _take(behind, backwards)], dim=-1)  # (B, T, 2H)
        far = _FAR * (1 - attention_mask.to(states.dtype))  # (B, T)
        weights = torch.softmax(self.attention(states).squeeze(-1) - far, dim=1).unsqueeze(-1)  # (B, T, 1)
        weighed = (states * weights).sum(dim=1)  # (B, 2H)
        highest = (states - far.unsqueeze(-1)).amax(dim=1)
        summary = self.dropout(torch.cat([weighed, masked_mean(states, attention_mask), highest], dim=-1))
        return torch.cat([summary, length_feature(num_tokens), self.prompt_vectors(prompt_index)], dim=-1)


def _reversing_places(attention_mask: Tensor) -> Tensor:
    """For each place the one to read there so that the real words come reversed and padding stays put, (B, T)."""
    places = torch.ones_like(attention_mask).cumsum(dim=1) - 1
    lengths = attention_mask.sum(dim=1, keepdim=True)
    return torch.where(places < lengths, lengths - 1 - places, places)


def _take(states: Tensor, places: Tensor) -> Tensor:
    """States (B, T, H) in the order of `places` (B, T)."""
    return states.gather(1, places.unsqueeze(-1).expand(-1, -1, states.shape[-1]))
