"""A transformer encoder that reads an essay whole: CLS and mean pooling, its length, a vector and a head per prompt.

Any encoder of `transformers` serves as the backbone; `training.backbones` finds its weights, this module only its form.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PretrainedConfig

from training.models.parts import PromptHeads, TargetScale, length_feature, masked_mean
from training.models.scorer import TokenScorer
from training.models.spec import EncoderShape

_DROPOUTS = (
    *("hidden_dropout_prob", "attention_probs_dropout_prob", "dropout", "attention_dropout"),
    *("attn_pdrop", "embd_pdrop", "resid_pdrop"),  # GPT-2's
)


class EncoderScorer(TokenScorer):
    """Reads token ids and scores the first state and the mean state."""

    def __init__(self, num_prompts: int, shape: EncoderShape) -> None:
        super().__init__()
        config = backbone_config(shape.backbone)
        self.backbone = AutoModel.from_config(config, dtype=torch.float32)
        # BERT's pooler belongs to next-sentence prediction; sentence encoders ship it untrained.
        if getattr(self.backbone, "pooler", None) is not None:
            self.backbone.pooler = None
        # Zero: learning starts from the encoder as it came.
        self.prompt_vectors = nn.Parameter(torch.zeros(num_prompts, config.hidden_size))
        self.heads = PromptHeads(num_prompts, 2 * config.hidden_size + 1)
        self.target = TargetScale(num_prompts)

    def pooled(self, input_ids: Tensor, attention_mask: Tensor, num_tokens: Tensor, prompt_index: Tensor) -> Tensor:
        """What the heads see: the first token's state, the mean of all, and the length, (B, 2H + 1)."""
        words = self.backbone.get_input_embeddings()(input_ids)  # (B, T, H)
        first = words[:, :1] + self.prompt_vectors[prompt_index].unsqueeze(1)  # (B, 1, H)
        words = torch.cat([first, words[:, 1:]], dim=1)
        states = self.backbone(inputs_embeds=words, attention_mask=attention_mask).last_hidden_state  # (B, T, H)
        return summary(states, attention_mask, num_tokens)


def summary(states: Tensor, attention_mask: Tensor, num_tokens: Tensor) -> Tensor:
    """The first state and the mean of all, from states (B, T, H), beside the length, (B, 2H + 1)."""
    return torch.cat([states[:, 0], masked_mean(states, attention_mask), length_feature(num_tokens)], dim=-1)


def backbone_config(written: dict[str, Any]) -> PretrainedConfig:
    """The backbone's configuration with dropout off: regression learns better without, and faster."""
    settings = {key: value for key, value in written.items() if key != "model_type"}
    config = AutoConfig.for_model(written["model_type"], **settings)
    for name in _DROPOUTS:
        if hasattr(config, name):
            setattr(config, name, 0.0)
    return config
