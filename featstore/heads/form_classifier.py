"""A scikit-learn classifier on top of a form."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin

from featstore.errors import HeadError
from featstore.heads.calibration import softmax
from featstore.heads.forms.gated import GatedForm
from featstore.heads.forms.kernel import KernelForm
from featstore.heads.forms.linear import LinearForm
from featstore.heads.forms.network import NetworkForm

__all__ = ["FormClassifier", "FormScores"]


class FormScores(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A classifier whose scores are those of its fitted form, ``form_``."""

    def decision_function(self, X: Any) -> NDArray[np.float64]:
        """Return scores of shape (n, n_classes); for two classes their difference, of shape (n,)."""
        scores = self._scores(X)
        return scores[:, 1] - scores[:, 0] if scores.shape[1] == 2 else scores

    def predict(self, X: Any) -> NDArray[Any]:
        """Return labels of shape (n,)."""
        return np.asarray(self.classes_[self._scores(X).argmax(axis=1)])

    def _scores(self, X: Any) -> NDArray[np.float64]:
        scores: NDArray[np.float64] = self.form_.scores(np.asarray(X))
        return scores


class FormClassifier(FormScores):
    """A fitted scikit-learn classifier that computes with a form; it cannot be fitted again."""

    def __init__(
        self,
        form: LinearForm | GatedForm | KernelForm | NetworkForm,
        classes: NDArray[np.str_],
        temperature: float | None = None,
    ) -> None:
        self.form = form
        self.classes = classes
        self.temperature = temperature

    @property
    def classes_(self) -> NDArray[np.str_]:
        """Labels, in the order of probability columns."""
        return np.asarray(self.classes)

    @property
    def n_features_in_(self) -> int:
        """Number of features of an image."""
        return self.form.feature_dim

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def fit(self, X: Any, y: Any = None) -> "FormClassifier":
        """Raise HeadError: the form is fitted already."""
        raise HeadError(
            "the estimator of an extended head, or of a kernel or mlp head from a file, cannot be fitted "
            "again; use featstore.extend or featstore.fit, or wrap it in sklearn.frozen.FrozenEstimator"
        )

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Return probabilities of shape (n, n_classes)."""
        return softmax(self._scores(X) / (self.temperature or 1.0))

    def _scores(self, X: Any) -> NDArray[np.float64]:
        return self.form.scores(np.asarray(X))
