"""What is known of a kind of head before one is fitted."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["HeadInfo"]


@dataclass(frozen=True, kw_only=True)
class HeadInfo:
    """A head that can be asked for by name.

    Parameters
    ----------
    name : str
        What ``fit`` calls it.
    summary : str
        One line: what it is and when to choose it.
    make : callable
        Returns a new, unfitted scikit-learn ``Pipeline``: the scaling that suits the classifier, then the
        classifier as the last step.
    grid : mapping of str to tuple
        The classifier's parameters that ``fit`` chooses, each with its values, the most regularised first.
        Empty where there is nothing to choose.
    settings : tuple of str
        All of the classifier's parameters that may be set, those of the grid among them.
    solver : {"plain", "warm", "margins", "moments", "descent", "neighbors"}
        How it is fitted. ``"plain"``, which does for any: in memory, once for each setting. ``"warm"``: each
        setting starts from the solution of the one before while it is chosen. The others are for certain
        classifiers: all classes together, from sums of squares, by passes over blocks, and by one search for
        neighbours.
    is_calibrated : bool
        Whether its probabilities are the softmax of its scores divided by a temperature even where the
        classifier has probabilities of its own.
    dtype : {"float32", "float64"}
        What the scaled features are kept in for a solver that has them in memory.
    """

    name: str
    summary: str
    make: Callable[[], Any]
    grid: Mapping[str, tuple[Any, ...]]
    settings: tuple[str, ...]
    solver: str = "plain"
    is_calibrated: bool = False
    dtype: str = "float32"
