"""Admission by memory: a large model is loaded, and a long essay run, only where what it takes is there.

A process that takes more than its machine or container has is killed, with every request in it; so it is asked first.
What a model takes is estimated in its manifest. Small models list nothing and are never asked.
"""

from pathlib import Path, PurePosixPath

from serving.catalogue import ServedModel
from serving.errors import NotEnoughMemory, Overloaded
from serving.runtimes import Session

RESERVE_BYTES = 200_000_000
"""Left to everything else in the process."""
_MEMINFO = Path("/proc/meminfo")
_GROUP = Path("/sys/fs/cgroup")
_OWN_GROUP = Path("/proc/self/cgroup")


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
    """What this process can take still: the machine's available memory, or less where its control groups have less."""
    return min([_meminfo("MemAvailable"), *(free for group in _groups() if (free := _free_in(group)) is not None)])


def total_bytes() -> int:
    """The machine's memory, or that of the control group with the least, such as a container's."""
    limits = [limit for group in _groups() if (limit := _number_in(group / "memory.max")) is not None]
    return min([_meminfo("MemTotal"), *limits])


def _meminfo(name: str) -> int:
    line = next(line for line in _MEMINFO.read_text("ascii").splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024


def _groups() -> list[Path]:
    """This process's control group and those around it (v2): a limit of any of them holds."""
    lines = _OWN_GROUP.read_text("ascii").splitlines()
    own = PurePosixPath(next((line.removeprefix("0::") for line in lines if line.startswith("0::")), "/"))
    if ".." in own.parts:  # begun outside of the container that it is in now
        return [_GROUP]
    return [_GROUP / each.relative_to("/") for each in (own, *own.parents)]


def _free_in(group: Path) -> int | None:
    limit, used = _number_in(group / "memory.max"), _number_in(group / "memory.current")
    if limit is None or used is None:
        return None
    # File pages count as used and are given back when they are needed.
    return max(limit - used + _inactive_file_bytes(group), 0)


def _number_in(file: Path) -> int | None:
    """None where there is no such file, or no limit."""
    try:
        value = file.read_text("ascii").strip()
    except OSError:
        return None
    return int(value) if value.isdigit() else None


def _inactive_file_bytes(group: Path) -> int:
    try:
        lines = (group / "memory.stat").read_text("ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("inactive_file ")), 0)


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.0f} MB"
