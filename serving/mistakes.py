"""How our own mistakes are logged: where they happened, and not a word of what the caller sent."""

import logging
import traceback

from essays.errors import FairmarkError

# BentoML's logger: what it is configured with shows where the service runs.
logger = logging.getLogger("bentoml.fairmark")


def log_mistake(where: str, error: BaseException) -> None:
    """Frames and the error's kind, but not its text: that may quote an essay."""
    frames = "".join(traceback.format_tb(error.__traceback__))
    logger.error("mistake while %s: %s\n%s", where, type(error).__name__, frames)


def reason_for_operators(error: Exception, where: str) -> str:
    """The text of an error that was raised on purpose, or by a file; of a mistake its kind, and the rest in the log."""
    if isinstance(error, FairmarkError | OSError):
        return str(error)
    log_mistake(where, error)
    return f"{type(error).__name__} while {where}; the log says where"
