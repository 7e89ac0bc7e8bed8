"""The heads by name: what each is, when to choose it, and the grid that its parameters are chosen from.

Listing them imports no scikit-learn.
"""

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from featstore.errors import UnknownHeadError

__all__ = ["HeadInfo", "find_head", "known_heads"]


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
    settings : tuple of str
        All of the classifier's parameters that may be set, those of the grid among them.
    """

    name: str
    summary: str
    make: Callable[[], Any]
    grid: Mapping[str, tuple[Any, ...]]
    settings: tuple[str, ...]


def known_heads() -> tuple[HeadInfo, ...]:
    """List the heads, in the order of their names.

    Examples
    --------
    >>> [info.name for info in known_heads()]
    ['logistic', 'svm']
    """
    return tuple(_HEADS[name] for name in sorted(_HEADS))


def find_head(name: str) -> HeadInfo:
    """Look a head up by its name.

    Raises
    ------
    UnknownHeadError
        There is none of this name; the message lists those that there are.

    Examples
    --------
    >>> find_head("svm").grid["C"][:3]
    (0.01, 0.03, 0.1)
    """
    if name in _HEADS:
        return _HEADS[name]
    close = difflib.get_close_matches(name.lower(), _HEADS, n=2)
    hint = f"; did you mean {' or '.join(close)}?" if close else ""
    raise UnknownHeadError(f"there is no head {name!r}; the heads are {', '.join(sorted(_HEADS))}{hint}")


def _make_logistic() -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler

    return Pipeline([("scaler", StandardScaler()), ("classifier", LogisticRegression(max_iter=2000))])


def _make_svm() -> Any:
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import Normalizer, StandardScaler
    from sklearn.svm import LinearSVC

    # Standardised first: features with large means, such as logarithms, are otherwise nearly parallel once
    # they have unit length, and take a hundred times as long.
    classifier = LinearSVC(dual="auto", max_iter=10_000, random_state=0)
    return Pipeline([("scaler", StandardScaler()), ("normalizer", Normalizer()), ("classifier", classifier)])


_HEADS: Mapping[str, HeadInfo] = MappingProxyType(
    {
        info.name: info
        for info in (
            HeadInfo(
                name="logistic",
                summary="softmax regression on standardised features: the first to try",
                make=_make_logistic,
                grid={"C": (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)},
                settings=("C", "class_weight", "fit_intercept", "max_iter", "tol"),
            ),
            HeadInfo(
                name="svm",
                summary="linear support vector machine on standardised, unit-length features: for few images",
                make=_make_svm,
                grid={"C": (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)},
                settings=("C", "class_weight", "dual", "fit_intercept", "loss", "max_iter", "tol"),
            ),
        )
    }
)
