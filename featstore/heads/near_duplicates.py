"""How much of a head's test score rests on images that it has, nearly, been trained on."""

import logging
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featstore.duplicates.finding import THRESHOLD
from featstore.duplicates.likeness import fit_likeness
from featstore.duplicates.search import best_matches
from featstore.stats.intervals import scored

if TYPE_CHECKING:
    from featstore.store.table import FeatureTable

__all__ = ["cannot_compare", "score_without_duplicates"]

_logger = logging.getLogger(__name__)

# Multiplications, n_test * n_train * feature_dim: half a minute of two cores.
_MAX_WORK = 2 * 10**12
# Cosines of vectors drawn at random have the standard deviation 1 / sqrt(feature_dim): with fewer features
# than this, the threshold is less than six of them from 0.
_MIN_FEATURE_DIM = 64


def score_without_duplicates(
    table: "FeatureTable",
    *,
    train: NDArray[np.intp],
    test: NDArray[np.intp],
    is_right: NDArray[np.bool_],
) -> dict[str, Any]:
    """Score a head on the test images that no training image is nearly the same as.

    Barz & Denzler (Do we train on test data? Purging CIFAR of near-duplicates, J. Imaging 6, 2020) found 3.3%
    of the test images of CIFAR-10 in its training set, and 10% of those of CIFAR-100. The similarity, its
    reference and its threshold are those of :func:`featstore.find_duplicates`.

    Parameters
    ----------
    table : FeatureTable
    train, test : ndarray of int
        Rows of the table.
    is_right : ndarray of shape (len(test),), bool
        Whether the head predicts the test images' labels.

    Returns
    -------
    dict
        ``threshold``; ``n_test``, the test images with a near-duplicate in train; ``n_without``,
        ``top1_without`` and ``top1_ci_without``, the accuracy on the others and its 95% interval; and
        ``skipped``, why all but the threshold are None, or None.
    """
    told: dict[str, Any] = {"threshold": THRESHOLD, "n_test": None, "skipped": None}
    blank = dict.fromkeys(("n_without", "top1_without", "top1_ci_without"))
    # Before its features are asked for: of a large table they may have to be gathered.
    feature_dim = table.feature_dim
    if not len(test):
        return told | blank | {"skipped": "no labelled image is in test"}
    if reason := cannot_compare(len(test), len(train), feature_dim):
        if feature_dim >= _MIN_FEATURE_DIM:
            _logger.warning("not looked for near-duplicates of test images in train: %s", reason)
        return told | blank | {"skipped": reason}
    X = table.X
    likeness = fit_likeness(X, np.asarray(table.content_hash_bytes))
    known = best_matches(X, test, train, likeness) >= THRESHOLD
    without = scored(int(is_right[~known].sum()), int((~known).sum()))
    if n_known := int(known.sum()):
        _logger.warning(
            "%s of %s test images %s in train; accuracy is %.1f%% with and %s without them; `featstore "
            "duplicates --write-groups` and then `featstore fit --split-by group` keep such images together",
            f"{n_known:,}",
            f"{len(test):,}",
            "has a near-duplicate" if n_known == 1 else "have near-duplicates",
            100 * float(is_right.mean()),
            "unknown" if without["top1"] is None else f"{100 * without['top1']:.1f}%",
        )
    return told | {"n_test": n_known} | {f"{name}_without": value for name, value in without.items()}


def cannot_compare(n: int, n_others: int, feature_dim: int) -> str | None:
    """Return why so many images are not compared with so many others; None where they can be."""
    if feature_dim < _MIN_FEATURE_DIM:
        return f"{feature_dim} features are too few to know images again by"
    if n * n_others * feature_dim > _MAX_WORK:
        return f"comparing {n:,} with {n_others:,} images would take too long"
    return None
