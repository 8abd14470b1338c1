"""Who listens on a port of this machine."""

import psutil


def owner_of_port(port: int) -> str | None:
    """`process 4711 (python3.11)` where something listens on this port, None where nothing does."""
    for connection in psutil.net_connections("tcp"):
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port:
            return describe(connection.pid) if connection.pid else "a process of another user"
    return None


def describe(pid: int) -> str:
    """A process in words."""
    try:
        return f"process {pid} ({psutil.Process(pid).name()})"
    except psutil.NoSuchProcess:
        return f"process {pid}"
