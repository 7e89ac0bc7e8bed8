"""Stochastic gradient descent over blocks of rows, so that the features never have to be in memory."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.errors import HeadError
from featstore.heads.data.blocks import Rows

__all__ = ["descend", "fit_scaler", "n_epochs"]

# Neighbours in a store are often of one class, and reading single rows is slow from a disk: so short runs of
# rows are drawn from all over the store, enough of them at once to mix the classes.
_RUN_ROWS = 32
_BLOCK_RUNS = 128

_UPDATES = 10**6

# So many coefficients are updated on all cores at once; for fewer, handing them out takes longer.
_ALL_CORES_FROM = 2**17


def n_epochs(n_rows: int) -> int:
    """Give the number of passes over the rows where none is asked for: a million updates, 5 to 20 passes.

    A million is what scikit-learn's user guide finds enough ("Stochastic gradient descent, tips on practical
    use"); with averaging, 20 passes do for small stores.
    """
    return int(np.clip(np.ceil(_UPDATES / max(1, n_rows)), 5, 20))


def fit_scaler(scaler: Any, X: Rows) -> None:
    """Fit a ``StandardScaler`` in one pass over the blocks of all rows."""
    for _, block in X.blocks():
        scaler.partial_fit(block)


def descend(
    preparation: Any,
    classifier: Any,
    X: Rows,
    y: NDArray[np.str_],
    weights: NDArray[np.float64],
    *,
    after_pass: Callable[[int], None] | None = None,
) -> Any:
    """Fit a ``SGDClassifier`` by ``max_iter`` passes over the rows, in an order drawn from its seed.

    Each pass draws the order of runs of 32 rows, takes 128 runs together (fewer where these are more than 32
    MB) and shuffles their rows. The learning rate follows the classifier's schedule; scikit-learn's "optimal"
    is ``1 / (alpha (t + t0))`` in update ``t`` (Bottou, Stochastic Gradient Descent Tricks, 2012). Where the
    classes are many, they are updated on all cores at once, which changes no result.

    Parameters
    ----------
    preparation : Any
        A fitted transformer.
    classifier : SGDClassifier
        Unfitted; its ``class_weight`` is not looked at. It is fitted in place.
    X : Rows
    y : ndarray of shape (n,), str
    weights : ndarray of shape (n_classes,), float64
        What an image of each class counts.
    after_pass : callable, optional
        Called with the number of each pass, from 1, when the classifier is as that pass leaves it.

    Returns
    -------
    SGDClassifier

    Raises
    ------
    HeadError
        The learning rate is "adaptive", which needs the loss of whole passes.
    """
    if classifier.learning_rate == "adaptive":
        raise HeadError(
            "sgd sees the features a block at a time and cannot adapt its learning rate to a whole pass; "
            "choose learning_rate optimal, invscaling or constant"
        )
    classes, codes = np.unique(y, return_inverse=True)
    generator = np.random.default_rng(classifier.random_state)
    starts = np.arange(0, len(X), _RUN_ROWS)
    n_runs = int(np.clip(X.block_rows // _RUN_ROWS, 1, _BLOCK_RUNS))
    class_weight, classifier.class_weight = classifier.class_weight, None
    classifier.shuffle = False
    n_jobs = classifier.n_jobs
    if len(classes) * X.feature_dim >= _ALL_CORES_FROM:
        classifier.n_jobs = -1
    for number in range(1, classifier.max_iter + 1):
        for some in _grouped(generator.permutation(starts), n_runs):
            at = np.concatenate([np.arange(start, min(start + _RUN_ROWS, len(X))) for start in np.sort(some)])
            order = generator.permutation(len(at))
            rows = preparation.transform(X.take(at))[order]
            mixed = codes[at][order]
            classifier.partial_fit(rows, classes[mixed], classes=classes, sample_weight=weights[mixed])
        if after_pass is not None:
            after_pass(number)
    classifier.class_weight, classifier.n_jobs = class_weight, n_jobs
    return classifier


def _grouped(starts: NDArray[np.intp], n_runs: int) -> Iterator[NDArray[np.intp]]:
    for first in range(0, len(starts), n_runs):
        yield starts[first : first + n_runs]
