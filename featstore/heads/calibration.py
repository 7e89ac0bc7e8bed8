"""From a classifier's decisions to probabilities."""

import logging
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.errors import HeadError
from featstore.stats.metrics import log_loss

__all__ = [
    "class_scores",
    "fit_temperature",
    "helpful_temperature",
    "is_nearest_centroid",
    "log_probabilities",
    "mean_over_views",
    "smoothed_votes",
    "softmax",
]

_logger = logging.getLogger(__name__)

_N_PARTS = 5


def fit_temperature(
    scores: NDArray[Any], labels: NDArray[np.str_], classes: NDArray[np.str_], *, n_views: int = 1
) -> float:
    """Find what to divide a classifier's scores by, so that their softmax is a probability.

    Temperature scaling (Guo et al., ICML 2017, section 4.2): the temperature with the least cross entropy on
    images that the classifier was not fitted on; of several views of an image, that of the mean of their
    probabilities. It changes no prediction, but where there are such views. Where every label there is
    predicted there is no such temperature (the smaller, the better); so each label counts as one drawn at
    random with the chance 1 / (n + 1), in the manner of Platt's targets (Advances in Large Margin
    Classifiers, 1999, section 2.2).

    Parameters
    ----------
    scores : ndarray of shape (n * n_views, n_classes), float
        One for each class, image by image; ``n`` may be 0, which gives 1 and a warning in the log.
    labels : ndarray of shape (n,), str
    classes : ndarray of shape (n_classes,), str
        Sorted.
    n_views : int
        Rows of each image.

    Returns
    -------
    float
        Above 0.

    Raises
    ------
    HeadError
        There is not one score for each class.
    """
    from scipy.optimize import minimize_scalar

    if not len(labels):
        _logger.warning("no labelled image is held out: the probabilities are not calibrated")
        return 1.0
    if scores.shape[1] != len(classes):
        raise HeadError(
            f"the classifier gives {scores.shape[1]} decisions for {len(classes)} classes; expected one each"
        )
    wide = np.asarray(scores, np.float64)
    chance = 1 / (len(labels) + 1)
    targets = np.full((len(labels), len(classes)), chance / len(classes))
    targets[np.arange(len(labels)), np.searchsorted(classes, labels)] += 1 - chance

    def cross_entropy(log_temperature: float) -> float:
        probabilities = mean_over_views(softmax(wide * np.exp(-log_temperature)), n_views)
        return -float((targets * np.log(np.maximum(probabilities, 1e-300))).sum())

    return float(np.exp(minimize_scalar(cross_entropy, bounds=(-10.0, 10.0), method="bounded").x))


def helpful_temperature(
    scores: NDArray[Any], labels: NDArray[np.str_], classes: NDArray[np.str_], *, n_views: int = 1
) -> float | None:
    """Return the temperature of scores whose softmax are probabilities already, if it betters these.

    That is told by the cross entropy of each fifth of the images under the temperature of the other four.

    Parameters
    ----------
    scores, labels, classes, n_views
        As for :func:`fit_temperature`.

    Returns
    -------
    float or None
        None where the probabilities are better as they are, or the images are fewer than 10.
    """
    n = len(labels)
    if n < 2 * _N_PARTS:
        return None
    y = np.searchsorted(classes, labels)
    part_of = np.arange(n) % _N_PARTS
    gain = 0.0
    for part in range(_N_PARTS):
        is_out = part_of == part
        rows = np.repeat(is_out, n_views)
        temperature = fit_temperature(scores[~rows], labels[~is_out], classes, n_views=n_views)
        as_is, divided = (
            log_loss(mean_over_views(softmax(scores[rows] / by), n_views), y[is_out])
            for by in (1.0, temperature)
        )
        gain += (as_is - divided) * int(is_out.sum())
    return fit_temperature(scores, labels, classes, n_views=n_views) if gain > 0 else None


def class_scores(estimator: Any, X: NDArray[Any]) -> NDArray[np.float64]:
    """Return a fitted classifier's scores, one column for each class; the largest is the prediction.

    - A nearest centroid ``m``, of rows ``x``: ``x . m - |m|^2 / 2``, which is minus half the squared distance
      but for a term common to all classes. (scikit-learn's own decisions are those of another classifier
      than its predictions: they divide by each feature's deviation.)
    - Nearest neighbours: the logarithm of :func:`smoothed_votes`.
    - Else its decisions; a binary decision ``d`` becomes the columns ``(0, d)``, whose softmax is the
      logistic function of ``d``. Where it has only probabilities, their logarithms.

    Parameters
    ----------
    estimator : Any
        A fitted classifier, or a ``Pipeline`` that ends in one.
    X : ndarray of shape (n, feature_dim), float

    Returns
    -------
    ndarray of shape (n, n_classes), float64
    """
    steps = getattr(estimator, "steps", [("", estimator)])
    classifier = steps[-1][1]
    if is_nearest_centroid(classifier):
        prepared = np.asarray(X if len(steps) == 1 else estimator[:-1].transform(X), np.float64)
        centroids = np.asarray(classifier.centroids_, np.float64)
        return np.asarray(prepared @ centroids.T - (centroids**2).sum(axis=1) / 2)
    if type(classifier).__name__ == "KNeighborsClassifier":
        return smoothed_votes(estimator.predict_proba(X), classifier.n_neighbors)
    if not hasattr(estimator, "decision_function"):
        return log_probabilities(estimator, X)
    decision = np.asarray(estimator.decision_function(X), dtype=np.float64)
    return np.column_stack([np.zeros_like(decision), decision]) if decision.ndim == 1 else decision


def log_probabilities(estimator: Any, X: NDArray[Any]) -> NDArray[np.float64]:
    """Return the logarithms of a classifier's own probabilities: scores whose softmax they are."""
    probabilities = np.asarray(estimator.predict_proba(X), np.float64)
    return np.asarray(np.log(np.maximum(probabilities, 1e-300)), np.float64)


def is_nearest_centroid(classifier: Any) -> bool:
    """Say whether a classifier predicts the class whose centroid is nearest, whatever their shares."""
    return type(classifier).__name__ == "NearestCentroid" and (
        (classifier.metric, classifier.priors) == ("euclidean", "uniform")
    )


def smoothed_votes(shares: NDArray[Any], n_neighbors: int) -> NDArray[np.float64]:
    """Return the logarithm of each class's share of the votes, with one vote more that all classes share.

    ``log((share * n_neighbors + 1 / n_classes) / (n_neighbors + 1))``: Lidstone's rule with the weight of one
    vote (Transactions of the Faculty of Actuaries 8, 1920, p. 182), so that no class is impossible because no
    neighbour has it.

    Parameters
    ----------
    shares : ndarray of shape (n, n_classes), float
        In [0, 1], each row with the sum 1.
    n_neighbors : int
    """
    votes = np.asarray(shares, np.float64) * n_neighbors
    return np.asarray(np.log((votes + 1 / votes.shape[1]) / (n_neighbors + 1)), np.float64)


def mean_over_views(probabilities: NDArray[Any], n_views: int) -> NDArray[np.float64]:
    """Return the mean of the probabilities of each image's views.

    Parameters
    ----------
    probabilities : ndarray of shape (n * n_views, n_classes), float
        Image by image.
    n_views : int

    Returns
    -------
    ndarray of shape (n, n_classes), float64
    """
    if n_views == 1:
        return np.asarray(probabilities, np.float64)
    each = probabilities.reshape(-1, n_views, probabilities.shape[1])
    return np.asarray(each.mean(axis=1), np.float64)


def softmax(scores: NDArray[Any]) -> NDArray[np.float64]:
    """Return each row's exponentials divided by their sum."""
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), dtype=np.float64)
