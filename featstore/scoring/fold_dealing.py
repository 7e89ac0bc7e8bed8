"""Which images are in one fold: what belongs together stays together, and each class is spread evenly."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from featstore.duplicates.finding import find_duplicates
from featstore.scoring.leakage import cannot_compare
from featstore.splits import SplitRule
from featstore.splits.keys import draws, label_key
from featstore.store.grouping import join_groups

if TYPE_CHECKING:
    from featstore.store.table import FeatureTable

__all__ = ["Together", "deal_evenly", "find_together"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Together:
    """What of a table's images is kept in one fold.

    Parameters
    ----------
    keys : list of str
        Of each image; equal ones stay together.
    by : str
        ``"image"``, where only copies of one file do, or what else: ``"group"``, ``"folder"`` …
    n_near : int
        Images that a near-duplicate is kept with.
    skipped : str or None
        Why near-duplicates were not looked for, or not heeded.
    """

    keys: list[str]
    by: str
    n_near: int
    skipped: str | None


def find_together(table: "FeatureTable", rule: SplitRule, *, folds: int) -> Together:
    """Join what a rule keeps together, or else the catalog's groups, with copies and near-duplicates.

    Parameters
    ----------
    table : FeatureTable
    rule : SplitRule
        Where it goes by content, the catalog's groups are heeded all the same.
    folds : int
        Near-duplicates that hang together in a chain of more images than a fold has are no such thing.
    """
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
            skipped = f"{largest:,} images hang together by them"
        else:
            near = {content: f"near-{group[0]}" for group in groups for content in group}
    if near:
        keys = join_groups(keys, [near.get(content) for content in hashes])
    return Together(
        keys=[key or content for key, content in zip(keys, hashes, strict=True)],
        by=by,
        n_near=sum(content in near for content in hashes),
        skipped=skipped,
    )


def deal_evenly(keys: Sequence[str], y: NDArray[np.intp], *, folds: int, salt: str) -> NDArray[np.intp]:
    """Deal images to folds, those of each class as evenly as what is kept together allows.

    The largest of what is kept together are dealt first, and equals in an order by a hash; each goes where
    the fewest images of its class are, then where the fewest images are.

    Parameters
    ----------
    keys : sequence of n str
        Images of one key are in one fold.
    y : ndarray of shape (n,), int
        Classes, from 0.
    folds : int
    salt : str

    Returns
    -------
    ndarray of shape (n,), int
        Folds from 0; -1 where all images of a class are of one key, so that none could be held out.
    """
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
