"""A file appears whole or not at all: temporary name, flush, fsync, read back, rename."""

import errno
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

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
) -> Iterator[str]:
    """Write a file whole: the name that this yields becomes ``target`` when the block ends without an error.

    The file is flushed to the disk and read back before it is renamed, and its folder is flushed after; where
    anything fails before the rename, ``target`` is as it was and nothing is left behind. Only a process that
    is killed in between leaves its temporary file, whose name begins with ``.tmp-``.

    Parameters
    ----------
    target : str
        Path of the file to be. Its folder must exist.
    verify : callable, optional
        Called with the temporary path once the file is on the disk; raises a ``FeatstoreError``, ``OSError``
        or ``ValueError`` where the file is not what was written. Libraries lose errors: HDF5 passes over a
        write that fails as a dataset is freed.
    before_rename : callable, optional
        Called last, while no other process replaces a file of the same store; what it raises leaves the
        target as it was.

    Yields
    ------
    str
        The temporary path, in the same folder and with the same extension; the block creates it.

    Raises
    ------
    StoreError
        The operating system refused, or the file does not read back as it was written; the message says what.

    Examples
    --------
    >>> import os, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with replacing(os.path.join(folder, "a.txt")) as temporary:
    ...         with open(temporary, "w") as file:
    ...             _ = file.write("whole")
    ...     os.listdir(folder)
    ['a.txt']
    """
    folder, name = os.path.split(target)
    temporary = os.path.join(folder, TEMPORARY_PREFIX + secrets.token_hex(16) + os.path.splitext(name)[1])
    with _in_use(folder):
        try:
            yield temporary
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())
            if verify is not None:
                _read_back(temporary, target, verify)
            if before_rename is None:
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


def write_text(target: str, text: str, *, verify: Callable[[str], None] | None = None) -> None:
    """Replace a file by one that holds this text, in UTF-8.

    What is read back must be the text, and pass ``verify``.
    """
    content = text.encode("utf-8")

    def check(temporary: str) -> None:
        with open(temporary, "rb") as file:
            if file.read() != content:
                raise ValueError("it holds other bytes")
        if verify is not None:
            verify(temporary)

    with replacing(target, verify=check) as temporary, open(temporary, "xb") as file:
        file.write(content)


def _read_back(temporary: str, target: str, verify: Callable[[str], None]) -> None:
    """Compare a file on the disk with what was meant to be in it."""
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
    """Let one process at a time replace files that were compared before; without locks, go on at once."""
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
    """Make a folder, and those that it lies in, so that they survive a power cut.

    Raises
    ------
    OSError
        The operating system refused.
    """
    if not path or os.path.isdir(path):
        return
    parent = os.path.dirname(path)
    make_folders(parent)
    # Another process may have been first.
    os.makedirs(path, exist_ok=True)
    sync_folder(parent)


def remove_stale(folder: str) -> int:
    """Remove temporary files of killed processes from a folder: those last written a day ago or more.

    While a process is writing into the folder nothing is removed, so that a clock that jumps takes no file
    from under a writer. Where the file system has no locks to tell by, age alone decides.

    Parameters
    ----------
    folder : str

    Returns
    -------
    int
        How many there were.
    """
    n_removed = 0
    # An operating system's error takes nothing away; a lock that others hold is one.
    with suppress(OSError), _in_use(folder, alone=True) as is_alone, os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(TEMPORARY_PREFIX) and entry.is_file(follow_symlinks=False):
                with suppress(OSError):
                    age = time.time() - entry.stat(follow_symlinks=False).st_mtime
                    # Written a day ahead: the clock has been set back since.
                    if age >= STALE_SECONDS or (is_alone and age <= -STALE_SECONDS):
                        os.unlink(entry.path)
                        n_removed += 1
    return n_removed


@contextmanager
def _in_use(folder: str, *, alone: bool = False) -> Iterator[bool]:
    """Hold the folder's lock, which ends with the process: shared by writers, or alone to clean up.

    It protects temporary files only; what is sealed needs none.

    Yields
    ------
    bool
        Whether the lock is held; network file systems may have none.

    Raises
    ------
    BlockingIOError
        ``alone``, and somebody writes into the folder.
    """
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
    """Close a descriptor that nothing was written to: what fails then costs nothing."""
    with suppress(OSError):
        os.close(descriptor)


def sync_folder(folder: str) -> None:
    """Flush a folder's entries to the disk, so that a rename in it survives a power cut."""
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
    """Say in a few words what the operating system, or HDF5, complained about.

    Examples
    --------
    >>> failure_reason(OSError(28, "No space left on device"))
    'no space left on device'
    """
    if found := _HDF5_MESSAGE.search(str(error)):
        text = found[1]
    else:
        text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return text[:1].lower() + text[1:]


def _explained(error: OSError, folder: str) -> str:
    """Say why a file could not be written into a folder, and what to do."""
    reason = failure_reason(error)
    if not os.path.isdir(folder or "."):
        return f"{reason}; the folder {folder} is not there (any more)"
    advice = "what was written before is safe"
    if reason in _FULL:
        with suppress(OSError):
            free = shutil.disk_usage(folder or ".").free
            advice += f"; free some space for {folder} ({free / 1e6:,.1f} MB are free) and run this again"
    return f"{reason}; {advice}"


_FULL = {failure_reason(OSError(number, os.strerror(number))) for number in (errno.ENOSPC, errno.EDQUOT)}
