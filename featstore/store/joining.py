"""Joining of catalogs with the rows of spaces to a feature table."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from featstore.errors import NotInStoreError
from featstore.store.columns import Columns
from featstore.store.grouping import join_groups
from featstore.store.missing import check_complete

if TYPE_CHECKING:
    from featstore.store.catalog import Catalog
    from featstore.store.space import Space
from featstore.store.table import FeatureTable

__all__ = ["build_table"]


def build_table(spaces: Sequence["Space"], catalogs: Sequence["Catalog"]) -> FeatureTable:
    """Join catalogs with the rows of spaces; see :meth:`FeatureStore.table`."""
    parts, n_missing, n_failed = [], 0, 0
    for catalog in catalogs:
        rows = np.stack([space.lookup(catalog.content_hash) for space in spaces], axis=1)
        columns = Columns.of_catalog(catalog, rows)
        usable, there = catalog.usable, (rows >= 0).any(axis=1)
        n_failed += int((~usable).sum())
        n_missing += int((usable & ~there).sum())
        parts.append(columns.take(usable & there))
    columns = Columns.joined(parts)
    columns = columns.with_groups(join_groups(columns.groups.tolist(), columns.near_groups.tolist()))
    name = "+".join(catalog.name for catalog in catalogs)
    if not len(columns):
        raise NotInStoreError(
            f"no image of the catalog {name} has features in the space {' or '.join(s.name for s in spaces)} "
            f"({n_missing:,} are missing, {n_failed:,} could not be used); "
            f"run featstore extract on its images with --backbone {spaces[0].spec.architecture}"
        )
    table = FeatureTable(spaces, columns, catalog_name=name, n_missing=n_missing, n_failed=n_failed)
    check_complete(spaces, columns, catalog_name=name)
    return table
