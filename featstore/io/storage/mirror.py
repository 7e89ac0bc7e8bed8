"""Local copies of objects, shared by all processes of a machine: what was downloaded is mapped from here.

A copy is a file named after the object's URL and ETag, which no one changes. It may be removed at any time:
whoever has it open or mapped keeps it, and others download it again.
"""

import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO

from featstore.errors import StoreError
from featstore.io.atomic import TEMPORARY_PREFIX, failure_reason, remove_stale
from featstore.io.cache_folder import cache_folder

try:
    import fcntl
except ImportError:  # Windows, where there are only tools that list the folder
    fcntl = None  # type: ignore[assignment]

__all__ = [
    "ENDINGS",
    "PARTS",
    "WHOLE",
    "drop",
    "keep",
    "known_tags",
    "max_bytes",
    "mirror_folder",
    "mirrored",
    "recall",
    "spooled",
    "turn",
]

ENDINGS = WHOLE, PARTS = ".whole", ".parts"

_BOUND = "FEATSTORE_CACHE_GB"
_DEFAULT_GB = 20.0
_LOCK = "lock-"
_N_LOCKS = 64


def mirror_folder() -> str:
    """Return the folder of the copies."""
    return os.path.join(os.path.abspath(cache_folder()), "objects")


def mirrored() -> list[str]:
    """Return the paths of the copies, and of what is kept beside them."""
    beginnings = (_LOCK, TEMPORARY_PREFIX)
    return [
        os.path.join(mirror_folder(), name)
        for name in sorted(_names())
        if name.endswith(ENDINGS) or name.startswith(beginnings)
    ]


def max_bytes() -> int:
    """Return how much the copies may take: ``$FEATSTORE_CACHE_GB``, by default 20 GB."""
    given = os.environ.get(_BOUND) or str(_DEFAULT_GB)
    try:
        n_bytes = float(given) * 1e9
    except ValueError:
        n_bytes = -1.0
    if not 0 <= n_bytes < 2**63:
        raise StoreError(f"{_BOUND} must be a number of gigabytes, such as 20; found {given!r}")
    return int(n_bytes)


def recall(url: str, tag: str, kind: str) -> BinaryIO | None:
    """Open the copy of an object's version, or return None where there is none."""
    path = _path(url, tag, kind)
    try:
        file = open(path, "rb")  # noqa: SIM115
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(f"cannot read {path}, the copy of {url}: {failure_reason(error)}") from error
    # What was used last is removed last.
    with suppress(OSError):
        os.utime(path)
    return file


def known_tags(url: str) -> list[str]:
    """Return the tags of the versions of which there is a whole copy."""
    beginning = _name(url)
    return [
        bytes.fromhex(name[len(beginning) + 1 : -len(WHOLE)]).decode()
        for name in _names()
        if name.startswith(beginning) and name.endswith(WHOLE)
    ]


@contextmanager
def spooled(ending: str) -> Iterator[str]:
    """Yield the path for a new file beside the copies; it is removed at the end, if it is still there."""
    folder = mirror_folder()
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise _no_room(error) from error
    path = os.path.join(folder, TEMPORARY_PREFIX + secrets.token_hex(16) + ending)
    try:
        yield path
    finally:
        with suppress(OSError):
            os.unlink(path)


def keep(url: str, tag: str, kind: str, path: str) -> None:
    """Make a spooled file the copy of an object's version, in place of others, and bound the room of all."""
    try:
        os.replace(path, _path(url, tag, kind))
    except OSError as error:
        raise _no_room(error) from error
    _remove_versions(url, besides=tag)
    _evict(max_bytes())


def drop(url: str) -> None:
    """Remove all copies of an object."""
    _remove_versions(url)


@contextmanager
def turn(url: str) -> Iterator[None]:
    """Let one process at a time download an object; without locks, go on at once."""
    folder = mirror_folder()
    number = int(_name(url)[:8], 16) % _N_LOCKS
    try:
        os.makedirs(folder, exist_ok=True)
        lock = os.open(os.path.join(folder, f"{_LOCK}{number:02d}"), os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise _no_room(error) from error
    try:
        # Of file systems without locks, two processes download the same, and either copy is kept.
        with suppress(OSError):
            if fcntl is not None:
                fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _evict(bound: int) -> None:
    """Remove the copies that were used the longest ago, until the others are within the bound."""
    folder = mirror_folder()
    remove_stale(folder)
    found, total = [], 0
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(ENDINGS):
                with suppress(OSError):
                    status = entry.stat(follow_symlinks=False)
                    found.append((status.st_mtime_ns, status.st_size, entry.path))
                    total += status.st_size
    for _, size, path in sorted(found):
        if total <= bound:
            return
        # Some systems keep what is open.
        with suppress(OSError):
            os.unlink(path)
        total -= size


def _remove_versions(url: str, *, besides: str | None = None) -> None:
    kept = [] if besides is None else [os.path.basename(_path(url, besides, kind)) for kind in ENDINGS]
    for name in _names():
        if name.startswith(_name(url)) and name not in kept:
            with suppress(OSError):
                os.unlink(os.path.join(mirror_folder(), name))


def _names() -> list[str]:
    try:
        return os.listdir(mirror_folder())
    except OSError:
        return []


def _name(url: str) -> str:
    return hashlib.sha256(url.encode("utf-8", "surrogateescape")).hexdigest()[:32]


def _path(url: str, tag: str, kind: str) -> str:
    return os.path.join(mirror_folder(), f"{_name(url)}.{tag.encode().hex()}{kind}")


def _no_room(error: OSError) -> StoreError:
    return StoreError(
        f"cannot keep copies of objects in {mirror_folder()}: {failure_reason(error)}; set FEATSTORE_CACHE "
        f"to a folder with room, or {_BOUND} to how much of it they may take"
    )
