"""Freed memory goes back to the system, where the C library can be told so."""

import subprocess
import sys
from pathlib import Path

SCRIPT = """
import ctypes
from serving.freed import give_back_freed_memory, share_heaps

def resident_mb():
    line = next(line for line in open("/proc/self/status") if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024

share_heaps()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
blocks = [libc.malloc(60_000) for _ in range(1_000)]
for block in blocks:
    ctypes.memset(block, 1, 60_000)
# The last one stays, and with it everything below.
for block in blocks[:-1]:
    libc.free(ctypes.c_void_p(block))
before = resident_mb()
give_back_freed_memory()
print(before - resident_mb())
"""


def test_what_was_freed_below_a_block_in_use_is_given_back(root: Path) -> None:
    ended = subprocess.run([sys.executable, "-c", SCRIPT], cwd=root, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert float(ended.stdout) > 40
