"""Near-duplicates of training images among test images."""

from typing import TYPE_CHECKING, Any

import numpy as np

from featstore.duplicates.finding import THRESHOLD
from featstore.duplicates.likeness import fit_likeness
from featstore.duplicates.search import nearest_others
from featstore.heads.head import Head
from featstore.scoring.predictions import predict_images
from featstore.stats.intervals import scored

if TYPE_CHECKING:
    from featstore.store.tables.table import FeatureTable

__all__ = ["cannot_compare", "leakage"]

# Multiplications, n_test * n_train * feature_dim: half a minute on two cores.
_MAX_WORK = 2 * 10**12
# Cosines of vectors drawn at random have the standard deviation 1 / sqrt(feature_dim): with fewer features
# than this, the threshold is less than six of them from 0.
_MIN_FEATURE_DIM = 64


def leakage(head: Head, table: "FeatureTable") -> dict[str, Any]:
    """Find test images with a near-duplicate among the training images, and score the head without them.

    Barz & Denzler (Do we train on test data? Purging CIFAR of near-duplicates, J. Imaging 6, 2020) found 3.3%
    of the test images of CIFAR-10 in its training set, and 10% of those of CIFAR-100. Similarity and
    threshold are those of :func:`featstore.find_duplicates`.

    `featstore fit` calls this after fitting and keeps the result with the head, as
    :attr:`featstore.Head.near_duplicates`. Exact copies of training images are never scored and do not count
    here.

    Parameters
    ----------
    head : Head
    table : FeatureTable
        The table that the head was fitted on.

    Returns
    -------
    dict
        ``threshold``; ``n_test``, the number of test images with a near-duplicate among the training images;
        ``n_without``, ``top1_without`` and ``top1_ci_without``, the number of the other test images, the
        accuracy on them and its 95% interval; and ``skipped``, the reason why all but the threshold are None,
        or None.

    Raises
    ------
    FingerprintMismatchError
        The features are of another backbone.

    Examples
    --------
    >>> import featstore
    >>> found = featstore.leakage(featstore.fit(table, head="ridge"), table)
    >>> found["n_test"], found["n_without"]
    (0, 11)
    """
    head.check_fingerprint(table.fingerprint, spec=table.spec)
    labels = head.labels_of(table)
    is_usable = np.isin(labels, head.classes)
    is_fitted = head.was_fitted_on(table)
    is_test = np.asarray(table.splits(head.split_rule)) == "test"
    train, test = np.flatnonzero(is_usable & is_fitted), np.flatnonzero(is_usable & is_test & ~is_fitted)
    found: dict[str, Any] = {"threshold": THRESHOLD, "n_test": None, "skipped": None}
    blank = dict.fromkeys(("n_without", "top1_without", "top1_ci_without"))
    if not len(test):
        return found | blank | {"skipped": "no labelled image is in test"}
    if not len(train):
        return found | blank | {"skipped": "the head was fitted on none of these images"}
    # Before loading features, which may have to be gathered for a large table.
    if reason := cannot_compare(len(test), len(train), table.feature_dim):
        return found | blank | {"skipped": reason}
    X = table.X
    similarity = fit_likeness(X, np.asarray(table.content_hash_bytes))
    known = nearest_others(X, test, train, similarity)[0] >= THRESHOLD
    is_right = predict_images(head, table, test)[0] == labels[test]
    without = scored(int(is_right[~known].sum()), int((~known).sum()))
    return (
        found | {"n_test": int(known.sum())} | {f"{name}_without": value for name, value in without.items()}
    )


def cannot_compare(n: int, n_others: int, feature_dim: int) -> str | None:
    """Return the reason not to compare this many images, or None."""
    if feature_dim < _MIN_FEATURE_DIM:
        return f"{feature_dim} features are too few to recognise images"
    if n * n_others * feature_dim > _MAX_WORK:
        return f"comparing {n:,} with {n_others:,} images would take too long"
    return None
