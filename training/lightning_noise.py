"""Keeps Lightning's banners, advice and known warnings off the screen: our own lines say what happens."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_LOGGERS = ("pytorch_lightning", "lightning", "lightning.fabric")


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Inside, only Lightning's errors speak; warnings that we do not know of stay."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            # The folder of a resumed run is never empty, and that is why it is there.
            warnings.filterwarnings("ignore", "Checkpoint directory .* exists and is not empty")
            # Lightning 2.6 with torch 2.13.
            warnings.filterwarnings("ignore", r".*isinstance\(treespec, LeafSpec\).* is deprecated")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
