"""Buckets that hold the files of stores: written under conditions, read in parts, listed by folder."""

import functools
import re
import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, BinaryIO

import google_crc32c

from featstore.errors import SourceUnavailableError, StoreError
from featstore.io.atomic import failure_reason
from featstore.io.remote.buckets import Bucket
from featstore.io.remote.failures import MissingError, PassingError
from featstore.io.storage.access import ChangedError

__all__ = ["BucketFiles", "Stored"]

# Names that S3, Google and Azure all take for an object's metadata.
_CHECKSUM, _WRITE = "featstorecrc32c", "featstorewrite"
_PIECE_BYTES = 2**20
# The slowest connection on which a file is written: more is waited for before it counts as broken off.
_SLOWEST_BYTES_PER_S = 2**20
# Of two writes at the same moment, S3 lets one be tried again.
_IN_CONFLICT = re.compile("<Code>(ConditionalRequestConflict|OperationAborted)</Code>")
_CUT = "its server breaks the connection off"


@dataclass(frozen=True, slots=True)
class Stored:
    """A version of an object."""

    key: str
    size: int
    tag: str  # its ETag
    modified_ns: int = 0  # since 1970, by the server's clock
    version: str | None = None  # what some servers distinguish versions by besides


class BucketFiles(Bucket):
    """A bucket; keys are paths in it. Raises what :class:`Bucket` does for a single image."""

    def find(self, key: str) -> Stored | None:
        """Return what is known of an object, or None where there is none."""
        try:
            return self._stored(self._patiently(key, lambda: self._store.head(key)))
        except MissingError:
            return None

    def children(self, folder: str) -> tuple[list[str], list[Stored]]:
        """Return the names of the folders in a folder, and the objects directly in it."""
        found: tuple[list[str], list[Stored]] = self._listed_patiently(folder, lambda: self._children(folder))
        return found

    def below(self, folder: str) -> list[Stored]:
        """Return all objects below a folder."""
        found: list[Stored] = self._listed_patiently(
            folder,
            lambda: [self._stored(one) for chunk in self._store.list(_prefix(folder)) for one in chunk],
        )
        return found

    def write(self, key: str, data: memoryview, *, over: Stored | str) -> Stored:
        """Put an object over a version, or ``"create"`` or ``"overwrite"`` it; else raise ChangedError."""
        # An answer may be lost on its way: what was written then is told by a mark of this very write.
        mark = secrets.token_hex(16)
        attributes = {_CHECKSUM: checksum_of(data), _WRITE: mark}
        store = self._writer(_patience_s(len(data)))
        is_unclear = False

        def attempt() -> Any:
            nonlocal is_unclear
            from obstore.exceptions import AlreadyExistsError, PreconditionError

            try:
                return store.put(key, data, mode=_mode(over), attributes=attributes, use_multipart=False)
            except FileNotFoundError:
                raise
            except Exception as error:
                if _IN_CONFLICT.search(str(error)):
                    raise PassingError("others write the same object") from None
                if not isinstance(error, AlreadyExistsError | PreconditionError):
                    is_unclear = True
                elif is_unclear and (found := self._written(key, mark)) is not None:
                    return found
                raise

        try:
            put = self._conditionally(key, attempt)
        except MissingError:
            if over in ("create", "overwrite"):
                raise
            raise ChangedError(key) from None
        return Stored(key, len(data), _tag(put), version=put.get("version"))

    def fetch(self, key: str, file: BinaryIO, *, unless: str = "", only: str = "") -> Stored | None:
        """Write an object's bytes to an empty file, going on where an answer broke off; check them.

        None means that it still has the ETag ``unless``; MissingError, that it has not the ETag ``only``.
        """
        found: Stored | None = None
        checksum = ""
        wrong: list[str] = []

        def attempt() -> Stored | None:
            nonlocal found, checksum
            from obstore.exceptions import NotModifiedError, PreconditionError

            start = file.tell()
            options: dict[str, Any] = {"if_none_match": unless} if unless else {}
            if only or found is not None:
                options = {"if_match": found.tag if found is not None else only}
            if start:
                options["range"] = {"offset": start}
            if found is None or start < found.size:
                try:
                    response = self._store.get(key, options=options)
                except NotModifiedError:
                    return None
                except PreconditionError:
                    if only:
                        raise MissingError("it has been replaced") from None
                    found = None
                    _empty(file)
                    raise PassingError("it is being replaced all the time") from None
                found = self._stored(response.meta)
                checksum = response.attributes.get(_CHECKSUM, "")
                for piece in response.stream(min_chunk_size=_PIECE_BYTES):
                    _append(file, piece)
            if file.tell() != found.size:
                raise PassingError(_CUT)
            arrived = checksum and _checksum_of_file(file)
            # What arrives twice lies there: that is for whoever reads it to find.
            if arrived != checksum and arrived not in wrong:
                wrong.append(arrived)
                _empty(file)
                raise PassingError("what arrives is not what was written")
            return found

        while True:
            before = file.tell()
            try:
                return self._patiently(key, attempt)
            except SourceUnavailableError:
                if file.tell() <= before:
                    raise

    def part(self, key: str, start: int, end: int | None, *, tag: str = "") -> tuple[bytes, Stored]:
        """Return some bytes of an object, and its version; MissingError if it has not the ETag ``tag``."""

        def attempt() -> tuple[bytes, Stored]:
            from obstore.exceptions import PreconditionError

            options: dict[str, Any] = {"range": {"offset": start} if end is None else (start, end)}
            try:
                response = self._store.get(key, options={**options, **({"if_match": tag} if tag else {})})
            except PreconditionError:
                raise MissingError("it has been replaced") from None
            except Exception as error:
                # Of an empty object there is no part.
                if "status code: 416" in str(error) and (empty := self.find(key)) is not None:
                    return b"", empty
                raise
            found = self._stored(response.meta)
            data = response.bytes().to_bytes()
            if len(data) != min(found.size if end is None else end, found.size) - start:
                raise PassingError(_CUT)
            return data, found

        return self._patiently(key, attempt)

    def remove(self, keys: Sequence[str]) -> None:
        """Remove objects, those that are there."""
        if not keys:
            return
        try:
            self._patiently(keys[0], lambda: self._store.delete(list(keys)))
        except MissingError:
            # Some servers stop at the first that is not there.
            for key in keys:
                with suppress(MissingError):
                    self._patiently(key, functools.partial(self._store.delete, key))

    def copy(self, key: str, target: str) -> None:
        """Copy an object within the bucket."""
        self._patiently(key, lambda: self._store.copy(key, target))

    def _children(self, folder: str) -> tuple[list[str], list[Stored]]:
        found = self._store.list_with_delimiter(_prefix(folder))
        folders = [one.rstrip("/").rpartition("/")[2] for one in found["common_prefixes"]]
        return folders, [self._stored(one) for one in found["objects"] if one["path"] != folder]

    def _listed_patiently(self, folder: str, list_them: Callable[[], Any]) -> Any:
        def attempt() -> Any:
            try:
                return list_them()
            except FileNotFoundError:
                self._refuse("status code: 404")

        return self._patiently(folder or "/", attempt)

    def _conditionally(self, key: str, attempt: Callable[[], Any]) -> Any:
        """Run an attempt patiently; raise ChangedError where its condition does not hold."""
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        def guarded() -> Any:
            try:
                return attempt()
            except (AlreadyExistsError, PreconditionError):
                return None

        if (result := self._patiently(key, guarded)) is None:
            raise ChangedError(key)
        return result

    def _written(self, key: str, mark: str) -> dict[str, Any] | None:
        """Return the version of an object that bears a write's mark."""
        try:
            found = self._patiently(key, lambda: self._store.get(key, options={"head": True}))
        except MissingError:
            return None
        return dict(found.meta) if found.attributes.get(_WRITE) == mark else None

    def _stored(self, meta: Any) -> Stored:
        modified_ns = int(meta["last_modified"].timestamp() * 1e9)
        return Stored(meta["path"], meta["size"], _tag(meta), modified_ns, meta.get("version"))

    @functools.cache  # noqa: B019 (buckets live as long as the process)
    def _writer(self, patience_s: int) -> Any:
        """Open the bucket with a client that waits longer for an answer."""
        name = self.name.partition("://")[2]
        waits = {"read_timeout": f"{patience_s}s", "timeout": f"{2 * patience_s}s"}
        return self._opened(name, max_retries=0, **waits)


def checksum_of(data: memoryview) -> str:
    """Return the CRC-32C of bytes as 8 hexadecimal digits."""
    checksum = 0
    for start in range(0, len(data), _PIECE_BYTES):
        checksum = google_crc32c.extend(checksum, bytes(data[start : start + _PIECE_BYTES]))
    return f"{checksum:08x}"


def _checksum_of_file(file: BinaryIO) -> str:
    file.seek(0)
    checksum = 0
    while piece := file.read(_PIECE_BYTES):
        checksum = google_crc32c.extend(checksum, piece)
    return f"{checksum:08x}"


def _append(file: BinaryIO, piece: Any) -> None:
    try:
        file.write(piece)
    except OSError as error:
        raise StoreError(
            f"cannot write a copy of an object to {file.name}: {failure_reason(error)}; set FEATSTORE_CACHE "
            "to a folder with room"
        ) from error


def _empty(file: BinaryIO) -> None:
    file.seek(0)
    file.truncate()


def _mode(over: Stored | str) -> Any:
    if isinstance(over, str):
        return over
    return {"e_tag": over.tag} | ({"version": over.version} if over.version else {})


def _patience_s(n_bytes: int) -> int:
    """Return how long an answer to so many bytes may take, as a power of two."""
    return max(32, 1 << (n_bytes // _SLOWEST_BYTES_PER_S).bit_length())


def _prefix(folder: str) -> str | None:
    return f"{folder}/" if folder else None


def _tag(meta: Any) -> str:
    if not meta["e_tag"]:
        raise StoreError("the server gives no ETags, without which no store can be kept there")
    return str(meta["e_tag"])
