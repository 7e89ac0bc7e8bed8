"""Folds for choosing parameters: training and held-out images of each fit."""

import logging
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from featstore.errors import SplitError
from featstore.heads.data.partition import counted_names
from featstore.heads.fit_warnings import warn
from featstore.messages import listed
from featstore.splits import HashKFold, fold_numbers

if TYPE_CHECKING:
    from featstore.heads.data.samples import Images

__all__ = ["fold_divisions"]

_Division = tuple[NDArray[np.intp], NDArray[np.intp]]

_logger = logging.getLogger(__name__)


def fold_divisions(images: "Images", folds: HashKFold) -> list[_Division]:
    """Return (training, held-out) positions for each fold such that every training part has every class."""
    # A class that lies in a single fold, since all of it stays together, is in every training part and held
    # out by none. Folds without images are left out.
    numbers = fold_numbers(folds, images.at, images.y, images.groups)
    classes, codes = np.unique(images.y, return_inverse=True)
    pairs = np.unique(codes * folds.n_splits + numbers)
    is_single = np.bincount(pairs // folds.n_splits, minlength=len(classes)) == 1
    is_held_out = ~is_single[codes]
    found = [
        (np.flatnonzero((numbers != fold) | ~is_held_out), np.flatnonzero((numbers == fold) & is_held_out))
        for fold in range(folds.n_splits)
    ]
    found = [(inside, outside) for inside, outside in found if len(outside)]
    if not found:
        raise SplitError(
            f"{len(images)} images cannot be divided into {folds.n_splits} folds: every class stays "
            "together as a whole; add images, or choose on the validation split"
        )
    if is_single.any():
        warn(
            _logger,
            "no fold holds out %s, whose images all stay together: they are in every training part; "
            "add images, or leave small classes out with --min-images",
            listed(counted_names(classes[is_single], np.bincount(codes)[is_single])),
        )
    if len(found) < folds.n_splits:
        warn(_logger, "only %d of %d folds have images", len(found), folds.n_splits)
    return found
