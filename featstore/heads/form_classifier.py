"""A scikit-learn classifier that computes with a form."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin

from featstore.errors import HeadError
from featstore.heads.calibration import softmax
from featstore.heads.forms.gated import GatedForm
from featstore.heads.forms.linear import LinearForm

__all__ = ["FormClassifier"]


class FormClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A fitted classifier of scikit-learn's kind, whose scores are a form's. It cannot be fitted again.

    Parameters
    ----------
    form : LinearForm or GatedForm
    classes : ndarray of shape (n_classes,), str
    temperature : float or None
        What the scores are divided by before the softmax.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,), str
    n_features_in_ : int
    """

    def __init__(
        self, form: LinearForm | GatedForm, classes: NDArray[np.str_], temperature: float | None = None
    ) -> None:
        self.form = form
        self.classes = classes
        self.temperature = temperature

    @property
    def classes_(self) -> NDArray[np.str_]:
        """The labels, in the order of the columns of probabilities."""
        return np.asarray(self.classes)

    @property
    def n_features_in_(self) -> int:
        """The number of features of an image."""
        return self.form.feature_dim

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def fit(self, X: Any, y: Any = None) -> "FormClassifier":
        """Refuse: what was fitted is the form.

        Raises
        ------
        HeadError
        """
        raise HeadError(
            "an extended head's estimator is fitted and cannot be fitted again; use featstore.extend, "
            "or wrap it in sklearn.frozen.FrozenEstimator"
        )

    def decision_function(self, X: Any) -> NDArray[np.float64]:
        """Return each class's score.

        Returns
        -------
        ndarray of shape (n, n_classes), or (n,) for two classes, float64
            For two, what the second has more than the first.
        """
        scores = self._scores(X)
        return scores[:, 1] - scores[:, 0] if scores.shape[1] == 2 else scores

    def predict(self, X: Any) -> NDArray[np.str_]:
        """Return the labels with the largest scores: shape (n,)."""
        return np.asarray(self.classes_[self._scores(X).argmax(axis=1)], np.str_)

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Return each class's probability: shape (n, n_classes)."""
        return softmax(self._scores(X) / (self.temperature or 1.0))

    def _scores(self, X: Any) -> NDArray[np.float64]:
        return self.form.scores(np.asarray(X))
