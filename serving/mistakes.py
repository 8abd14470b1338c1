"""How our own mistakes are logged: where they happened, and not a word of what the caller sent."""

import logging
import traceback

# BentoML's logger: what it is configured with shows where the service runs.
logger = logging.getLogger("bentoml.fairmark")


def log_mistake(where: str, error: BaseException) -> None:
    """Frames and the error's kind, but not its text: that may quote an essay."""
    frames = "".join(traceback.format_tb(error.__traceback__))
    logger.error("mistake while answering %s: %s\n%s", where, type(error).__name__, frames)
