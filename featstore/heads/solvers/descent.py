"""Stochastic gradient descent over blocks of rows, for features larger than memory."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.errors import HeadError
from featstore.heads.data.blocks import Rows

__all__ = ["descend", "n_epochs", "shuffled_blocks"]

# Adjacent rows of a store are often of one class, and reading single rows from disk is slow: draw short runs
# of rows from all over the store, enough at once to mix the classes.
_RUN_ROWS = 32
_BLOCK_RUNS = 128

_UPDATES = 10**6

# Number of coefficients above which updating classes in parallel pays off.
_ALL_CORES_FROM = 2**17


def n_epochs(n_rows: int) -> int:
    """Return the default number of passes: a million updates, 5 to 20 passes."""
    # A million is scikit-learn's recommendation (user guide, "Stochastic gradient descent, tips on practical
    # use"); with averaging, 20 passes are enough for small stores.
    return int(np.clip(np.ceil(_UPDATES / max(1, n_rows)), 5, 20))


def descend(
    preparation: Any,
    classifier: Any,
    X: Rows,
    y: NDArray[np.str_],
    weights: NDArray[np.float64],
    *,
    after_pass: Callable[[int], Any] | None = None,
) -> Any:
    """Fit an ``SGDClassifier`` in place by ``max_iter`` passes over the rows."""
    # Each pass draws the order of runs of 32 rows, takes 128 runs together (fewer if they exceed 32 MB) and
    # shuffles their rows. The learning rate follows the classifier's schedule; "optimal" is 1 / (alpha (t +
    # t0)) in update t (Bottou, Stochastic Gradient Descent Tricks, 2012). Many classes are updated in
    # parallel, which does not change the result. `weights` are those of rows; the classifier's class_weight
    # is ignored.
    if classifier.learning_rate == "adaptive":
        raise HeadError(
            "sgd reads the features in blocks and does not support an adaptive learning rate; "
            "set learning_rate to optimal, invscaling or constant"
        )
    classes, codes = np.unique(y, return_inverse=True)
    generator = np.random.default_rng(classifier.random_state)
    class_weight, classifier.class_weight = classifier.class_weight, None
    classifier.shuffle = False
    n_jobs = classifier.n_jobs
    if len(classes) * X.feature_dim >= _ALL_CORES_FROM:
        classifier.n_jobs = -1
    for number in range(1, classifier.max_iter + 1):
        for at in shuffled_blocks(X, generator):
            order = generator.permutation(len(at))
            rows = preparation.transform(X.take(at))[order]
            mixed = at[order]
            classifier.partial_fit(rows, classes[codes[mixed]], classes=classes, sample_weight=weights[mixed])
        if after_pass is not None:
            after_pass(number)
    classifier.class_weight, classifier.n_jobs = class_weight, n_jobs
    return classifier


def shuffled_blocks(X: Rows, generator: np.random.Generator) -> Iterator[NDArray[np.intp]]:
    """Yield the rows of a pass in blocks of short runs from all over the store, sorted within each."""
    starts = generator.permutation(np.arange(0, len(X), _RUN_ROWS))
    n_runs = int(np.clip(X.block_rows // _RUN_ROWS, 1, _BLOCK_RUNS))
    for first in range(0, len(starts), n_runs):
        some = np.sort(starts[first : first + n_runs])
        yield np.concatenate([np.arange(start, min(start + _RUN_ROWS, len(X))) for start in some])
