"""What a process and all its descendants take: CPU time and memory, from /proc."""

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

PROC = Path("/proc")
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
# Fields of /proc/PID/stat after the name in brackets: parent; user, system, and those of children that were waited for.
_PARENT, _TIMES = 1, slice(11, 15)


def process_tree(pid: int) -> list[int]:
    """This process and every living descendant."""
    children: dict[int, list[int]] = {}
    for other, fields in _all_stats():
        children.setdefault(int(fields[_PARENT]), []).append(other)
    found = [pid]
    for each in found:
        found.extend(children.get(each, []))
    return found


def cpu_s(pid: int) -> float:
    """CPU seconds that the tree has used so far, ended children included once their parent has waited for them.

    In steps of 10 ms for each process: take differences over many essays.
    """
    ticks = 0
    for each in process_tree(pid):
        with suppress(FileNotFoundError, ProcessLookupError):
            ticks += sum(map(int, _stat(each)[_TIMES]))
    return ticks / TICKS_PER_S


def pss_mb(pid: int) -> float:
    """Memory of the tree in MB (10^6 bytes), pages that several processes share counted once in all (PSS)."""
    total_kib = 0
    for each in process_tree(pid):
        # Of a process that has ended, or ends just now, the file is gone or empty.
        with suppress(FileNotFoundError, ProcessLookupError):
            total_kib += _pss_kib((PROC / str(each) / "smaps_rollup").read_text("ascii").splitlines())
    return total_kib * 1024 / 1e6


def is_alive(pid: int) -> bool:
    """Whether the process still runs; one that only waits to be waited for does not."""
    try:
        return _stat(pid)[0] not in ("Z", "X")
    except (FileNotFoundError, ProcessLookupError):
        return False


def load_average() -> float:
    """Processes that wanted a core, over the last minute."""
    return os.getloadavg()[0]


def _pss_kib(lines: Iterable[str]) -> int:
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def _all_stats() -> Iterable[tuple[int, list[str]]]:
    for entry in os.listdir(PROC):  # noqa: PTH208 - thousands of Path objects a second would load the machine
        if entry.isdigit():
            with suppress(FileNotFoundError, ProcessLookupError):
                yield int(entry), _stat(int(entry))


def _stat(pid: int) -> list[str]:
    # The name may hold spaces and brackets; nothing after it does.
    return (PROC / str(pid) / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()
