"""A language model that reads an essay from its start: its last token's state, its length, a head per prompt.

Any decoder of `transformers` serves as the backbone; `training.backbones` finds its weights, this module only its form.
Each token sees those before it alone, so padding at the end changes nothing; padding at the start is masked, and
positions count real tokens.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModel

from training.models.encoder import backbone_config
from training.models.parts import PromptHeads, TargetScale, length_feature
from training.models.scorer import TokenScorer
from training.models.spec import DecoderShape


class DecoderScorer(TokenScorer):
    """Reads token ids and scores the last state."""

    has_frozen_base = True

    def __init__(self, num_prompts: int, shape: DecoderShape) -> None:
        super().__init__()
        config = backbone_config(shape.backbone)
        config.use_cache = False
        self.backbone = AutoModel.from_config(config, dtype=torch.float32)
        # Only adapters learn (`training.adapters`), and the heads.
        self.backbone.requires_grad_(False)
        self.heads = PromptHeads(num_prompts, config.hidden_size + 1)
        self.target = TargetScale(num_prompts)

    def pooled(self, input_ids: Tensor, attention_mask: Tensor, num_tokens: Tensor, prompt_index: Tensor) -> Tensor:
        """What the heads see: the last real token's state, and the length, (B, H + 1)."""
        return summary(read(self.backbone, attention_mask, input_ids=input_ids), attention_mask, num_tokens)


def read(backbone: nn.Module, attention_mask: Tensor, **tokens: Any) -> Tensor:
    """States (B, T, H) of ids or of states (`inputs_embeds`), with positions that padding does not shift."""
    position_ids = (attention_mask.cumsum(dim=1) - 1).clamp(min=0)  # (B, T)
    states: Tensor = backbone(
        attention_mask=attention_mask, position_ids=position_ids, use_cache=False, **tokens
    ).last_hidden_state
    return states


def summary(states: Tensor, attention_mask: Tensor, num_tokens: Tensor) -> Tensor:
    """The last real token's state from states (B, T, H), beside the length, (B, H + 1)."""
    places = torch.ones_like(attention_mask).cumsum(dim=1) - 1
    last = (places * attention_mask).amax(dim=1)  # (B,)
    chosen = last.view(-1, 1, 1).expand(-1, 1, states.shape[-1])
    state = states.gather(1, chosen)[:, 0].float()  # (B, H)
    return torch.cat([state, length_feature(num_tokens)], dim=-1)
