"""What is measured of each setting that a sweep tries, beside the accuracy that it is chosen by."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.heads.calibration import class_scores, fit_temperature, softmax
from featstore.heads.metrics import log_loss

__all__ = ["sweep_scores"]


def sweep_scores(
    classifier: Any,
    X_train: NDArray[Any],
    y_train: NDArray[np.str_],
    X_validation: NDArray[Any],
    y_validation: NDArray[np.str_],
) -> dict[str, float]:
    """Measure a fitted classifier on what it was fitted on, and its probabilities on the validation split.

    Parameters
    ----------
    classifier : Any
        With ``predict``, and with ``predict_proba`` or ``decision_function``; decisions are turned into
        probabilities as :func:`featstore.fit` does.
    X_train, X_validation : ndarray of shape (n, feature_dim), float
        Neither is empty.
    y_train, y_validation : ndarray of shape (n,), str

    Returns
    -------
    dict
        ``train_top1``, the accuracy on the training split in [0, 1], and ``cross_entropy``, in nats on the
        validation split, at least 0.
    """
    classes = np.asarray(classifier.classes_)
    if hasattr(classifier, "predict_proba"):
        probabilities = np.asarray(classifier.predict_proba(X_validation), dtype=np.float64)
    else:
        temperature = fit_temperature(classifier, X_validation, y_validation, classes)
        probabilities = softmax(class_scores(classifier, X_validation) / temperature)
    return {
        "train_top1": float((classifier.predict(X_train) == y_train).mean()),
        "cross_entropy": log_loss(probabilities, np.searchsorted(classes, y_validation)),
    }
