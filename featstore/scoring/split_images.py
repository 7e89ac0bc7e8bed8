"""The images of a split that a head is scored on."""

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from featstore.errors import SplitError
from featstore.heads.head import Head
from featstore.scoring.predictions import check_labels_known
from featstore.splits import SPLITS

if TYPE_CHECKING:
    from featstore.store.tables.table import FeatureTable

__all__ = ["SplitImages", "images_of_split"]

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, eq=False)
class SplitImages:
    """Labelled images of a split, and which of them may be scored."""

    split: str
    rows: NDArray[np.intp]  # (n,): rows of the table
    labels: NDArray[np.str_]  # (n,): by the names of the head's classes
    parts: dict[str, NDArray[np.bool_]]  # (n,) each: how the head has seen them
    is_scored: NDArray[np.bool_]  # (n,)


def images_of_split(head: Head, table: "FeatureTable", split: str) -> SplitImages:
    """Return the images of a split, with the errors and warnings of :func:`featstore.evaluate`."""
    head.check_fingerprint(table.fingerprint, spec=table.spec)
    if split not in (*SPLITS, "all"):
        raise SplitError(f"split must be one of {', '.join(SPLITS)} or all; found {split!r}")
    labels = head.labels_of(table)
    chosen = labels != ""
    if split != "all":
        chosen &= np.asarray(table.splits(head.split_rule)) == split
    chosen = _leave_out_removed(head, labels, chosen)
    rows = np.flatnonzero(chosen)
    if not len(rows):
        raise SplitError(
            f"the catalog {table.catalog_name} has no labelled image in {split}; "
            "choose another split, or fit with a larger fraction for it"
        )
    check_labels_known(head, labels[rows])
    is_fitted, is_chosen = head.was_fitted_on(table)[rows], head.was_chosen_on(table)[rows]
    is_scored = ~is_fitted
    if split == "train" or (split == "validation" and is_fitted.all()):
        is_scored = np.ones(len(rows), np.bool_)
        _logger.warning(
            "the head %s was fitted on %d of the %d images in %s: scores on them are optimistic",
            head.name,
            is_fitted.sum(),
            len(rows),
            split,
        )
    elif not is_scored.any():
        raise SplitError(
            f"the head {head.name} was fitted on all {len(rows)} labelled images in {split} of the catalog "
            f"{table.catalog_name}: evaluate it on images that it has not seen, or by cross-validation "
            "with cross_evaluate (`featstore evaluate --folds`)"
        )
    return SplitImages(
        split=split,
        rows=rows,
        labels=labels[rows],
        parts={"held_out": ~is_fitted & ~is_chosen, "chosen_on": is_chosen, "fitted_on": is_fitted},
        is_scored=is_scored,
    )


def _leave_out_removed(head: Head, labels: NDArray[np.str_], chosen: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the chosen images of classes that the head still has, with a warning for the others."""
    removed = chosen & head.are_of_removed_classes(labels)
    if n_left_out := int(removed.sum()):
        _logger.warning(
            "left out %s of classes that the head was fitted without, or that were removed from it: %s",
            f"{n_left_out:,} image{'s' * (n_left_out > 1)}",
            ", ".join(sorted({*labels[removed].tolist()})),
        )
    return chosen & ~removed
