"""Warnings of fitting, each logged once where many fits make one result."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["each_warning_once", "warn"]

_logged: ContextVar[set[str] | None] = ContextVar("_logged", default=None)


def warn(logger: logging.Logger, message: str, *values: object) -> None:
    """Log a warning, unless the same one has been logged in this block of fits."""
    text = message % values if values else message
    if (logged := _logged.get()) is not None:
        if text in logged:
            return
        logged.add(text)
    logger.warning("%s", text, stacklevel=2)


@contextmanager
def each_warning_once() -> Iterator[None]:
    """Log each warning of the fits in this block only once."""
    before = _logged.set(set())
    try:
        yield
    finally:
        _logged.reset(before)
