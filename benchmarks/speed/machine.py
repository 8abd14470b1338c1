"""What it was measured on, in words and numbers."""

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

from benchmarks.speed import meter

_TELLING_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "amx_bf16", "amx_int8", "sve", "bf16")
NOT_MEASURED = "not measured: no NVIDIA GPU on this machine"


def describe_machine() -> dict[str, Any]:
    """Processor, cores, memory, system and load."""
    flags = set(_cpu_field("flags").split() or _cpu_field("Features").split())
    return {
        "cpu": _cpu_field("model name") or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "instructions": [flag for flag in _TELLING_FLAGS if flag in flags],
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "threads_variable": os.environ.get("OMP_NUM_THREADS"),
        "load_average": round(meter.load_average(), 2),
        "gpu": find_gpu() or NOT_MEASURED,
    }


def find_gpu() -> str | None:
    """The first NVIDIA GPU's name, where there is one."""
    try:
        ended = subprocess.run(
            ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"], capture_output=True, text=True, timeout=30
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    names = ended.stdout.strip().splitlines() if ended.returncode == 0 else []
    return names[0] if names else None


def _cpu_field(name: str) -> str:
    for line in Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return ""
