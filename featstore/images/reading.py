"""Reading of image files, and ordered look-ahead on threads."""

import os
import stat
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from featstore.errors import ImageError
from featstore.images.sources.containers.kinds import read_member
from featstore.images.sources.containers.member import MAX_IMAGE_BYTES
from featstore.images.sources.folders import unusable_reason
from featstore.io.remote.opening import read_object
from featstore.io.stamps import MEMBER_MARK
from featstore.io.urls import is_url

__all__ = ["default_workers", "map_ahead", "read_image"]

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def read_image(path: str) -> bytes:
    """Read a whole image file, an object or an image within a file; never block on a pipe or device."""
    if is_url(path):
        return read_object(path)[0]
    try:
        with open(_opened(path), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ImageError(unusable_reason(status))
            if status.st_size > MAX_IMAGE_BYTES:
                raise ImageError(
                    f"the file has {status.st_size:,} bytes; an image may have {MAX_IMAGE_BYTES:,}"
                )
            return file.read()
    except OSError as error:
        if MEMBER_MARK in path and (data := _of_container(path)) is not None:
            return data
        raise ImageError(_why_not(path, error)) from error


def _of_container(path: str) -> bytes | None:
    try:
        return read_member(path)
    except OSError as error:
        raise ImageError(unusable_reason(error)) from error


def _opened(path: str) -> int:
    try:
        return os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except ValueError as error:
        raise ImageError("no file has such a name: it holds a NUL or half a character") from error


def _why_not(path: str, error: OSError) -> str:
    """Explain why a path could not be opened; the system's words for sockets and folders are unclear."""
    try:
        found = os.stat(path)
    except OSError:
        return unusable_reason(error)
    return unusable_reason(error if stat.S_ISREG(found.st_mode) else found)


def default_workers() -> int:
    """Return the default number of decoding threads: one for each usable core, at most 32."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:
        cores = os.cpu_count() or 1
    return min(cores, 32)


def map_ahead(
    function: Callable[[_Item], _Result],
    items: Iterable[_Item],
    *,
    workers: int,
    ahead: int,
    more: Callable[[_Result], Callable[[], _Result] | None] = lambda result: None,
) -> Iterator[_Result]:
    """Apply a function on threads, in order, with a bounded number of results waiting."""
    waiting: deque[Future[_Result]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="featstore")

    def first() -> _Result:
        result = waiting.popleft().result()
        if (go_on := more(result)) is not None:
            waiting.appendleft(pool.submit(go_on))
        return result

    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            while len(waiting) >= ahead:
                yield first()
        while waiting:
            yield first()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
