"""Which labels are likely wrong, by what a head says of images that it was not trained on."""

import itertools
import logging
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featstore.errors import HeadError
from featstore.heads.calibration import class_scores, fit_temperature, softmax
from featstore.heads.head import usable_features
from featstore.heads.registry import find_head
from featstore.splits import HashKFold

if TYPE_CHECKING:
    from featstore.store.table import FeatureTable

__all__ = ["Suspect", "Suspects", "find_suspects"]

_logger = logging.getLogger(__name__)

# Multiplications in one pass over the features, below which one thread of the linear algebra is the fastest.
_ONE_THREAD_BELOW = 2 * 10**8


@dataclass(frozen=True, kw_only=True, slots=True)
class Suspect:
    """An image whose label is contradicted by a head that was not trained on it.

    Parameters
    ----------
    row : int
        Its row in the table.
    path : str
        Absolute.
    label : str
    suggested : str
        The most probable label.
    label_probability, probability : float
        Of the label and of the suggested one, in [0, 1].
    margin : float
        The first less the second, in [-1, 0): the lower, the more suspect.
    content_hash : str
        64 hexadecimal digits.
    """

    row: int
    path: str
    label: str
    suggested: str
    label_probability: float
    probability: float
    margin: float
    content_hash: str


@dataclass(frozen=True, kw_only=True)
class Suspects:
    """What :func:`find_suspects` found.

    Parameters
    ----------
    head : str
    params : dict
        The classifier's parameters that were fixed or chosen.
    folds : int
    n_images : int
        Labelled images that were judged.
    n_unjudged : int
        Labelled images that could not be: all images of their class are in one fold.
    top1 : float
        The fraction of the judged images whose label is predicted, in [0, 1].
    suspects : tuple of Suspect
        The others, the most suspect first.
    """

    head: str
    params: dict[str, Any]
    folds: int
    n_images: int
    n_unjudged: int
    top1: float
    suspects: tuple[Suspect, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values; these keys stay the same."""
        return {**self.__dict__, "suspects": [asdict(suspect) for suspect in self.suspects]}


def find_suspects(
    table: "FeatureTable",
    *,
    head: str = "logistic",
    params: Mapping[str, Any] | None = None,
    folds: int = 10,
    progress: Callable[[int, int], None] | None = None,
) -> Suspects:
    """Rank the images whose labels are likely wrong.

    The images are dealt into folds by a hash (:class:`featstore.HashKFold`), images of one group or with the
    same bytes into the same; each fold is judged by a head fitted on the others. An image is a suspect where
    another label than its own is the most probable. Suspects are ranked by the normalised margin,
    p(label) - max p(another label), of Northcutt, Jiang & Chuang (Confident learning, J. Artificial
    Intelligence Research 70, 2021, section 3.2); within one class that is what their "prune by noise rate"
    ranks by. A suspect is not a proven error: many are hard images with the right label.

    The head's parameters are chosen once and stay the same for all folds: those with the least cross entropy
    (for a head without probabilities: the fewest errors) on the first fold when fitted on the others. No
    image's label goes into the fit of the head that judges it. Nothing is drawn at random.

    Parameters
    ----------
    table : FeatureTable
        Images without a label are left out.
    head : str
        A name that :func:`featstore.known_heads` lists.
    params : mapping, optional
        Parameters to fix, such as ``{"C": 0.01}``.
    folds : int
        At least 2.
    progress : callable, optional
        Called as ``progress(done, total)`` with numbers of fits.

    Returns
    -------
    Suspects

    Raises
    ------
    UnknownHeadError
        No head has this name.
    HeadError
        There are fewer than two classes, or parameters or features are unfit.
    SplitError
        There are fewer than two folds, or one would be empty.

    Examples
    --------
    >>> table = featstore.FeatureStore("flowers.fstore").table()  # doctest: +SKIP
    >>> found = featstore.find_suspects(table)  # doctest: +SKIP
    >>> [(suspect.path, suspect.suggested) for suspect in found.suspects[:10]]  # doctest: +SKIP
    """
    from threadpoolctl import threadpool_limits

    labels = np.asarray(table.y)
    rows = np.flatnonzero(labels != "")
    classes, y = np.unique(labels[rows], return_inverse=True)
    if len(classes) < 2:
        raise HeadError(
            f"the catalog {table.catalog_name} has {len(classes)} classes; labels can be doubted where there "
            "are at least 2"
        )
    groups, hashes = np.asarray(table.groups)[rows], np.asarray(table.content_hash)
    parts = list(HashKFold(folds).split(rows, groups=np.where(groups == "", hashes[rows], groups)))
    settings = _settings(head, params or {})
    total = len(settings) + folds - 1
    work = len(rows) * table.X.shape[1] * len(classes)
    with threadpool_limits(1 if work < _ONE_THREAD_BELOW else None):
        judge = _Judge(table.X, rows, labels[rows], classes, head=head)
        chosen = judge.choose(settings, *parts[0], lambda done: progress and progress(done, total))
        probabilities = np.zeros((len(rows), len(classes)))
        for number, (train, test) in enumerate(parts):
            probabilities[test] = judge.probabilities(chosen, train, test)
            if progress is not None:
                progress(len(settings) + number, total)
    for note in sorted(judge.notes):
        _logger.warning("%s with %s: %s", head, chosen, note)
    own = probabilities[np.arange(len(rows)), y]
    judged = ~np.isnan(own)
    for train, test in parts:
        judged[test] &= np.isin(y[test], y[train])
    if not judged.any():
        raise HeadError(f"no class has images in two of {folds} folds; label more images")
    guess = probabilities.argmax(axis=1)
    best = probabilities.max(axis=1)
    margins = own - best
    doubted = np.flatnonzero(judged & (guess != y) & (margins < 0))
    paths = table.paths
    return Suspects(
        head=head,
        params=chosen,
        folds=folds,
        n_images=int(judged.sum()),
        n_unjudged=int((~judged).sum()),
        top1=1 - len(doubted) / int(judged.sum()),
        suspects=tuple(
            Suspect(
                row=int(rows[at]),
                path=str(paths[rows[at]]),
                label=str(classes[y[at]]),
                suggested=str(classes[guess[at]]),
                label_probability=float(own[at]),
                probability=float(best[at]),
                margin=float(margins[at]),
                content_hash=str(hashes[rows[at]]),
            )
            for at in doubted[np.argsort(margins[doubted], kind="stable")]
        ),
    )


def _settings(head: str, params: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what there is to choose from, the most regularised first."""
    info = find_head(head)
    if unknown := sorted(set(params) - set(info.settings)):
        raise HeadError(
            f"{info.name} has no parameter {', '.join(unknown)}; it has {', '.join(sorted(info.settings))}"
        )
    grid = {name: values for name, values in info.grid.items() if name not in params}
    return [
        dict(params) | dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())
    ]


class _Judge:
    """Fits a head on some rows and asks it about others."""

    def __init__(
        self,
        X: Any,
        rows: NDArray[np.intp],
        labels: NDArray[np.str_],
        classes: NDArray[np.str_],
        *,
        head: str,
    ) -> None:
        self._X, self._rows, self._labels, self._classes, self._head = X, rows, labels, classes, head
        self._temperature: float | None = None
        self._first: dict[str, Any] = {}
        self.notes: set[str] = set()

    def choose(
        self,
        settings: list[dict[str, Any]],
        train: NDArray[np.intp],
        test: NDArray[np.intp],
        told: Callable[[int], Any],
    ) -> dict[str, Any]:
        """Return the setting with the least loss on the rows ``test``, of equal ones the first."""
        X, X_test = self._features(train), self._features(test)
        least, chosen = np.inf, settings[0]
        for number, params in enumerate(settings):
            estimator, notes = self._fitted(params, X, train)
            loss = _loss(estimator, X_test, self._labels[test])
            if loss < least:
                least, chosen = loss, params
                self._first, self.notes = {"estimator": estimator, "train": train}, notes
            told(number + 1)
        estimator = self._first["estimator"]
        if not hasattr(estimator, "predict_proba"):
            known = np.isin(self._labels[test], estimator.classes_)
            self._temperature = fit_temperature(
                estimator, X_test[known], self._labels[test][known], estimator.classes_
            )
        return chosen

    def probabilities(
        self, params: dict[str, Any], train: NDArray[np.intp], test: NDArray[np.intp]
    ) -> NDArray[np.float64]:
        """Return each class's probability for the rows ``test``; 0 for one that ``train`` lacks."""
        if self._first.get("train") is train:
            estimator = self._first["estimator"]
        else:
            if len(np.unique(self._labels[train])) < 2:
                raise HeadError(
                    "without a fold only one class is left; use fewer folds, or label more images"
                )
            estimator, notes = self._fitted(params, self._features(train), train)
            self.notes |= notes
        X = self._features(test)
        told = (
            np.asarray(estimator.predict_proba(X), np.float64)
            if self._temperature is None
            else softmax(class_scores(estimator, X) / self._temperature)
        )
        all_classes = np.zeros((len(test), len(self._classes)))
        all_classes[:, np.searchsorted(self._classes, estimator.classes_)] = told
        return all_classes

    def _features(self, part: NDArray[np.intp]) -> NDArray[Any]:
        return usable_features(self._X[self._rows[part]])

    def _fitted(
        self, params: dict[str, Any], X: NDArray[Any], train: NDArray[np.intp]
    ) -> tuple[Any, set[str]]:
        estimator = find_head(self._head).make()
        try:
            estimator[-1].set_params(**params)
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                estimator.fit(X, self._labels[train])
        except (TypeError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise HeadError(f"{self._head} cannot be fitted: {reason}") from error
        return estimator, {str(entry.message).strip().splitlines()[0] for entry in caught}


def _loss(estimator: Any, X: NDArray[Any], labels: NDArray[np.str_]) -> float:
    """Return the cross entropy or, without probabilities, the share of errors."""
    if not hasattr(estimator, "predict_proba"):
        return float((estimator.predict(X) != labels).mean())
    known = np.isin(labels, estimator.classes_)
    columns = np.searchsorted(estimator.classes_, labels[known])
    own = np.asarray(estimator.predict_proba(X), np.float64)[np.flatnonzero(known), columns]
    return -float(np.log(np.maximum(own, np.finfo(np.float64).tiny)).sum())
