"""Admission by memory: a large model is loaded, and a long essay run, only where what it takes is there.

A process that takes more than its machine or container has is killed, with every request in it; so it is asked first.
What a model takes is estimated in its manifest. Small models list nothing and are never asked.
"""

from pathlib import Path

from serving.catalogue import ServedModel
from serving.errors import NotEnoughMemory, Overloaded
from serving.runtimes import Session

RESERVE_BYTES = 200_000_000
"""Left to everything else in the process."""
_MEMINFO = Path("/proc/meminfo")
_GROUP = Path("/sys/fs/cgroup")


def require_room_to_load(model: ServedModel) -> None:
    """Raise NotEnoughMemory where loading this model would take more memory than there is."""
    memory = model.manifest.memory
    free = free_bytes()
    if memory is not None and memory.load_bytes + RESERVE_BYTES > free:
        raise NotEnoughMemory(
            f"{model.name}: loading it takes about {_megabytes(memory.load_bytes)} and {_megabytes(free)} are free, of"
            f" which {_megabytes(RESERVE_BYTES)} are kept back; serve fewer models (service.models) or give the service"
            " more memory"
        )


def require_room_to_run(model: ServedModel, session: Session, num_tokens: int) -> None:
    """Raise where an essay of so many tokens would take more memory than there is.

    Overloaded when it would fit were nothing else there, NotEnoughMemory when it never can.
    """
    memory = model.manifest.memory
    if memory is None:
        return
    in_blocks = session.runtime.startswith("openvino")
    needed, free = memory.run_bytes(num_tokens, in_blocks=in_blocks) + RESERVE_BYTES, free_bytes()
    if needed <= free:
        return
    words = f"{model.name}: {num_tokens} tokens take about {_megabytes(needed)} and {_megabytes(free)} are free"
    if needed + memory.load_bytes <= total_bytes():
        raise Overloaded(f"{words}; try again later, or ask another model")
    raise NotEnoughMemory(f"{words}; this machine is too small for so long an essay: ask another model")


def free_bytes() -> int:
    """What this process can take still: the machine's available memory, or less where a container has less."""
    machine = _meminfo("MemAvailable")
    limit, used = _group_bytes("memory.max"), _group_bytes("memory.current")
    if limit is None or used is None:
        return machine
    # File pages count as used and are given back when they are needed.
    return min(machine, max(limit - used + _inactive_file_bytes(), 0))


def total_bytes() -> int:
    """The machine's memory, or the container's where it has less."""
    machine = _meminfo("MemTotal")
    return min(machine, _group_bytes("memory.max") or machine)


def _meminfo(name: str) -> int:
    line = next(line for line in _MEMINFO.read_text("ascii").splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024


def _group_bytes(name: str) -> int | None:
    """A number of this process's control group, where it is in one with a limit (v2; elsewhere the machine counts)."""
    try:
        value = (_GROUP / name).read_text("ascii").strip()
    except OSError:
        return None
    return int(value) if value.isdigit() else None


def _inactive_file_bytes() -> int:
    try:
        lines = (_GROUP / "memory.stat").read_text("ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("inactive_file ")), 0)


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.0f} MB"
