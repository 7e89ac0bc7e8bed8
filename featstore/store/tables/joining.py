"""Joining of catalogs with the rows of spaces to a feature table."""

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from featstore.errors import NotInStoreError, StoreError
from featstore.store.catalogs.digests import CatalogDigests
from featstore.store.tables.columns import Columns
from featstore.store.tables.grouping import join_groups
from featstore.store.tables.missing import check_complete

if TYPE_CHECKING:
    from featstore.store.catalogs.catalog import Catalog
    from featstore.store.space import Space
from featstore.store.tables.table import FeatureTable

__all__ = ["build_table", "in_other_space", "of_spaces", "store_folder"]


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
    separators = sorted({catalog.label_separator for catalog in catalogs})
    if len(separators) > 1:
        raise StoreError(
            f"the catalogs {', '.join(catalog.name for catalog in catalogs)} have labels of different kinds, "
            "one or several an image, or joined otherwise: extract them with the same --label-separator"
        )
    (separator,) = separators
    targets = sorted({catalog.target_name for catalog in catalogs})
    if len(targets) > 1:
        raise StoreError(
            f"the catalogs {', '.join(catalog.name for catalog in catalogs)} have "
            f"{' and '.join(name or 'labels' for name in targets)}: join catalogs of one number, or of labels"
        )
    (target,) = targets
    if separator:
        columns = columns.one_for_each_content(separator)
    columns = columns.with_groups(join_groups(columns.groups.tolist(), columns.near_groups.tolist()))
    name = "+".join(catalog.name for catalog in catalogs)
    if not len(columns):
        raise NotInStoreError(
            f"no image of the catalog {name} has features in the space {' or '.join(s.name for s in spaces)} "
            f"({n_missing:,} are missing, {n_failed:,} could not be used); "
            f"run featstore extract on its images with --backbone {spaces[0].spec.architecture}"
        )
    table = FeatureTable(
        spaces,
        columns,
        catalog_name=name,
        n_missing=n_missing,
        n_failed=n_failed,
        label_separator=separator,
        target_name=target,
        catalog_digests=CatalogDigests(catalogs),
    )
    check_complete(spaces, columns, catalog_name=name)
    return table


def in_other_space(table: FeatureTable, space: "Space") -> FeatureTable:
    """Return a table's images, in its order, with their features of another space."""
    columns = table._columns
    rows = space.lookup(columns.content_hash, columns.views)
    if n_lacking := int((rows < 0).sum()):
        raise NotInStoreError(f"{n_lacking:,} of {len(table):,} images have no features in {space.name}")
    return FeatureTable(
        [space],
        replace(columns, rows=rows[:, None]),
        catalog_name=table.catalog_name,
        label_separator=table.label_separator,
        target_name=table.target_name,
        catalog_digests=table.catalog_digests,
    )


def of_spaces(table: FeatureTable, at: Sequence[int]) -> FeatureTable:
    """Return a table's rows with the features of some of its spaces, by their numbers."""
    columns = replace(table._columns, rows=table._columns.rows[:, list(at)])
    return FeatureTable(
        [table._spaces[number] for number in at],
        columns,
        catalog_name=table.catalog_name,
        n_missing=table.n_missing,
        n_failed=table.n_failed,
        assignment=table._assignment,
        label_separator=table.label_separator,
        target_name=table.target_name,
        catalog_digests=table.catalog_digests,
    )


def store_folder(table: FeatureTable) -> str:
    """Return the path of the store that a table's features are in."""
    return os.path.dirname(os.path.dirname(table._spaces[0].path))
