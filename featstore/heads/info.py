"""Description of a kind of head."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["HeadInfo"]


@dataclass(frozen=True, kw_only=True)
class HeadInfo:
    """A kind of head: a classifier, its parameters and how it is fitted.

    Parameters
    ----------
    name : str
        Name, as passed to :func:`featstore.fit`.
    summary : str
        One line: what it is, and when to choose it.
    make : callable
        Returns a new, unfitted scikit-learn ``Pipeline``: the scaling that suits the classifier, then the
        classifier as the last step.
    grid : mapping of str to tuple
        The classifier's parameters that ``fit`` chooses, each with its values, the most regularised first;
        empty if there is nothing to choose.
    settings : tuple of str
        All of the classifier's parameters that may be set, including those of the grid.
    solver : {"plain", "warm", "margins", "moments", "descent", "minibatch", "neighbors", "kernel"}
        How it is fitted. ``"plain"``, for any classifier: in memory, once for each setting. ``"warm"``: each
        setting starts from the previous solution while parameters are chosen. The others are for specific
        classifiers: all classes together, from sums of squares, by passes over blocks, by steps over
        minibatches, by one search for neighbours, and by one kernel matrix.
    is_calibrated : bool
        Whether its probabilities are the softmax of its scores divided by a temperature even if the
        classifier computes probabilities.
    dtype : {"float32", "float64"}
        Type of the scaled features, for a solver that holds them in memory.

    Examples
    --------
    >>> from sklearn.naive_bayes import GaussianNB
    >>> from sklearn.pipeline import Pipeline
    >>> info = HeadInfo(
    ...     name="bayes",
    ...     summary="Gaussian naive Bayes",
    ...     make=lambda: Pipeline([("classifier", GaussianNB())]),
    ...     grid={"var_smoothing": (1e-1, 1e-3)},
    ...     settings=("var_smoothing",),
    ... )
    >>> import featstore
    >>> featstore.fit(table, head=info).name
    'bayes'
    """

    name: str
    summary: str
    make: Callable[[], Any]
    grid: Mapping[str, tuple[Any, ...]]
    settings: tuple[str, ...]
    solver: str = "plain"
    is_calibrated: bool = False
    dtype: str = "float32"
