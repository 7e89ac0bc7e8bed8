"""The folds that parameters are chosen by: what each fit is given, and what it is judged on."""

import logging
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from featstore.errors import SplitError
from featstore.heads.data.partition import counted_names, listed
from featstore.splits import HashKFold, fold_numbers

if TYPE_CHECKING:
    from featstore.heads.data.samples import Images

__all__ = ["divisions"]

_Division = tuple[NDArray[np.intp], NDArray[np.intp]]

_logger = logging.getLogger(__name__)


def divisions(images: "Images", folds: HashKFold) -> list[_Division]:
    """Divide labelled images into folds, so that each fit sees every class.

    A class that lies in one fold whole, since all of it stays together, is in every fit and judged by none.
    Folds without an image are left out.

    Returns
    -------
    list of (ndarray of int, ndarray of int)
        The places of what to fit on, and of what to judge.

    Raises
    ------
    SplitError
        All images are in one fold.
    """
    numbers = fold_numbers(folds, images.at, images.y, images.groups)
    classes, codes = np.unique(images.y, return_inverse=True)
    pairs = np.unique(codes * folds.n_splits + numbers)
    is_single = np.bincount(pairs // folds.n_splits, minlength=len(classes)) == 1
    is_judged = ~is_single[codes]
    found = [
        (np.flatnonzero((numbers != fold) | ~is_judged), np.flatnonzero((numbers == fold) & is_judged))
        for fold in range(folds.n_splits)
    ]
    found = [(inside, outside) for inside, outside in found if len(outside)]
    if not found:
        raise SplitError(
            f"{len(images)} images cannot be divided into {folds.n_splits} folds, since no class has images "
            "that may be in different ones; add images, or choose on the validation split"
        )
    if is_single.any():
        _logger.warning(
            "no fold judges %s, of which all images stay together: they are in what every fold is fitted on; "
            "add images, or leave small classes out with --min-images",
            listed(counted_names(classes[is_single], np.bincount(codes)[is_single])),
        )
    if len(found) < folds.n_splits:
        _logger.warning("%d of %d folds have images", len(found), folds.n_splits)
    return found
