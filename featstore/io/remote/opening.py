"""URLs and what reads them."""

import functools
import re
from collections.abc import Iterator

from featstore.errors import ImageError, SourceError
from featstore.io.remote.access import Access, Found
from featstore.io.urls import holds_credential, without_credential

__all__ = ["begin_of", "find_object", "forget_servers", "is_on_the_web", "list_objects", "read_object"]

_BUCKETS = ("s3", "gs", "az")
_WEB = ("http", "https")
_BUCKET = re.compile(r"\$?[A-Za-z0-9][A-Za-z0-9._-]*")


def list_objects(url: str) -> Iterator[Found]:
    """Yield the objects below a URL, with what follows it as their key."""
    access, key = _opened(url)
    return access.listed(key)


def find_object(url: str) -> Found:
    """Return an object's size and tag without reading it."""
    access, key = _opened(url)
    return access.look_up(key)


def read_object(url: str) -> tuple[bytes, str | None]:
    """Return an object's bytes, and their tag."""
    access, key = _opened(url)
    return access.read(key)


def begin_of(url: str, size: int) -> bytes:
    """Return at most ``size`` bytes from an object's begin."""
    access, key = _opened(url)
    return access.begin(key, size)


def is_on_the_web(url: str) -> bool:
    """Return whether a URL is an address on a web server, which lists nothing."""
    return url.partition("://")[0].lower() in _WEB


def forget_servers() -> None:
    """Connect anew, with what the environment says then."""
    _access.cache_clear()


def _opened(url: str) -> tuple[Access, str]:
    if holds_credential(url):
        raise SourceError(
            f"{without_credential(url)} holds a credential (a password, signature or token), which would be "
            "written into the store; give the address without it, and credentials in the environment"
        )
    try:
        url.encode()
    except UnicodeEncodeError:
        raise ImageError("an address that is not UTF-8") from None
    scheme, _, rest = url.partition("://")
    scheme = scheme.lower()
    host, _, key = rest.partition("/")
    if not host and scheme in (*_BUCKETS, *_WEB):
        raise SourceError(f"{url!r} names no bucket or host; give an address such as s3://bucket/folder")
    if scheme in _BUCKETS and not _BUCKET.fullmatch(host):
        # obstore panics over some of these.
        raise SourceError(
            f"{url!r} names no bucket: a name has letters, digits, '.', '_' and '-'; found {host!r}"
        )
    access = _access(scheme, host)
    return access, key if scheme in _BUCKETS else url


@functools.lru_cache(maxsize=256)
def _access(scheme: str, host: str) -> Access:
    # Each imports what it needs, which most runs do not.
    if scheme in _BUCKETS:
        from featstore.io.remote.buckets import Bucket

        return Bucket(scheme, host)
    if scheme in _WEB:
        from featstore.io.remote.web import Web

        return Web(scheme, host)
    from featstore.io.remote.file_systems import FileSystem

    return FileSystem(scheme, host)
