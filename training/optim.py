"""AdamW with a rate for each layer, and a rate that warms up and falls in a line."""

import re
from collections import defaultdict

import torch
from torch import nn

from training.config import DecoderConfig, EncoderConfig, LoopConfig

_LAYER = re.compile(r"\.(?:layer|layers|h|block|blocks)\.(\d+)\.")
_HEAD = re.compile(r"^(?:heads|prompt_vectors)\b")


def layer_of(name: str) -> int:
    """How high a backbone's weight lies: 0 for embeddings, 1 for the lowest layer, and so on."""
    found = _LAYER.search(name)
    return int(found.group(1)) + 1 if found else 0


def freeze(scorer: nn.Module, config: LoopConfig) -> None:
    """Stop the lowest layers of an encoder from learning, with all that lies below them."""
    if not isinstance(config, EncoderConfig) or not config.frozen_layers:
        return
    for name, weight in scorer.named_parameters():
        # A prompt's vector enters below the first layer: to learn it, gradients would have to pass the frozen ones.
        if not name.startswith("heads.") and layer_of(name) <= config.frozen_layers:
            weight.requires_grad_(False)


def parameter_groups(scorer: nn.Module, config: LoopConfig) -> list[dict]:
    """Weights that learn, grouped by rate and decay, in the module's order.

    Biases, norms and other vectors get no decay. In an encoder the top layer has the full rate, each below it
    `layer_decay` of the one above, and heads and prompts' vectors a rate of their own. A decoder's adapters all have
    one.
    """
    learning = [(name, weight) for name, weight in scorer.named_parameters() if weight.requires_grad]
    top = max((layer_of(name) for name, _ in learning), default=0)
    groups: dict[tuple[float, float], list[nn.Parameter]] = defaultdict(list)
    for name, weight in learning:
        decay = config.weight_decay if weight.ndim > 1 else 0.0
        groups[_rate(name, top, config), decay].append(weight)
    return [{"params": weights, "lr": rate, "weight_decay": decay} for (rate, decay), weights in groups.items()]


def make_optimizer(scorer: nn.Module, config: LoopConfig) -> torch.optim.Optimizer:
    """AdamW over the groups of `parameter_groups`."""
    return torch.optim.AdamW(parameter_groups(scorer, config))


def rate_factor(step: int, num_steps: int, warmup_share: float) -> float:
    """Share of the peak rate at a step: up in a line over the warm-up, then down in a line to 0 at `num_steps`."""
    warmup = warmup_share * num_steps
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return max(0.0, (num_steps - step) / max(num_steps - warmup, 1.0))


def _rate(name: str, top: int, config: LoopConfig) -> float:
    if not isinstance(config, EncoderConfig | DecoderConfig):
        return config.learning_rate
    if _HEAD.match(name):
        return config.head_learning_rate
    if isinstance(config, DecoderConfig):
        return config.learning_rate
    return config.learning_rate * config.layer_decay ** (top - layer_of(name))
