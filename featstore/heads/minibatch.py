"""The heads ``softmax`` and ``mlp`` as a scikit-learn classifier."""

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.class_weight import compute_class_weight

from featstore.heads.calibration import softmax
from featstore.heads.data.blocks import ArrayTable, Rows
from featstore.heads.form_classifier import FormScores
from featstore.heads.forms.linear import LinearForm
from featstore.heads.forms.network import NetworkForm
from featstore.heads.solvers.minibatch import Minibatch, train

__all__ = ["MinibatchClassifier"]


class MinibatchClassifier(FormScores):
    """Softmax regression by minibatches, of standardised features, directly or of a hidden layer."""

    # The parameters are those of Minibatch; hidden_units=None is softmax regression.

    def __init__(
        self,
        *,
        alpha: float = 0.0,
        optimizer: str = "adam",
        learning_rate: float | None = None,
        momentum: float = 0.9,
        batch_size: int | None = None,
        epochs: int | None = None,
        steps: int | None = None,
        eval_steps: int | None = None,
        patience: int | None = 5,
        hidden_units: int | None = None,
        class_weight: Any = None,
        random_state: int | None = None,
    ) -> None:
        self.alpha = alpha
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.momentum = momentum
        self.batch_size = batch_size
        self.epochs = epochs
        self.steps = steps
        self.eval_steps = eval_steps
        self.patience = patience
        self.hidden_units = hidden_units
        self.class_weight = class_weight
        self.random_state = random_state

    @property
    def options(self) -> Minibatch:
        """The parameters, checked."""
        own = self.get_params(deep=False)
        return Minibatch(**{name: own[name] for name in own if name not in ("class_weight", "random_state")})

    def fit(self, X: Any, y: Any) -> Self:
        """Fit to features in memory, without early stopping."""
        rows = np.asarray(X)
        classes, codes = np.unique(np.asarray(y), return_inverse=True)
        trained = train(
            Rows(ArrayTable(rows), np.arange(len(rows)), name="X"),
            codes,
            len(classes),
            compute_class_weight(self.class_weight, classes=classes, y=np.asarray(y))[codes],
            self.options,
            prepare=lambda block: block,
            seed=self.random_state or 0,
        )
        return self.take(trained.form, classes)

    def take(self, form: LinearForm | NetworkForm, classes: NDArray[Any]) -> Self:
        """Take over what was fitted."""
        self.form_, self.classes_, self.n_features_in_ = form, classes, form.feature_dim
        return self

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Return probabilities of shape (n, n_classes)."""
        return softmax(self._scores(X))
