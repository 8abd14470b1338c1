"""Fairmark's encoder as `transformers` code that anybody could have written: loads its checkpoint, gives its scores.

Also laid beside the weights for infinity-emb, which loads it as custom code; so it imports nothing of this project.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput


class FairmarkConfig(PretrainedConfig):
    """The backbone's configuration and the number of prompts."""

    model_type = "fairmark-encoder"

    def __init__(self, backbone: dict[str, Any] | None = None, num_prompts: int = 1, **rest: Any) -> None:
        self.backbone = backbone or {}
        self.num_prompts = num_prompts
        super().__init__(**rest)


class Heads(nn.Module):
    """A linear head for each prompt."""

    def __init__(self, num_prompts: int, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(num_prompts, size))
        self.bias = nn.Parameter(torch.zeros(num_prompts))


class Target(nn.Module):
    """Mean and deviation of each prompt's unit scores."""

    def __init__(self, num_prompts: int) -> None:
        super().__init__()
        self.mean: Tensor
        self.deviation: Tensor
        self.register_buffer("mean", torch.zeros(num_prompts))
        self.register_buffer("deviation", torch.ones(num_prompts))


class FairmarkForSequenceClassification(PreTrainedModel):
    """First state, mean state and length, through the prompt's head."""

    config_class = FairmarkConfig
    main_input_name = "input_ids"

    def __init__(self, config: FairmarkConfig) -> None:
        super().__init__(config)
        settings = {key: value for key, value in config.backbone.items() if key != "model_type"}
        self.backbone = AutoModel.from_config(AutoConfig.for_model(config.backbone["model_type"], **settings))
        if getattr(self.backbone, "pooler", None) is not None:
            self.backbone.pooler = None
        hidden = self.backbone.config.hidden_size
        self.prompt_vectors = nn.Parameter(torch.zeros(config.num_prompts, hidden))
        self.heads = Heads(config.num_prompts, 2 * hidden + 1)
        self.target = Target(config.num_prompts)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Nothing: every weight comes from the checkpoint."""

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, num_tokens: Tensor, prompt_index: Tensor, **_: Any
    ) -> SequenceClassifierOutput:
        """Logits, (B, 1): raw unit scores. With more labels the same score for each."""
        words = self.backbone.get_input_embeddings()(input_ids)  # (B, T, H)
        first = words[:, :1] + self.prompt_vectors[prompt_index].unsqueeze(1)
        words = torch.cat([first, words[:, 1:]], dim=1)
        states = self.backbone(inputs_embeds=words, attention_mask=attention_mask).last_hidden_state
        weights = attention_mask.unsqueeze(-1).to(states.dtype)
        mean = (states * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1.0)
        length = num_tokens.clamp(min=1).float().log().unsqueeze(-1) - 6.0
        pooled = torch.cat([states[:, 0], mean, length], dim=-1)
        standard = (pooled * self.heads.weight[prompt_index]).sum(dim=-1) + self.heads.bias[prompt_index]
        scores = self.target.mean[prompt_index] + self.target.deviation[prompt_index] * standard
        return SequenceClassifierOutput(logits=scores.unsqueeze(-1).expand(-1, self.config.num_labels or 1))


def config_of(spec: dict[str, Any]) -> FairmarkConfig:
    """From a checkpoint's model.json."""
    backbone = dict(spec["shape"]["backbone"])
    for name in ("hidden_dropout_prob", "attention_probs_dropout_prob", "dropout", "attention_dropout"):
        if name in backbone:
            backbone[name] = 0.0
    return FairmarkConfig(backbone=backbone, num_prompts=len(spec["prompt_ids"]), num_labels=1)


def load(folder: Path) -> FairmarkForSequenceClassification:
    """A checkpoint, in eval mode."""
    import json

    from safetensors.torch import load_file

    model = FairmarkForSequenceClassification(config_of(json.loads((folder / "model.json").read_text("utf-8"))))
    model.load_state_dict(load_file(str(folder / "model.safetensors")))
    return model.eval()
