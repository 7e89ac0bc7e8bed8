"""Selection of the images that an extension is fitted on."""

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from featstore.errors import HeadError, SplitError
from featstore.extending.samples import MOST_IMAGES, Samples, assign_folds, keep_classes, sample_evenly
from featstore.heads.data.partition import row_groups
from featstore.heads.head import Head
from featstore.heads.seen import SeenImages
from featstore.messages import listed
from featstore.splits import SplitRule

if TYPE_CHECKING:
    from featstore.store.tables.table import FeatureTable

__all__ = ["OldImages", "gather_new", "gather_old"]

_NO_HASHES = np.empty((0, 32), np.uint8)

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, eq=False)
class OldImages:
    """Images of old classes."""

    samples: Samples
    used: NDArray[np.uint8]  # (n, 32): content hashes of the sample
    fitted: NDArray[np.uint8]  # (any, 32): hashes of all images that the old head was fitted on

    def seen_with(self, new: NDArray[np.uint8], old: Head, *, are_fitted_on: bool) -> SeenImages:
        """Return what an extended head has seen, given the hashes of the new images it was fitted on."""
        # are_fitted_on: whether old images were fitted on, too, and not only chosen on.
        fitted = [new, self.fitted, *([self.used] if are_fitted_on else [])]
        return SeenImages.of(np.concatenate(fitted), self.used).joined(old.seen)


def gather_new(
    table: "FeatureTable",
    labels: NDArray[np.str_],
    fitted_on: NDArray[np.intp],
    known: list[str],
    rule: SplitRule,
) -> Samples:
    """Return a sample of the new images that the extension is fitted on."""
    y = np.searchsorted(known, labels[fitted_on])
    if missing := sorted({*known} - {*labels[fitted_on].tolist()}):
        raise SplitError(
            f"no image is in train or validation for {listed(missing)}; add images, or make --test smaller"
        )
    at = sample_evenly(y, np.asarray(table.content_hash_bytes)[fitted_on])
    if len(at) < len(y):
        _logger.warning(
            "using a class-balanced sample of the %d new images, %d, to choose the offset", len(y), len(at)
        )
    rows, y = fitted_on[at], y[at]
    keys = row_groups(table, rule)[rows]
    folds = keep_classes(y, assign_folds(y, keys, is_fitted_on=np.zeros(len(y), np.bool_)))
    return Samples(X=np.asarray(table.select(rows).X), y=y, folds=folds)


def gather_old(old: Head, tables: "list[FeatureTable]", *, but: "FeatureTable") -> OldImages:
    """Return a sample of the old images that are not among the new ones."""
    parts, n_same = [], 0
    hashes_used, hashes_fitted = [_NO_HASHES], [_NO_HASHES]
    new_hashes = {row.tobytes() for row in np.asarray(but.content_hash_bytes)}
    for table in tables:
        labels, hashes = old.labels_of(table), np.asarray(table.content_hash_bytes)
        rows = np.flatnonzero((labels != "") & ~old.are_of_removed_classes(labels))
        is_new = np.array([hashes[row].tobytes() in new_hashes for row in rows], np.bool_)
        rows, n_same = rows[~is_new], n_same + int(is_new.sum())
        if unknown := sorted({*labels[rows].tolist()} - {*old.classes.tolist()}):
            raise HeadError(
                f"the catalog {table.catalog_name} has labels that the old head {old.name} does not know: "
                f"{listed(unknown)}; old images need the old head's labels"
            )
        was_fitted_on = old.was_fitted_on(table)
        is_fitted_on = was_fitted_on[rows]
        y = np.searchsorted(old.classes, labels[rows])
        at = sample_evenly(y, hashes[rows], most=MOST_IMAGES // len(tables)) if len(rows) else rows
        keys = row_groups(table, SplitRule())[rows[at]]
        folds = assign_folds(y[at], keys, is_fitted_on=is_fitted_on[at])
        parts.append(Samples(X=np.asarray(table.select(rows[at]).X), y=y[at], folds=folds))
        hashes_used.append(hashes[rows[at]])
        hashes_fitted.append(hashes[was_fitted_on])
    if n_same:
        _logger.warning("%d old images are among the new ones: they are not used as old images", n_same)
    if not parts:
        nothing = np.empty(0, np.intp)
        parts = [Samples(X=np.empty((0, but.feature_dim), np.float32), y=nothing, folds=nothing)]
    X, y, folds = (np.concatenate([getattr(part, name) for part in parts]) for name in ("X", "y", "folds"))
    return OldImages(
        samples=Samples(X=X, y=y, folds=folds),
        used=np.concatenate(hashes_used),
        fitted=np.concatenate(hashes_fitted),
    )
