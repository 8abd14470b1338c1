"""Where `bentoml serve` was told to listen, and whether that is free."""

import sys

import click
from bentoml._internal.configuration.containers import BentoMLContainer

from essays.console import EXIT_FAILED, say
from essays.ports import owner_of_port


def listening_address() -> tuple[str, int]:
    """Host and port, from the command's options or BentoML's configuration."""
    context = click.get_current_context(silent=True)
    given = context.params if context else {}
    http = BentoMLContainer.http
    return given.get("host") or http.host.get(), given.get("port") or http.port.get()


def end_if_taken() -> None:
    """End the process when it is `bentoml serve` and another listens on its port, which would show only at the end."""
    context = click.get_current_context(silent=True)
    if context is None or "port" not in context.params:
        return  # a worker, a build, a test
    _, port = listening_address()
    if owner := owner_of_port(port):
        say(f"error: port {port} is taken by {owner}; stop it, or choose another: --port {port + 1}")
        sys.exit(EXIT_FAILED)
