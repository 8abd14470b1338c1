"""LoRA adapters (Hu et al., 2021; `peft`): put into a pretrained decoder to learn, added to its weights after."""

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from essays.errors import BadParams
from training.config import DecoderConfig
from training.upper_layers import layer_list

_ADAPTER = "default"


def add_adapters(backbone: nn.Module, config: DecoderConfig) -> None:
    """Adapters beside the targeted matrices of the layers that learn; their fresh weights change nothing yet.

    Raises BadParams when the architecture has no such matrices or layers.
    """
    name, layers = layer_list(backbone)
    if config.frozen_layers >= len(layers):
        raise BadParams(
            f"frozen_layers is {config.frozen_layers}, but backbone {config.backbone} has {len(layers)} layers, and one"
            " at least must learn"
        )
    targets = [
        f"{name}.{place}.{path}"
        for place in range(config.frozen_layers, len(layers))
        for path, part in layers[place].named_modules()
        if path.rpartition(".")[2] in config.lora_targets and getattr(part, "weight", None) is not None
    ]
    if missing := set(config.lora_targets) - {target.rpartition(".")[2] for target in targets}:
        raise BadParams(
            f"lora_targets names {', '.join(sorted(missing))}, which backbone {config.backbone} does not have; it has"
            f" {', '.join(_matrices(layers[-1]))}"
        )
    lora = LoraConfig(
        r=config.lora_rank,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        target_modules=targets,
        fan_in_fan_out=_is_transposed(backbone, targets[0]),
    )
    inject_adapter_in_model(lora, backbone, _ADAPTER)
    for weight in backbone.parameters():
        if weight.requires_grad:
            weight.data = weight.data.float()


def merge_adapters(backbone: nn.Module) -> None:
    """Add what the adapters learned to the matrices beside them, in place, and take the adapters out."""
    changes = learned_changes(backbone)
    for name, layer in adapted_layers(backbone).items():
        base = layer.get_base_layer()
        _add(base, changes[name])
        parent, _, own_name = name.rpartition(".")
        setattr(backbone.get_submodule(parent), own_name, base)


def add_changes(backbone: nn.Module, changes: dict[str, Tensor]) -> None:
    """Add what adapters of a twin learned to a backbone that has none, in place."""
    for name, change in changes.items():
        _add(backbone.get_submodule(name), change)


def learned_changes(backbone: nn.Module) -> dict[str, Tensor]:
    """What each adapter adds to the matrix of its name, float32."""
    with torch.no_grad():
        return {name: _delta(layer) for name, layer in adapted_layers(backbone).items()}


def adapted_layers(backbone: nn.Module) -> dict[str, LoraLayer]:
    """Matrices with adapters, by name."""
    return {name: part for name, part in backbone.named_modules() if isinstance(part, LoraLayer)}


def _delta(layer: LoraLayer) -> Tensor:
    # Every kind of LoRA layer has it, their base class does not.
    delta: Tensor = layer.get_delta_weight(_ADAPTER)  # type: ignore[attr-defined]
    return delta.float()


def _add(matrix: nn.Module, change: Tensor) -> None:
    weight = matrix.weight
    assert isinstance(weight, Tensor)
    weight.data += change.to(weight)


def _is_transposed(backbone: nn.Module, name: str) -> bool:
    # GPT-2 keeps its matrices as (in, out).
    return type(backbone.get_submodule(name)).__name__ == "Conv1D"


def _matrices(layer: nn.Module) -> list[str]:
    return sorted(
        path.rpartition(".")[2]
        for path, part in layer.named_modules()
        if getattr(part, "weight", None) is not None and part.weight.ndim > 1
    )
