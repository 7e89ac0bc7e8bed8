"""scikit-learn's classifiers of forms that no scikit-learn fitted."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.heads.calibration import softmax
from featstore.heads.gated import GatedForm
from featstore.heads.linear import LinearForm

__all__ = ["FormClassifier", "form_estimator"]


def form_estimator(form: LinearForm | GatedForm, classes: NDArray[np.str_], temperature: float | None) -> Any:
    """Return a classifier with a form's scores, as if it had been fitted.

    Parameters
    ----------
    form : LinearForm or GatedForm
    classes : ndarray of shape (n_classes,), str
    temperature : float or None
        What a gated form's scores are divided by before the softmax.

    Returns
    -------
    LogisticRegression, Pipeline or FormClassifier
    """
    if isinstance(form, GatedForm):
        return FormClassifier(form, classes, temperature)
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import Normalizer, StandardScaler

    coef, intercept = form.coef, form.intercept
    if len(classes) == 2:
        coef, intercept = coef[1:] - coef[:1], intercept[1:] - intercept[:1]
    classifier: Any = LogisticRegression()
    classifier.coef_, classifier.intercept_ = coef, intercept
    classifier.classes_, classifier.n_features_in_ = classes, form.feature_dim
    if form.mean is None or form.scale is None:
        return classifier
    scaler: Any = StandardScaler()
    scaler.mean_, scaler.scale_, scaler.var_ = form.mean, form.scale, form.scale**2
    scaler.n_features_in_, scaler.n_samples_seen_ = form.feature_dim, 1
    return Pipeline([("scale", scaler), ("normalize", Normalizer()), ("classify", classifier)])


class FormClassifier:
    """A fitted classifier in scikit-learn's manner, which computes with a form; it cannot be fitted again.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,), str
    n_features_in_ : int
    """

    def __init__(
        self, form: LinearForm | GatedForm, classes: NDArray[np.str_], temperature: float | None
    ) -> None:
        self.form = form
        self.classes_ = classes
        self.n_features_in_ = form.feature_dim
        self.temperature = temperature

    def decision_function(self, X: Any) -> NDArray[np.float64]:
        """Give each class's score: shape (n, n_classes)."""
        return self.form.scores(np.asarray(X))

    def predict(self, X: Any) -> NDArray[np.str_]:
        """Give the labels with the largest scores: shape (n,)."""
        return np.asarray(self.classes_[self.decision_function(X).argmax(axis=1)], np.str_)

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Give each class's probability: shape (n, n_classes)."""
        return softmax(self.decision_function(X) / (self.temperature or 1.0))

    def score(self, X: Any, y: Any) -> float:
        """Give the accuracy."""
        return float((self.predict(X) == np.asarray(y)).mean())
