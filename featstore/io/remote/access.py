"""What every way to another machine can do."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

__all__ = ["MAX_BYTES", "Access", "Found", "bare_tag"]

MAX_BYTES = 2**30
"""The largest object that is read."""


@dataclass(frozen=True, slots=True)
class Found:
    """An object that is there."""

    key: str  # below the place that was listed
    size: int  # -1 where the server does not say
    tag: str | None  # changes with its content, mostly its ETag


class Access(Protocol):
    """A bucket, a web server or a file system; its methods may be called from several threads.

    They raise ImageError for an object that cannot be read, DeniedError where access to it is denied, and
    SourceUnavailableError where the place as a whole cannot be used now.
    """

    def listed(self, prefix: str) -> Iterator[Found]:
        """Yield the objects below a prefix, with what follows it as their key."""

    def look_up(self, key: str) -> Found:
        """Return what is known of an object without reading it."""

    def read(self, key: str) -> tuple[bytes, str | None]:
        """Return an object's bytes, and their tag."""

    def begin(self, key: str, size: int) -> bytes:
        """Return at most ``size`` bytes from an object's begin."""


def bare_tag(etag: str | None) -> str | None:
    """Return an ETag without what differs from one answer of a server to another."""
    return None if etag is None else etag.removeprefix("W/").strip('"')
