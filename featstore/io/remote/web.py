"""Images on web servers, by address."""

import time
from collections.abc import Iterator
from contextlib import closing
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from featstore.errors import ImageError, SourceError
from featstore.extras import check_extra
from featstore.io.remote.access import MAX_BYTES, Found, bare_tag
from featstore.io.remote.failures import DeniedError, PassingError, patiently

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse

__all__ = ["Web"]

_CONNECT_S, _READ_S, _WHOLE_S = 10.0, 30.0, 600.0
_AT_ONCE = 32
_MAX_REDIRECTS = 5
_PIECE_BYTES = 2**20
_BUSY = frozenset((408, 425, 429))
# What servers answer that know addresses for reading only.
_NO_HEAD = frozenset((400, 401, 403, 405, 501))
# Of two versions that a server wrote within one second, it gives the same date.
_TICK_S = 2


class Web:
    """A web server. Keys are whole addresses."""

    def __init__(self, scheme: str, host: str) -> None:
        check_extra("objects", f"{scheme}://", "urllib3")
        import urllib3

        self.name = f"{scheme}://{host}"
        proxy = getproxies().get(scheme)
        is_direct = proxy is None or bool(proxy_bypass(urlsplit(self.name).hostname or ""))
        options: dict[str, Any] = {
            "maxsize": _AT_ONCE,
            "headers": {"Accept-Encoding": "identity", "User-Agent": "featstore"},
            "timeout": urllib3.Timeout(connect=_CONNECT_S, read=_READ_S),
            "retries": urllib3.Retry(
                total=None, connect=0, read=0, status=0, other=0, redirect=_MAX_REDIRECTS
            ),
        }
        self._pool = (
            urllib3.PoolManager(**options) if is_direct else urllib3.ProxyManager(str(proxy), **options)
        )

    def listed(self, prefix: str) -> Iterator[Found]:
        """Raise SourceError: web servers have no listing."""
        raise SourceError(
            f"{prefix!r} is an address on a web server, which has no listing; give a .csv with a column path "
            "of the images' addresses"
        )

    def look_up(self, key: str) -> Found:
        """Return what is known of an image without reading it."""
        return patiently(lambda: self._look_up(key), self.name)

    def read(self, key: str) -> tuple[bytes, str | None]:
        """Return an image's bytes, and their tag."""
        return patiently(lambda: self._read(key), self.name)

    def begin(self, key: str, size: int) -> bytes:
        """Return at most ``size`` bytes from an image's begin."""

        def attempt() -> bytes:
            with closing(self._answer("GET", key, {"Range": f"bytes=0-{size - 1}"})) as response:
                data: bytes = response.read(size)
                return data

        return patiently(attempt, self.name)

    def _look_up(self, key: str) -> Found:
        with closing(self._answer("HEAD", key, refused=_NO_HEAD)) as response:
            if response.status not in _NO_HEAD:
                return Found(key, int(response.headers.get("Content-Length", -1)), _tag(response))
        with closing(self._answer("GET", key, {"Range": "bytes=0-0"})) as response:
            whole = response.headers.get("Content-Range", "").rpartition("/")[2]
            size = whole if response.status == 206 else response.headers.get("Content-Length", "")
            return Found(key, int(size) if size.isdecimal() else -1, _tag(response))

    def _read(self, key: str) -> tuple[bytes, str | None]:
        import urllib3

        response = self._answer("GET", key)
        try:
            data = _whole(response)
        except urllib3.exceptions.HTTPError as error:
            response.close()
            raise PassingError(_connection(error)) from None
        except BaseException:
            response.close()
            raise
        # The connection is free for the next image.
        response.release_conn()
        return data, _tag(response)

    def _answer(
        self,
        method: str,
        key: str,
        headers: dict[str, str] | None = None,
        *,
        refused: frozenset[int] = frozenset(),
    ) -> "BaseHTTPResponse":
        """Return an answer that is no error, or one of those that the caller knows what to do with."""
        import urllib3

        given = {**self._pool.headers, **(headers or {})}
        try:
            response = self._pool.request(method, key, headers=given, preload_content=False)
        except urllib3.exceptions.LocationValueError:
            raise ImageError("not an address that can be read") from None
        except urllib3.exceptions.SSLError:
            raise ImageError("its server's certificate is not trusted") from None
        except urllib3.exceptions.MaxRetryError as error:
            if isinstance(error.reason, urllib3.exceptions.SSLError):
                raise ImageError("its server's certificate is not trusted") from None
            if isinstance(error.reason, urllib3.exceptions.ResponseError):
                raise ImageError(f"more than {_MAX_REDIRECTS} redirections") from None
            raise PassingError(_connection(error.reason or error)) from None
        except urllib3.exceptions.HTTPError as error:
            raise PassingError(_connection(error)) from None
        status = response.status
        if status < 300 or status in refused:
            return response
        response.close()
        if status in (404, 410):
            raise ImageError(f"not found ({status})")
        if status in (401, 403):
            raise DeniedError(f"access denied ({status})")
        if status in _BUSY or status >= 500:
            raise PassingError(f"its server answers {status}")
        raise ImageError(f"its server answers {status}")


def _whole(response: "BaseHTTPResponse") -> bytes:
    began = time.monotonic()
    pieces: list[bytes] = []
    n_bytes = 0
    for piece in response.stream(_PIECE_BYTES):
        pieces.append(piece)
        n_bytes += len(piece)
        if n_bytes > MAX_BYTES:
            raise ImageError(f"more than {MAX_BYTES:,} bytes, which is what an image may have")
        if time.monotonic() - began > _WHOLE_S:
            raise PassingError("its server does not answer in time")
    return b"".join(pieces)


def _tag(response: "BaseHTTPResponse") -> str | None:
    """Return what a server knows a version of an image by: its ETag, or its date where that is old enough."""
    if etag := response.headers.get("ETag"):
        return bare_tag(etag)
    changed, now = response.headers.get("Last-Modified"), response.headers.get("Date")
    if not changed or not now:
        return None
    try:
        age = parsedate_to_datetime(now) - parsedate_to_datetime(changed)
    except (TypeError, ValueError):
        return None
    return changed if age.total_seconds() > _TICK_S else None


def _connection(error: BaseException) -> str:
    import urllib3

    if isinstance(error, urllib3.exceptions.NameResolutionError):
        return "no host of its name is found"
    if isinstance(error, urllib3.exceptions.TimeoutError) and not isinstance(
        error, urllib3.exceptions.NewConnectionError
    ):
        return "its server does not answer in time"
    if isinstance(error, urllib3.exceptions.NewConnectionError):
        return "no connection to its server"
    return "its server breaks the connection off"
