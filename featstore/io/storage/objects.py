"""Files of stores as objects in a bucket, with copies of what is read in the cache folder."""

import errno
import mmap
import os
import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, TypeVar

from featstore.errors import FeatstoreError, ImageError, SourceUnavailableError, StoreError
from featstore.io.atomic import failure_reason, read_back
from featstore.io.remote.failures import DeniedError, MissingError, request_threads
from featstore.io.storage import mirror
from featstore.io.storage.access import ANY, ChangedError, Entry
from featstore.io.storage.bucket_files import BucketFiles, Stored
from featstore.io.storage.parts import HEAD_BYTES, Parts

__all__ = ["Objects"]

_MAX_LISTINGS = 20
_PAGE = 1000
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class Objects:
    """The objects of one bucket, by URL.

    A file is one object, written by a single PUT. There are no folders, and nothing temporary is ever in the
    bucket.
    """

    keeps_removed = False
    # One request writes or reads it, and the copies that are removed first are not too large a part of all.
    max_file_bytes = 2**28

    def __init__(self, bucket: BucketFiles) -> None:
        self._bucket = bucket
        self._start = f"{bucket.name}/"
        # What sealed objects were when they were listed, or looked up.
        self._sealed: dict[str, Stored] = {}

    @property
    def max_mapped_bytes(self) -> int:
        """How much of its files a process should keep mapped."""
        return mirror.max_bytes()

    def check_writable(self, folder: str) -> None:
        """Check that the server knows conditional writes: without them writers undo what others wrote."""
        path = f"{folder}/.tmp-{secrets.token_hex(16)}"
        key = self._key(path)
        with self._as_of_files(path):
            first = self._bucket.write(key, memoryview(b"1"), over="create")
            self._bucket.write(key, memoryview(b"2"), over=first)
            n_refused = 0
            for over in ("create", first):
                try:
                    self._bucket.write(key, memoryview(b"3"), over=over)
                except ChangedError:
                    n_refused += 1
            self._bucket.remove([key])
        if n_refused < 2:
            raise StoreError(
                f"{self._start[:-1]} writes an object although a condition (If-None-Match, If-Match) forbids "
                "it, so that writers would undo each other's changes; keep the store on a server that knows "
                "conditional writes, as S3, Google Cloud Storage and Azure do"
            )

    def make_folder(self, path: str, *, parents: bool = True) -> None:
        """Do nothing: there are no folders."""

    def entries(self, folder: str, *, is_dated: bool = False) -> list[Entry]:
        """Return what is in a folder, by name."""
        # Long listings come in parts: what is replaced in between could be missed, old and new. Two that
        # agree were not torn so.
        before = None
        for _ in range(_MAX_LISTINGS):
            with self._as_of_files(folder):
                folders, files = self._bucket.children(self._key(folder))
            if len(folders) + len(files) < _PAGE or before == (folders, files):
                break
            before = (folders, files)
        else:
            raise StoreError(f"the objects in {folder} keep changing while they are listed; try again")
        entries = [Entry(f"{folder}/{name}", name, is_file=False, is_folder=True) for name in folders]
        for stored in files:
            entry = self._entry(stored)
            self._sealed[entry.path] = stored
            entries.append(entry)
        return sorted(entries, key=lambda entry: entry.name)

    def below(self, folder: str) -> list[str]:
        """Return the URLs of all objects below a folder."""
        with self._as_of_files(folder):
            return [self._start + stored.key for stored in self._bucket.below(self._key(folder))]

    def find(self, path: str) -> Entry | None:
        """Return what is known of an object, or None where there is none."""
        with self._as_of_files(path):
            stored = self._bucket.find(self._key(path))
        return None if stored is None else self._entry(stored)

    def version(self, path: str) -> str | None:
        """Return an object's ETag, or None where there is no object."""
        with self._as_of_files(path):
            stored = self._bucket.find(self._key(path))
        if stored is None:
            return None
        # Some servers compare a version besides.
        return f"{stored.tag}\n{stored.version or ''}"

    def open(self, path: str, *, is_sealed: bool = False) -> BinaryIO:
        """Open the copy of an object, which is downloaded unless it is here."""
        known = self._sealed.get(path) if is_sealed else None
        if known is not None and (copy := self._copy_of(path, known)) is not None:
            return copy
        with mirror.turn(path), self._as_of_files(path):
            # Another process may have downloaded it meanwhile.
            if known is not None and (copy := self._copy_of(path, known)) is not None:
                return copy
            tags = [] if known is not None else mirror.known_tags(path)
            with mirror.spooled(os.path.splitext(path)[1]) as spool:
                file = open(spool, "xb+")  # noqa: SIM115
                try:
                    stored = self._bucket.fetch(
                        self._key(path), file, unless=tags[0] if tags else "", only=known.tag if known else ""
                    )
                    if stored is None and (copy := mirror.recall(path, tags[0], mirror.WHOLE)) is not None:
                        file.close()
                        return copy
                    if stored is None:
                        # It was removed from here just now.
                        stored = self._bucket.fetch(self._key(path), file)
                    self._finish(file)
                    mirror.keep(path, stored.tag, mirror.WHOLE, spool)  # type: ignore[union-attr]
                except BaseException:
                    file.close()
                    raise
                return file

    def open_parts(self, path: str) -> BinaryIO | Parts:
        """Open a sealed object of which little but its largest column will be read."""
        known = self._sealed.get(path)
        if known is not None and (copy := self._copy_of(path, known)) is not None:
            return copy
        with self._as_of_files(path):
            if known is not None and (file := mirror.recall(path, known.tag, mirror.PARTS)) is not None:
                with file:
                    parts = Parts.of_copy(file.read(), self._fetcher(path, known), _keeper(path, known))
                if parts is not None and parts.n_bytes == known.size:
                    return parts
            head, found = self._bucket.part(
                self._key(path), 0, HEAD_BYTES, tag=known.tag if known is not None else ""
            )
        self._sealed[path] = found
        if len(head) == found.size:
            return self.open(path, is_sealed=True)
        return Parts(head, found.size, self._fetcher(path, found), _keeper(path, found))

    @contextmanager
    def replacing(
        self,
        target: str,
        *,
        verify: Callable[[str], None] | None = None,
        expected: str | None = ANY,
        in_turn: bool = False,
        create_only: bool = False,
    ) -> Iterator[str]:
        """Yield the path of a file beside the copies, which is put as the object when the block ends."""
        with mirror.spooled(os.path.splitext(target)[1]) as spool:
            try:
                yield spool
                with open(spool, "rb+") as file:
                    os.fsync(file.fileno())
                if verify is not None:
                    read_back(spool, target, verify)
            except OSError as error:
                if isinstance(error, FeatstoreError):
                    raise
                raise StoreError(f"cannot write {target}: {failure_reason(error)} (in {spool})") from error
            try:
                with self._as_of_files(target), open(spool, "rb") as file:
                    stored = self._bucket.write(
                        self._key(target), _mapped(file), over=_over(expected, create_only)
                    )
            except ChangedError:
                if not create_only:
                    raise
                return
            except OSError as error:
                reason = failure_reason(error)
                raise StoreError(
                    f"cannot write {target}: {reason}; what was written before is safe"
                ) from error
            self._sealed[target] = stored
            mirror.keep(target, stored.tag, mirror.WHOLE, spool)

    def remove(self, paths: Iterable[str]) -> None:
        """Remove objects for good, those that are there."""
        listed = [*paths]
        try:
            with self._as_of_files(listed[0] if listed else self._start):
                self._bucket.remove([self._key(path) for path in listed])
        except OSError as error:
            raise StoreError(f"cannot remove {listed[0]}: {failure_reason(error)}") from error
        for path in listed:
            self._sealed.pop(path, None)
            mirror.drop(path)

    def remove_folders(self, paths: Iterable[str]) -> None:
        """Do nothing: there are no folders."""

    def copy(self, path: str, target: str) -> None:
        """Copy an object within the bucket."""
        with self._as_of_files(path):
            self._bucket.copy(self._key(path), self._key(target))

    def move(self, path: str, target: str) -> None:
        """Copy an object within the bucket, and remove it."""
        self.copy(path, target)
        self.remove([path])

    def clean(self, folder: str, *, at_once: bool = False) -> int:
        """Do nothing: no process leaves anything temporary in a bucket."""
        return 0

    def forget(self, path: str) -> None:
        """Remove the copies of an object."""
        self._sealed.pop(path, None)
        mirror.drop(path)

    def map(self, function: Callable[[_Item], _Result], items: Iterable[_Item]) -> list[_Result]:
        """Apply a function that reads objects, to several at a time."""
        with request_threads() as pool:
            return [*pool.map(function, items)]

    def _copy_of(self, path: str, known: Stored) -> BinaryIO | None:
        """Open the whole copy of a version."""
        copy = mirror.recall(path, known.tag, mirror.WHOLE)
        if copy is not None and os.fstat(copy.fileno()).st_size != known.size:
            # A power cut took its end away.
            copy.close()
            mirror.drop(path)
            return None
        return copy

    def _fetcher(self, path: str, stored: Stored) -> Callable[[int, int], bytes]:
        def fetch(start: int, end: int) -> bytes:
            with self._as_of_files(path):
                return self._bucket.part(stored.key, start, end, tag=stored.tag)[0]

        return fetch

    def _finish(self, file: BinaryIO) -> None:
        file.flush()
        os.fsync(file.fileno())
        file.seek(0)

    def _entry(self, stored: Stored) -> Entry:
        return Entry(
            self._start + stored.key,
            stored.key.rpartition("/")[2],
            is_file=True,
            is_folder=False,
            size=stored.size,
            modified_ns=stored.modified_ns,
        )

    def _key(self, path: str) -> str:
        return path.removeprefix(self._start).strip("/") if path != self._start[:-1] else ""

    @contextmanager
    def _as_of_files(self, path: str) -> Iterator[None]:
        """Raise what goes wrong with objects as it would with files."""
        try:
            yield
        except MissingError:
            self._sealed.pop(path, None)
            raise FileNotFoundError(errno.ENOENT, "no such object", path) from None
        except DeniedError as error:
            raise PermissionError(errno.EACCES, str(error), path) from None
        except ImageError as error:
            raise StoreError(f"{path} cannot be used: {error}") from None
        except SourceUnavailableError as error:
            raise StoreError(f"{error.reason}; once that is fixed, run this again") from None


def _keeper(path: str, stored: Stored) -> Callable[[bytes], None]:
    def keep(copy: bytes) -> None:
        with mirror.spooled(".h5") as spool:
            with open(spool, "xb") as file:
                file.write(copy)
            mirror.keep(path, stored.tag, mirror.PARTS, spool)

    return keep


def _over(expected: str | None, create_only: bool) -> Stored | str:
    if create_only or expected is None:
        return "create"
    if expected == ANY:
        return "overwrite"
    tag, _, version = expected.partition("\n")
    return Stored("", 0, tag, version=version or None)


def _mapped(file: BinaryIO) -> memoryview:
    """Map a whole file; its pages are sent as they are."""
    if not os.fstat(file.fileno()).st_size:
        return memoryview(b"")
    mapped: Any = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return memoryview(mapped)
