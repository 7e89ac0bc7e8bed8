"""Catalogs whose source is no longer where it was, and what has taken their place."""

import logging
import os
from collections.abc import Sequence

import numpy as np

from featstore.io.stamps import is_there
from featstore.store.catalogs.catalog import Catalog

__all__ = ["current_catalog", "is_left_behind"]

_log = logging.getLogger(__name__)


def is_left_behind(catalog: Catalog) -> bool:
    """Return whether a catalog's source is gone, or a folder without any of its images."""
    if not catalog.location:
        return False
    if not is_there(catalog.location):
        return True
    return os.path.isdir(catalog.location) and not any(map(is_there, catalog.absolute_paths()))


def current_catalog(catalogs: Sequence[Catalog]) -> str | None:
    """Return the one catalog whose source is still there, if it has all that the others say; else None."""
    # A source that was moved and extracted again before catalogs followed their images has two.
    there = [catalog for catalog in catalogs if not is_left_behind(catalog)]
    if len(there) != 1:
        return None
    (current,) = there
    left = [catalog for catalog in catalogs if catalog is not current]
    known = _contents(current)
    if not all(_contents(catalog) <= known for catalog in left):
        return None
    _log.warning(
        "the images of the catalog %s have moved, and all of them are in %s with the same labels: using that",
        ", ".join(catalog.name for catalog in left),
        current.name,
    )
    return current.name


def _contents(catalog: Catalog) -> set[tuple[str | bytes | None, ...]]:
    """Return content, label, group and given split of each image that could be used."""
    rows = np.flatnonzero(catalog.usable).tolist()
    columns = (catalog.labels, catalog.groups, catalog.splits)
    return {(catalog.content_hash[row].tobytes(), *(column[row] for column in columns)) for row in rows}
