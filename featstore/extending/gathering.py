"""The images that an extension is made of, gathered from tables."""

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from featstore.errors import HeadError, SplitError
from featstore.extending.photos import MOST_IMAGES, Photos, deal_folds, keep_classes, spread
from featstore.heads.data.partition import kept_together, listed
from featstore.heads.head import Head
from featstore.heads.seen import SeenImages
from featstore.splits import SplitRule

if TYPE_CHECKING:
    from featstore.store.table import FeatureTable

__all__ = ["OldImages", "gather_new", "gather_old"]

_NO_HASHES = np.empty((0, 32), np.uint8)

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, eq=False)
class OldImages:
    """Images of old classes.

    Parameters
    ----------
    photos : Photos
    used : ndarray of shape (n, 32), uint8
        Their content hashes.
    fitted : ndarray of shape (any, 32), uint8
        Those of all images of their tables that the old head was fitted on.
    """

    photos: Photos
    used: NDArray[np.uint8]
    fitted: NDArray[np.uint8]

    def seen_with(self, new: NDArray[np.uint8], old: Head, *, are_fitted_on: bool) -> SeenImages:
        """Return what an extended head has seen.

        Parameters
        ----------
        new : ndarray of shape (n_new, 32), uint8
            Content hashes of the new images that it was fitted on.
        old : Head
        are_fitted_on : bool
            Whether the old images were fitted on, too, and not only chosen on.
        """
        fitted = [new, self.fitted, *([self.used] if are_fitted_on else [])]
        return SeenImages.of(np.concatenate(fitted), self.used).joined(old.seen)


def gather_new(
    table: "FeatureTable",
    labels: NDArray[np.str_],
    fitted_on: NDArray[np.intp],
    known: list[str],
    rule: SplitRule,
) -> Photos:
    """Return the new images that the extension is fitted on, at most some thousands."""
    y = np.searchsorted(known, labels[fitted_on])
    if missing := sorted({*known} - {*labels[fitted_on].tolist()}):
        raise SplitError(
            f"no image is in train or validation for {listed(missing)}; add images, or make --test smaller"
        )
    at = spread(y, np.asarray(table.content_hash_bytes)[fitted_on])
    if len(at) < len(y):
        _logger.warning("of %d new images, %d of all classes alike set the bounds", len(y), len(at))
    rows, y = fitted_on[at], y[at]
    keys = kept_together(table, rule)[rows]
    folds = keep_classes(y, deal_folds(y, keys, is_fitted_on=np.zeros(len(y), np.bool_)))
    return Photos(X=np.asarray(table.select(rows).X), y=y, folds=folds)


def gather_old(old: Head, tables: "list[FeatureTable]", *, but: "FeatureTable") -> OldImages:
    """Return the images of old classes that are not among the new ones, at most some thousands."""
    parts, n_same = [], 0
    hashes_used, hashes_fitted = [_NO_HASHES], [_NO_HASHES]
    new_hashes = {row.tobytes() for row in np.asarray(but.content_hash_bytes)}
    for table in tables:
        labels, hashes = old.labels_of(table), np.asarray(table.content_hash_bytes)
        rows = np.flatnonzero(labels != "")
        is_new = np.array([hashes[row].tobytes() in new_hashes for row in rows], np.bool_)
        rows, n_same = rows[~is_new], n_same + int(is_new.sum())
        if unknown := sorted({*labels[rows].tolist()} - {*old.classes.tolist()}):
            raise HeadError(
                f"the catalog {table.catalog_name} has labels that the old head {old.name} does not know: "
                f"{listed(unknown)}; old images are labelled as the old head labels them"
            )
        was_fitted_on = old.was_fitted_on(table)
        is_fitted_on = was_fitted_on[rows]
        y = np.searchsorted(old.classes, labels[rows])
        at = spread(y, hashes[rows], most=MOST_IMAGES // len(tables)) if len(rows) else rows
        keys = kept_together(table, SplitRule())[rows[at]]
        folds = deal_folds(y[at], keys, is_fitted_on=is_fitted_on[at])
        parts.append(Photos(X=np.asarray(table.select(rows[at]).X), y=y[at], folds=folds))
        hashes_used.append(hashes[rows[at]])
        hashes_fitted.append(hashes[was_fitted_on])
    if n_same:
        _logger.warning("%d old images are among the new ones: they are not looked at as old", n_same)
    if not parts:
        nothing = np.empty(0, np.intp)
        parts = [Photos(X=np.empty((0, but.feature_dim), np.float32), y=nothing, folds=nothing)]
    X, y, folds = (np.concatenate([getattr(part, name) for part in parts]) for name in ("X", "y", "folds"))
    return OldImages(
        photos=Photos(X=X, y=y, folds=folds),
        used=np.concatenate(hashes_used),
        fitted=np.concatenate(hashes_fitted),
    )
