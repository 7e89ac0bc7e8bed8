"""The place that a path leads to."""

import functools
import os
import re

from featstore.errors import StoreError
from featstore.io.storage.access import Storage
from featstore.io.storage.folders import Folders
from featstore.io.urls import FILE_URL, holds_credential, is_url, without_credential

__all__ = ["absolute_place", "file_exists", "forget_buckets", "storage_of"]

_SCHEMES = ("s3", "gs", "az")
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_folders = Folders()


def storage_of(path: str) -> Storage:
    """Return the storage of a file or object, by its path or URL."""
    if not is_url(path):
        return _folders
    scheme, _, rest = path.partition("://")
    return _objects(scheme, rest.partition("/")[0])


def file_exists(path: str) -> bool:
    """Return whether there is a file at a path or URL now."""
    return storage_of(path).find(path) is not None


def absolute_place(path: str | os.PathLike[str]) -> str:
    """Return the absolute path of a store or of a file in one, or its URL; refuse URLs where none can be."""
    given = os.fsdecode(path)
    if FILE_URL.match(given):
        given = FILE_URL.sub("", given)
    if not is_url(given):
        return os.path.abspath(given)
    scheme, _, rest = given.partition("://")
    if scheme.lower() not in _SCHEMES:
        raise StoreError(
            f"{without_credential(given)}: a store lies in a folder, or in a bucket of s3://, gs:// or az://"
        )
    if holds_credential(given):
        raise StoreError(
            f"{without_credential(given)} holds a credential (a password, signature or token); give the "
            "address without it, and credentials in the environment"
        )
    if os.sep != "/":
        raise StoreError(f"{given}: stores in buckets are used on Linux and macOS; here, name a folder")
    parts = [part for part in rest.split("/") if part]
    if not parts or not _BUCKET.fullmatch(parts[0]) or {".", ".."} & {*parts}:
        raise StoreError(f"{given!r} names no store; give an address such as s3://bucket/flowers.fstore")
    return f"{scheme.lower()}://{'/'.join(parts)}"


@functools.lru_cache(maxsize=256)
def _objects(scheme: str, bucket: str) -> Storage:
    from featstore.io.storage.bucket_files import BucketFiles
    from featstore.io.storage.objects import Objects

    return Objects(BucketFiles(scheme, bucket))


def forget_buckets() -> None:
    """Connect anew, with what the environment says then."""
    _objects.cache_clear()
