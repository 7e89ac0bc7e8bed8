"""Checks of stored classifiers: the attributes that are read of each, and their consistency."""

import itertools
from typing import Any

import numpy as np

from featstore.heads.files.estimators.parts import Parts, is_number

__all__ = [
    "check_bernoulli",
    "check_centroids",
    "check_dummy",
    "check_gaussian",
    "check_lda",
    "check_linear",
    "check_multinomial",
    "check_neighbors",
    "check_network",
    "check_qda",
    "check_ridge",
]

_METRICS = ("chebyshev", "cityblock", "cosine", "euclidean", "l1", "l2", "manhattan", "minkowski")


def check_linear(parts: Parts) -> int:
    """Check a classifier with coefficients and intercepts."""
    parts.labels()
    coef = parts.stored.values.get("coef_")
    is_one_row = parts.n_rows == 1 and isinstance(coef, np.ndarray) and coef.ndim == 1
    parts.array("coef_", *([] if is_one_row else [parts.n_rows]), parts.width)
    parts.intercepts("intercept_", parts.n_rows)
    return len(parts.classes)


def check_ridge(parts: Parts) -> int:
    """Check a ``RidgeClassifier``."""
    parts.fitted["_label_binarizer"] = _label_binarizer(parts, neg_label=-1)
    return check_linear(parts)


def check_lda(parts: Parts) -> int:
    """Check a ``LinearDiscriminantAnalysis``."""
    n_classes = check_linear(parts)
    parts.params["covariance_estimator"] = None
    for name, shape in (("priors_", (n_classes,)), ("means_", (n_classes, parts.width))):
        parts.optional(name, *shape)
    return n_classes


def check_qda(parts: Parts) -> int:
    """Check a ``QuadraticDiscriminantAnalysis``."""
    n_classes = len(parts.classes)
    parts.labels()
    parts.array("means_", n_classes, parts.width)
    parts.array("priors_", n_classes, above=0.0)
    rotations = parts.arrays("rotations_", [(parts.width, None)] * n_classes)
    parts.arrays("scalings_", [(rotation.shape[1],) for rotation in rotations], above=0.0)
    return n_classes


def check_neighbors(parts: Parts) -> int:
    """Check a ``KNeighborsClassifier`` that searches by brute force."""
    values = parts.stored.values
    if values.get("_fit_method") != "brute" or values.get("_tree") is not None:
        raise parts.wrong("a search tree, which is not read; fit it with algorithm='brute'")
    parts.labels()
    rows = parts.array("_fit_X", None, parts.width)
    codes = values.get("_y")
    if not isinstance(codes, np.ndarray) or codes.dtype.kind not in "iu" or codes.shape != (len(rows),):
        raise parts.wrong("not one class for each of its rows")
    if codes.min() < 0 or codes.max() >= len(parts.classes):
        raise parts.wrong("rows of classes that there are not")
    parts.one_of("weights", ("uniform", "distance", None))
    n_neighbors = parts.params.get("n_neighbors")
    if type(n_neighbors) is not int or not 1 <= n_neighbors <= len(rows):
        raise parts.wrong(f"{len(rows)} rows and n_neighbors={str(n_neighbors)[:80]}")
    metric, given = values.get("effective_metric_"), values.get("effective_metric_params_")
    power = given.get("p") if isinstance(given, dict) and metric == "minkowski" else None
    if metric not in _METRICS or parts.params.get("metric_params"):
        raise parts.wrong(f"the metric {str(metric)[:80]!r}, which is not read")
    if metric == "minkowski" and (power is None or not is_number(power) or power < 1):
        raise parts.wrong(f"the power {str(power)[:80]} of a metric, which is not read")
    parts.one_of("metric", _METRICS)
    parts.params["algorithm"] = "brute"
    parts.fitted |= {
        "_fit_X": np.ascontiguousarray(rows),
        "_y": codes.astype(np.intp),
        "_fit_method": "brute",
        "_tree": None,
        "effective_metric_": metric,
        "effective_metric_params_": {} if power is None else {"p": power, "w": None},
        "n_samples_fit_": len(rows),
        "outputs_2d_": False,
    }
    return len(parts.classes)


def check_centroids(parts: Parts) -> int:
    """Check a ``NearestCentroid``."""
    n_classes = len(parts.classes)
    parts.labels()
    parts.one_of("metric", ("euclidean", "manhattan"))
    parts.array("centroids_", n_classes, parts.width)
    parts.optional("class_prior_", n_classes, above=0.0)
    parts.optional("within_class_std_dev_", parts.width)
    parts.optional("deviations_", n_classes, parts.width)
    return n_classes


def check_gaussian(parts: Parts) -> int:
    """Check a ``GaussianNB``."""
    n_classes = len(parts.classes)
    parts.labels()
    parts.array("theta_", n_classes, parts.width)
    parts.array("var_", n_classes, parts.width, above=0.0)
    parts.array("class_prior_", n_classes)
    parts.optional("class_count_", n_classes)
    return n_classes


def check_multinomial(parts: Parts) -> int:
    """Check a ``MultinomialNB`` or ``ComplementNB``."""
    n_classes = len(parts.classes)
    parts.labels()
    parts.array("feature_log_prob_", n_classes, parts.width)
    parts.array("class_log_prior_", n_classes)
    return n_classes


def check_bernoulli(parts: Parts) -> int:
    """Check a ``BernoulliNB``."""
    n_classes = check_multinomial(parts)
    if not (parts.fitted["feature_log_prob_"] < 0).all():
        raise parts.wrong("a feature_log_prob_ that is not below 0")
    threshold = parts.params.get("binarize")
    if threshold is not None and not is_number(threshold):
        raise parts.wrong("a threshold that is no number")
    return n_classes


def check_network(parts: Parts) -> int:
    """Check an ``MLPClassifier``, whose layers must fit each other."""
    parts.labels()
    found = parts.stored.values.get("coefs_")
    if not isinstance(found, list) or not found:
        raise parts.wrong("no layers")
    widths = [parts.width, *(_columns(layer) for layer in found[:-1]), parts.n_rows]
    parts.arrays("coefs_", list(itertools.pairwise(widths)))
    parts.arrays("intercepts_", [(width,) for width in widths[1:]])
    parts.one_of("activation", ("identity", "logistic", "tanh", "relu"))
    parts.fitted |= {
        "_label_binarizer": _label_binarizer(parts),
        "n_layers_": len(widths),
        "n_outputs_": parts.n_rows,
        "out_activation_": "logistic" if parts.n_rows == 1 else "softmax",
    }
    return len(parts.classes)


def _columns(layer: Any) -> int | None:
    return layer.shape[1] if isinstance(layer, np.ndarray) and layer.ndim == 2 else None


def check_dummy(parts: Parts) -> int:
    """Check a ``DummyClassifier`` with a constant prediction."""
    n_classes = len(parts.classes)
    parts.labels()
    strategy = parts.one_of("strategy", ("prior", "most_frequent"))
    parts.array("class_prior_", n_classes)
    parts.fitted |= {"_strategy": strategy, "n_classes_": n_classes, "n_outputs_": 1, "sparse_output_": False}
    return n_classes


def _label_binarizer(parts: Parts, **params: Any) -> Any:
    """Return the label binarizer, which the classes determine."""
    from sklearn.preprocessing import LabelBinarizer

    return LabelBinarizer(**params).fit(parts.classes)
