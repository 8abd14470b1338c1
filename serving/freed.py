"""glibc keeps freed memory for later, and by default a heap for each of many threads; a service holds on to neither.

Loading models frees as much as a graph's weights take. Elsewhere (musl, macOS) nothing is done.
"""

import ctypes

_M_ARENA_MAX = -8
_HEAPS = 2


def share_heaps() -> None:
    """Let threads that begin from now on share a few heaps."""
    _call("mallopt", _M_ARENA_MAX, _HEAPS)


def give_back_freed_memory() -> None:
    """Return to the system what was freed: about 100 MB after all default models are loaded."""
    _call("malloc_trim", 0)


def _call(name: str, *arguments: int) -> None:
    function = getattr(ctypes.CDLL(None), name, None)
    if function is not None:
        function(*arguments)
