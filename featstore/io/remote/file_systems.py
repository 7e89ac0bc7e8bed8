"""Other places that have a file system of fsspec: Hugging Face, GitHub, SFTP, HDFS and more."""

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from importlib.util import find_spec
from typing import Any, TypeVar

from featstore.errors import ImageError, MissingExtraError, SourceError, first_line
from featstore.io.remote.access import MAX_BYTES, Found
from featstore.io.remote.failures import DeniedError, PassingError, patiently, unavailable
from featstore.io.urls import without_credential

__all__ = ["FileSystem"]

# What file systems call that which changes with a file's content, the surest first.
_TAGS = ("etag", "ETag", "checksum", "sha256", "md5", "md5Hash", "blob_id", "sha", "oid", "generation", "uid")
_DATES = ("last_modified", "LastModified", "modified", "mtime", "updated", "created")

_Result = TypeVar("_Result")


class FileSystem:
    """A file system of fsspec, with credentials as it finds them."""

    def __init__(self, scheme: str, host: str) -> None:
        if find_spec("fsspec") is None:
            raise MissingExtraError(
                f"{scheme}:// is read through fsspec and its package for {scheme}: pip install fsspec"
            )
        import fsspec

        self.name = f"{scheme}://{host}"
        self._scheme = scheme
        try:
            self._files: Any = fsspec.core.url_to_fs(f"{self.name}/")[0]
        except ImportError as error:
            raise MissingExtraError(f"{scheme}:// cannot be read: {first_line(error)}") from error
        except ValueError as error:
            raise SourceError(
                f"{scheme}:// is no kind of address that is known; give s3://, gs://, az://, or one that "
                "fsspec has a package for, such as hf://"
            ) from error
        # Some connect at once, with errors of the libraries behind them.
        except Exception as error:  # noqa: BLE001
            unavailable(self.name, without_credential(first_line(error)))

    def listed(self, prefix: str) -> Iterator[Found]:
        """Yield the files below a folder, with what follows it as their key."""
        root = self._path(prefix)
        self._files.invalidate_cache()
        try:
            entries = self._patiently(lambda: self._files.find(root, detail=True))
        except DeniedError as error:
            unavailable(without_credential(prefix), str(error))
        except ImageError:
            entries = {}
        for path, info in entries.items():
            yield self._found(path.removeprefix(root).lstrip("/"), info)

    def look_up(self, key: str) -> Found:
        """Return what is known of a file without reading it."""
        return self._found(key, self._patiently(lambda: self._files.info(self._path(key))))

    def read(self, key: str) -> tuple[bytes, str | None]:
        """Return a file's bytes, and their tag as it was before."""
        # What changes in between has another size, or another tag in the next listing.
        found = self.look_up(key)
        if found.size > MAX_BYTES:
            raise ImageError(f"the file has {found.size:,} bytes; an image may have {MAX_BYTES:,}")
        return self._patiently(lambda: bytes(self._files.cat_file(self._path(key)))), found.tag

    def begin(self, key: str, size: int) -> bytes:
        """Return at most ``size`` bytes from a file's begin."""
        return self._patiently(lambda: bytes(self._files.cat_file(self._path(key), start=0, end=size)))

    def _path(self, url: str) -> str:
        path: str = self._files._strip_protocol(url)
        return path

    def _found(self, key: str, info: Mapping[str, Any]) -> Found:
        if info.get("type") == "directory":
            raise ImageError("a folder, not a file")
        size = info.get("size")
        stable = [(name, info[name]) for name in _TAGS if info.get(name) is not None]
        if not stable:
            stable = [(name, _moment(info[name])) for name in _DATES if info.get(name) is not None]
        return Found(key, -1 if size is None else int(size), repr(stable[0]) if stable else None)

    def _patiently(self, request: Callable[[], _Result]) -> _Result:
        def attempt() -> _Result:
            try:
                return request()
            except FileNotFoundError:
                raise ImageError("no such file") from None
            except PermissionError:
                raise DeniedError("access denied") from None
            except (ImportError, NotImplementedError, TypeError, ValueError) as error:
                unavailable(self.name, without_credential(first_line(error)))
            # The libraries behind fsspec have errors of their own.
            except Exception as error:  # noqa: BLE001
                raise PassingError(without_credential(first_line(error))) from None

        return patiently(attempt, self.name)


def _moment(date: Any) -> Any:
    """Return a date as seconds: some file systems list it so, and look it up otherwise."""
    return date.timestamp() if isinstance(date, datetime) else date
