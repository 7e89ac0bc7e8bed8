"""Assignment of images to cross-validation folds: groups stay together, classes are spread evenly."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from featstore.duplicates.finding import find_duplicates
from featstore.scoring.near_duplicates import cannot_compare
from featstore.splits import SplitRule
from featstore.splits.keys import draws, label_key
from featstore.store.tables.grouping import join_groups

if TYPE_CHECKING:
    from featstore.store.tables.table import FeatureTable

__all__ = ["FoldGroups", "assign_folds", "find_fold_groups", "warn_of_seen_labels"]

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, eq=False)
class FoldGroups:
    """Groups of a table's images that stay in one fold."""

    keys: list[str]  # group of each image
    by: str  # "image" if only copies stay together, else "group", "folder" …
    n_near: int  # images kept with a near-duplicate
    skipped: str | None  # why near-duplicates were ignored


def find_fold_groups(table: "FeatureTable", rule: SplitRule, *, folds: int) -> FoldGroups:
    """Join the rule's or the catalog's groups with copies and near-duplicates."""
    # For a rule by content, the catalog's groups are used all the same. Near-duplicates are ignored if they
    # connect more images than a fold has.
    warn_of_seen_labels(table)
    hashes = np.asarray(table.content_hash).tolist()
    names = np.asarray(table.groups if rule.by == "content" else table.group_keys(rule)).tolist()
    has_groups = any(name and name != content for name, content in zip(names, hashes, strict=True))
    by = "image" if not has_groups else "group" if rule.by == "content" else rule.by
    keys = join_groups([name or None for name in names], hashes)
    n_images = len(hashes)
    skipped = cannot_compare(n_images, n_images // 2, table.feature_dim)
    near: dict[str, str] = {}
    if skipped is None:
        groups = find_duplicates(table, max_pairs=0).content_groups
        largest = max(map(len, groups), default=0)
        if largest > max(2, n_images // (2 * folds)):
            skipped = f"they connect {largest:,} images"
        else:
            near = {content: f"near-{group[0]}" for group in groups for content in group}
    if near:
        keys = join_groups(keys, [near.get(content) for content in hashes])
    return FoldGroups(
        keys=[key or content for key, content in zip(keys, hashes, strict=True)],
        by=by,
        n_near=sum(content in near for content in hashes),
        skipped=skipped,
    )


def warn_of_seen_labels(table: "FeatureTable") -> None:
    """Warn that folds are no test of features whose network has seen the labels."""
    for name in table.spaces_that_saw_labels:
        _logger.warning(
            "the network of %s was fine-tuned on labels of these images: in folds it is scored on images "
            "that it has learned, and scores are optimistic; those on test images are not",
            name,
        )


def assign_folds(keys: Sequence[str], y: NDArray[np.intp], *, folds: int, salt: str) -> NDArray[np.intp]:
    """Assign images to folds, classes as evenly as groups allow; -1 if a class is a single group."""
    # The largest groups are assigned first, ties in hash order, each to the fold with the fewest images of
    # its class, then with the fewest images.
    names, first, unit = np.unique(np.asarray(keys), return_index=True, return_inverse=True)
    of_class = y[first]
    sizes = np.bincount(unit)
    drawn = draws([label_key(str(name)) for name in names], salt=salt, first_byte=8)
    n_units = np.bincount(np.unique(np.stack([y, unit], axis=1), axis=0)[:, 0])
    counts = np.zeros((int(y.max(initial=0)) + 1, folds), np.intp)
    totals = np.zeros(folds, np.intp)
    found = np.full(len(names), -1, np.intp)
    for number in np.lexsort((drawn, of_class, -sizes)).tolist():
        own = of_class[number]
        if n_units[own] < 2:
            continue
        fold = int(np.lexsort((totals, counts[own]))[0])
        found[number] = fold
        counts[own, fold] += sizes[number]
        totals[fold] += sizes[number]
    return found[unit]
