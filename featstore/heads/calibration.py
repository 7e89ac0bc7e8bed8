"""Calibration: from a classifier's decisions to probabilities."""

import logging
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.errors import HeadError
from featstore.heads.fit_warnings import warn
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

_N_FOLDS = 5


def fit_temperature(
    scores: NDArray[Any], labels: NDArray[np.str_], classes: NDArray[np.str_], *, n_views: int = 1
) -> float:
    """Fit the temperature that calibrates the softmax of scores of held-out images."""
    # Temperature scaling (Guo et al., ICML 2017, section 4.2) by cross entropy; with several views of an
    # image, that of their mean probabilities. If every label is predicted, ever smaller temperatures are
    # better; each label is therefore smoothed with weight 1 / (n + 1), in the manner of Platt's targets
    # (Advances in Large Margin Classifiers, 1999, section 2.2). Scores have shape (n * n_views, n_classes),
    # image by image; classes are sorted.
    from scipy.optimize import minimize_scalar

    if not len(labels):
        warn(_logger, "no labelled image is held out: probabilities are not calibrated")
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
    """Return a temperature for scores that are calibrated already, or None if it does not help."""
    # It helps if it lowers the cross entropy in cross-validation over fifths of the images; with fewer than
    # 10 images it is None.
    n = len(labels)
    if n < 2 * _N_FOLDS:
        return None
    y = np.searchsorted(classes, labels)
    fold_of = np.arange(n) % _N_FOLDS
    gain = 0.0
    for fold in range(_N_FOLDS):
        is_out = fold_of == fold
        rows = np.repeat(is_out, n_views)
        temperature = fit_temperature(scores[~rows], labels[~is_out], classes, n_views=n_views)
        as_is, divided = (
            log_loss(mean_over_views(softmax(scores[rows] / by), n_views), y[is_out])
            for by in (1.0, temperature)
        )
        gain += (as_is - divided) * int(is_out.sum())
    return fit_temperature(scores, labels, classes, n_views=n_views) if gain > 0 else None


def class_scores(estimator: Any, X: NDArray[Any]) -> NDArray[np.float64]:
    """Return a fitted classifier's scores, float64 of shape (n, n_classes); the largest is the prediction."""
    # - Nearest centroids: x . m - |m|^2 / 2, minus half the squared distance up to a term common to all
    # classes. (scikit-learn's own decisions divide by each feature's deviation and differ from its
    # predictions.) - Nearest neighbours: the logarithm of smoothed_votes. - Otherwise decisions; a binary
    # decision d becomes the columns (0, d), whose softmax is its logistic function. Without decisions, the
    # logarithms of probabilities.
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
    """Return the logarithms of a classifier's own probabilities."""
    probabilities = np.asarray(estimator.predict_proba(X), np.float64)
    return np.asarray(np.log(np.maximum(probabilities, 1e-300)), np.float64)


def is_nearest_centroid(classifier: Any) -> bool:
    """Return whether a classifier predicts the class of the nearest centroid, regardless of priors."""
    return type(classifier).__name__ == "NearestCentroid" and (
        (classifier.metric, classifier.priors) == ("euclidean", "uniform")
    )


def smoothed_votes(shares: NDArray[Any], n_neighbors: int) -> NDArray[np.float64]:
    """Return the logarithm of each class's smoothed share of votes, given shares in [0, 1]."""
    # Lidstone's rule with the weight of one vote (Transactions of the Faculty of Actuaries 8, 1920, p. 182):
    # log((share * n_neighbors + 1 / n_classes) / (n_neighbors + 1)), so that no class is impossible.
    votes = np.asarray(shares, np.float64) * n_neighbors
    return np.asarray(np.log((votes + 1 / votes.shape[1]) / (n_neighbors + 1)), np.float64)


def mean_over_views(probabilities: NDArray[Any], n_views: int) -> NDArray[np.float64]:
    """Average probabilities, of shape (n * n_views, n_classes) image by image, over each image's views."""
    if n_views == 1:
        return np.asarray(probabilities, np.float64)
    each = probabilities.reshape(-1, n_views, probabilities.shape[1])
    return np.asarray(each.mean(axis=1), np.float64)


def softmax(scores: NDArray[Any]) -> NDArray[np.float64]:
    """Return the softmax of each row."""
    # The same bits as scipy.special.softmax, without importing SciPy to predict.
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), dtype=np.float64)
