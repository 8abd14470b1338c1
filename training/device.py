"""What this machine learns with: its GPU where it has one, and bf16 where that is multiplied in hardware."""

import torch


def best_device() -> torch.device:
    """The first NVIDIA GPU, or the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def uses_bf16(precision: str) -> bool:
    """Whether matrix products run in bf16: as asked, or by `auto` where the hardware multiplies it."""
    if precision != "auto":
        return precision == "bf16"
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
