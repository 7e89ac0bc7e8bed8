"""Atomic file writes: temporary name, flush, fsync, read back, rename."""

import errno
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress

from featstore.errors import FeatstoreError, StoreError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = [
    "STALE_SECONDS",
    "TEMPORARY_PREFIX",
    "failure_reason",
    "make_folders",
    "make_last_folder",
    "read_back",
    "remove_stale",
    "replacing",
    "sync_folder",
    "write_text",
]

TEMPORARY_PREFIX = ".tmp-"
STALE_SECONDS = 24 * 3600

# How long a replacement waits for another one of the same folder, which takes milliseconds.
_TURN_SECONDS = 10

# HDF5 quotes the operating system: "… errno = 28, error message = 'No space left on device', …"
_HDF5_MESSAGE = re.compile(r"error message = '([^']*)'")


@contextmanager
def replacing(
    target: str,
    *,
    verify: Callable[[str], None] | None = None,
    before_rename: Callable[[], None] | None = None,
    create_only: bool = False,
) -> Iterator[str]:
    """Yield a temporary path, and replace ``target`` by it when the block ends without an error."""
    # With create_only an existing target is kept, even one that appeared meanwhile.
    # The file is fsynced and read back before the rename, and its folder is fsynced after it. If anything
    # fails before the rename, target is unchanged and the temporary file is removed; only a killed
    # process leaves one (its name begins with .tmp-).
    folder, name = os.path.split(target)
    temporary = os.path.join(folder, TEMPORARY_PREFIX + secrets.token_hex(16) + os.path.splitext(name)[1])
    with _in_use(folder):
        try:
            yield temporary
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())
            if verify is not None:
                read_back(temporary, target, verify)
            if create_only:
                _create(temporary, target)
            elif before_rename is None:
                os.replace(temporary, target)
            else:
                with _turn(os.path.dirname(folder)):
                    before_rename()
                    os.replace(temporary, target)
        except BaseException as error:
            with suppress(OSError):
                os.unlink(temporary)
            if isinstance(error, OSError) and not isinstance(error, FeatstoreError):
                raise StoreError(f"cannot write {target}: {_explained(error, folder)}") from error
            raise
        sync_folder(folder)


def _create(temporary: str, target: str) -> None:
    """Rename a file unless its new name is taken."""
    try:
        os.link(temporary, target)
    except FileExistsError:
        pass
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        with _turn(os.path.dirname(target)):
            if not os.path.lexists(target):
                os.replace(temporary, target)
                return
    os.unlink(temporary)


def write_text(
    target: str,
    text: str,
    *,
    verify: Callable[[str], None] | None = None,
    through: Callable[..., AbstractContextManager[str]] = replacing,
) -> None:
    """Replace a file atomically by UTF-8 text, then read it back and call ``verify``."""
    content = text.encode("utf-8")

    def check(temporary: str) -> None:
        with open(temporary, "rb") as file:
            if file.read() != content:
                raise ValueError("it holds other bytes")
        if verify is not None:
            verify(temporary)

    with through(target, verify=check) as temporary, open(temporary, "xb") as file:
        file.write(content)


def read_back(temporary: str, target: str, verify: Callable[[str], None]) -> None:
    """Check a file on the disk against its intended content."""
    try:
        verify(temporary)
    except (FeatstoreError, OSError, ValueError) as error:
        found = failure_reason(error).replace(temporary, "the file").split("; run featstore verify")[0]
        raise StoreError(
            f"cannot write {target}: read back, it is not what was written ({found}); what was there before "
            "is as it was. Check the disk (dmesg, its quota) and run this again"
        ) from error


@contextmanager
def _turn(folder: str) -> Iterator[None]:
    """Serialise replacements that compare files first; without locks, go on at once."""
    with ExitStack() as stack:
        with suppress(OSError):
            if fcntl is not None:
                descriptor = os.open(folder or ".", os.O_RDONLY)
                stack.callback(_close, descriptor)
                deadline = time.monotonic() + _TURN_SECONDS
                while time.monotonic() < deadline:
                    try:
                        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        break
                    except BlockingIOError:
                        time.sleep(0.005)
        yield


def make_folders(path: str) -> None:
    """Create a folder and its parents, and fsync them to survive a power cut."""
    if not path or os.path.isdir(path):
        return
    parent = os.path.dirname(path)
    make_folders(parent)
    # Another process may have been first.
    os.makedirs(path, exist_ok=True)
    sync_folder(parent)


def make_last_folder(path: str) -> None:
    """Create a folder in one that is there, and fsync it."""
    if os.path.isdir(path):
        return
    try:
        with suppress(FileExistsError):
            os.mkdir(path)
    except OSError as error:
        raise StoreError(f"cannot make the folder {path}: {failure_reason(error)}") from error
    sync_folder(os.path.dirname(path))


def remove_stale(folder: str, *, at_once: bool = False) -> int:
    """Remove temporary files that killed processes left in a folder a day ago or earlier, or all of them."""
    # Nothing is removed while a process writes into the folder, so a jumping clock takes no file from a
    # writer. On file systems without locks, age alone decides.
    n_removed = 0
    # An operating system's error takes nothing away; a lock that others hold is one.
    with suppress(OSError), _in_use(folder, alone=True) as is_alone, os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(TEMPORARY_PREFIX) and entry.is_file(follow_symlinks=False):
                with suppress(OSError):
                    age = time.time() - entry.stat(follow_symlinks=False).st_mtime
                    # Written a day ahead: the clock has been set back since.
                    if age >= STALE_SECONDS or (is_alone and (at_once or age <= -STALE_SECONDS)):
                        os.unlink(entry.path)
                        n_removed += 1
    return n_removed


@contextmanager
def _in_use(folder: str, *, alone: bool = False) -> Iterator[bool]:
    """Hold the folder's lock: shared by writers, exclusive for cleaning up."""
    # It protects temporary files only; sealed files need no lock.
    with ExitStack() as stack:
        is_held = False
        if fcntl is not None:
            try:
                descriptor = os.open(folder or ".", os.O_RDONLY)
                stack.callback(_close, descriptor)
                fcntl.flock(descriptor, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
                is_held = True
            except OSError as error:
                if alone and isinstance(error, BlockingIOError):
                    raise
        yield is_held


def _close(descriptor: int) -> None:
    """Close a descriptor that was only read; errors are harmless."""
    with suppress(OSError):
        os.close(descriptor)


def sync_folder(folder: str) -> None:
    """Fsync a folder's entries, so that a rename in it survives a power cut."""
    if os.name != "posix":
        return
    try:
        descriptor = os.open(folder or ".", os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            _close(descriptor)
    except OSError as error:
        # Some network file systems cannot sync a folder; they order renames themselves.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise StoreError(f"cannot flush the folder {folder}: {failure_reason(error)}") from error


def failure_reason(error: BaseException) -> str:
    """Return the reason of an operating system or HDF5 error in a few words."""
    if found := _HDF5_MESSAGE.search(str(error)):
        text = found[1]
    else:
        text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return text[:1].lower() + text[1:]


def _explained(error: OSError, folder: str) -> str:
    """Explain why a file could not be written into a folder, and what to do."""
    reason = failure_reason(error)
    if not os.path.isdir(folder or "."):
        return f"{reason}; the folder {folder} no longer exists"
    advice = "what was written before is safe"
    if reason in _FULL:
        with suppress(OSError):
            free = shutil.disk_usage(folder or ".").free
            advice += f"; free some space for {folder} ({free / 1e6:,.1f} MB are free) and run this again"
    return f"{reason}; {advice}"


# Of file systems without hard links.
_NO_LINKS = {errno.EPERM, errno.EACCES, errno.EMLINK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
_FULL = {failure_reason(OSError(number, os.strerror(number))) for number in (errno.ENOSPC, errno.EDQUOT)}
