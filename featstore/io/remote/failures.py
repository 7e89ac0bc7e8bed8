"""What can go wrong on the way to another machine, and what is tried again."""

import contextlib
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NoReturn, TypeVar

from featstore.errors import ImageError, SourceUnavailableError

__all__ = [
    "REQUESTS_AT_ONCE",
    "DeniedError",
    "MissingError",
    "PassingError",
    "patiently",
    "request_threads",
    "unavailable",
]

REQUESTS_AT_ONCE = 32
"""How many requests are on their way at a time."""


RETRY_SECONDS = 60.0
"""How long what may pass is tried again."""

_SHORTEST_S, _LONGEST_S = 0.1, 8.0

_Result = TypeVar("_Result")
_of_thread = threading.local()


class PassingError(Exception):
    """A failure that may pass by itself: a server that is busy or restarts, a connection that breaks."""


class DeniedError(ImageError):
    """Access to one object is denied."""


class MissingError(ImageError):
    """There is no such object."""


@contextlib.contextmanager
def request_threads() -> Iterator[ThreadPoolExecutor]:
    """Give threads for requests; at the end those that wait to try again give up."""
    stop = threading.Event()
    pool = ThreadPoolExecutor(
        REQUESTS_AT_ONCE, "featstore-request", initializer=setattr, initargs=(_of_thread, "stop", stop)
    )
    try:
        yield pool
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)


def patiently(attempt: Callable[[], _Result], place: str) -> _Result:
    """Return what an attempt returns; repeat it while it raises PassingError, for a bounded time."""
    # Decorrelated jitter, as M. Brooker describes it in "Exponential Backoff and Jitter" (AWS, 2015).
    stop = getattr(_of_thread, "stop", None) or threading.Event()
    deadline = time.monotonic() + RETRY_SECONDS
    pause = _SHORTEST_S
    while True:
        try:
            return attempt()
        except PassingError as error:
            pause = min(_LONGEST_S, random.uniform(_SHORTEST_S, 3 * pause))
            if time.monotonic() + pause > deadline or stop.wait(pause):
                unavailable(place, str(error))


def unavailable(place: str, why: str) -> NoReturn:
    """Raise SourceUnavailableError for a place that cannot be used now."""
    reason = f"{place} cannot be used: {why}"
    error = SourceUnavailableError(f"{reason}; once that is fixed, the same command resumes")
    error.reason = reason
    # Without its cause, whose text may hold an access key.
    raise error from None
