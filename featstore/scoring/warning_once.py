"""Suppression of repeated log messages of many fits."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from featstore.heads import calibration
from featstore.heads.data import partition
from featstore.heads.fitting import training

__all__ = ["each_warning_once"]


@contextmanager
def each_warning_once() -> Iterator[None]:
    """Log each message of fitting only once."""
    logged: set[str] = set()

    def is_new(record: logging.LogRecord) -> bool:
        message = record.getMessage()
        is_first = message not in logged
        logged.add(message)
        return is_first

    loggers = [logging.getLogger(module.__name__) for module in (calibration, partition, training)]
    for logger in loggers:
        logger.addFilter(is_new)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(is_new)
