"""Reading ahead of images that are on other machines, many at a time."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, wait
from contextlib import ExitStack
from typing import Protocol, TypeVar

from featstore.errors import ImageError
from featstore.images.sources.refusals import Refusals
from featstore.io.remote.failures import REQUESTS_AT_ONCE, request_threads
from featstore.io.urls import is_url

__all__ = ["fetch_ahead"]

# Most images that are read and not yet decoded, and most of their bytes where sizes are known.
_AHEAD = 2 * REQUESTS_AT_ONCE
_AHEAD_BYTES = 2**28


class _Readable(Protocol):
    @property
    def path(self) -> str | None: ...

    def read(self) -> bytes: ...


_ReadableT = TypeVar("_ReadableT", bound=_Readable)


def fetch_ahead(items: Iterable[_ReadableT]) -> Generator[tuple[_ReadableT, Callable[[], bytes]], None, None]:
    """Yield items, in order, with what reads them; of those on other machines, that has happened by then."""
    waiting: deque[tuple[_ReadableT, Future[bytes] | None]] = deque()
    refusals = Refusals()
    n_bytes = 0
    is_over = False
    with ExitStack() as stack:
        pool = None

        def first() -> tuple[_ReadableT, Callable[[], bytes]]:
            nonlocal n_bytes, is_over
            item, fetching = waiting.popleft()
            if fetching is None:
                return item, item.read
            wait([fetching])
            n_bytes -= _size(item)
            error = fetching.exception()
            if isinstance(error, ImageError) or error is None:
                refusals.note(item.path or "", error)
            else:
                # Raised when the reader comes to it, so that the images before it are stored; none follow.
                is_over = True
            return item, fetching.result

        for item in items:
            if not (isinstance(item.path, str) and is_url(item.path)):
                if not waiting:
                    yield item, item.read
                    continue
                waiting.append((item, None))
            else:
                while waiting and n_bytes + _size(item) > _AHEAD_BYTES and not is_over:
                    yield first()
                pool = pool or stack.enter_context(request_threads())
                n_bytes += _size(item)
                waiting.append((item, pool.submit(item.read)))
            while len(waiting) >= _AHEAD and not is_over:
                yield first()
            if is_over:
                return
        while waiting and not is_over:
            yield first()


def _size(item: _Readable) -> int:
    return max(0, getattr(item, "size", 0))
