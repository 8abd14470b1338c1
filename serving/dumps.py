"""No core dump is written of a process that has essays and secrets in its memory."""

import resource


def forbid_core_dumps() -> None:
    """For this process and all that it starts. Handlers that the kernel pipes dumps to are told the limit, too."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
