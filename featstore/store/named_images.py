"""The images of a store that a user names: by their files, or by content hash."""

import os
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from featstore.errors import ImageError, NotInStoreError
from featstore.hashing import content_hash
from featstore.images.reading import read_image
from featstore.io.urls import is_url

if TYPE_CHECKING:
    from featstore.store.catalogs.catalog import Catalog
    from featstore.store.folder import StoreFolder

__all__ = ["NamedImages", "named_images", "rows_at"]

_HASH = re.compile(r"[0-9a-fA-F]{64}")


@dataclass(frozen=True, kw_only=True)
class NamedImages:
    """Contents, and the paths by which they were named."""

    contents: frozenset[bytes]
    paths: frozenset[str]
    unknown: tuple[str, ...]  # paths of no file, and of no image of a catalog


def named_images(
    store: "StoreFolder", names: Sequence[str | os.PathLike[str]], *, all_known: bool = False
) -> NamedImages:
    """Return the contents that files have now, those that catalogs know of them, and hashes as they are."""
    given = [os.fspath(name) for name in names]
    contents = {bytes.fromhex(name) for name in given if _HASH.fullmatch(name)}
    paths = [name if is_url(name) else os.path.abspath(name) for name in given if not _HASH.fullmatch(name)]
    known, unknown = _known(store, {*paths}), []
    for path in paths:
        contents |= known.get(path, set())
        try:
            contents.add(content_hash(read_image(path)))
        except ImageError as error:
            if path not in known:
                unknown.append(path)
                reason = error
    if unknown and (all_known or len(unknown) == len(given)):
        raise NotInStoreError(
            f"{unknown[-1]} cannot be read ({reason}), and no catalog of {store.path} has it; name an image "
            "by its file, the path that a catalog has, or its content hash of 64 hexadecimal digits"
        )
    return NamedImages(contents=frozenset(contents), paths=frozenset(paths), unknown=tuple(unknown))


def rows_at(catalog: "Catalog", paths: Collection[str]) -> dict[int, str]:
    """Return the rows of a catalog's images that lie at some absolute paths, with these."""
    if not paths:
        return {}
    there = (path if is_url(path) else os.path.normpath(path) for path in catalog.absolute_paths())
    return {row: path for row, path in enumerate(there) if path in paths}


def _known(store: "StoreFolder", paths: Collection[str]) -> dict[str, set[bytes]]:
    """Return the contents that catalogs know of files."""
    found: dict[str, set[bytes]] = {}
    for name in store.catalog_names if paths else ():
        catalog = store.catalog(name)
        for row, path in rows_at(catalog, paths).items():
            content = catalog.content_hash[row]
            found.setdefault(path, set()).update([content.tobytes()] if content.any() else [])
    return found
