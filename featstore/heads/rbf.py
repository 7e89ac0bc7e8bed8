"""The head ``rbf`` as a scikit-learn classifier."""

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.class_weight import compute_class_weight

from featstore.heads.data.blocks import ArrayTable, Rows
from featstore.heads.form_classifier import FormScores
from featstore.heads.forms.kernel import KernelForm
from featstore.heads.solvers.kernel import KernelTask, kernel_path

__all__ = ["RBFClassifier"]


class RBFClassifier(FormScores):
    """Kernel ridge classifier with a Gaussian kernel, on features that it scales itself, block by block."""

    # gamma: multiple of 1 / the mean squared distance. alpha: ridge, times the number of rows. landmarks:
    # None for the exact solution of up to 15,000 rows. block_dims: columns of each block; None for one block.

    def __init__(
        self,
        *,
        gamma: float = 1.0,
        alpha: float = 1e-4,
        landmarks: int | None = None,
        block_dims: tuple[int, ...] | None = None,
        class_weight: Any = None,
        random_state: int | None = None,
    ) -> None:
        self.gamma = gamma
        self.alpha = alpha
        self.landmarks = landmarks
        self.block_dims = block_dims
        self.class_weight = class_weight
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> Self:
        """Fit to features in memory."""
        rows = np.asarray(X)
        classes, codes = np.unique(np.asarray(y), return_inverse=True)
        task = KernelTask(
            X=Rows(ArrayTable(rows, self.block_dims), np.arange(len(rows)), name="X"),
            codes=codes,
            weights=compute_class_weight(self.class_weight, classes=classes, y=np.asarray(y))[codes],
            n_classes=len(classes),
            landmarks=self.landmarks,
            seed=self.random_state or 0,
        )
        [form] = kernel_path(task, [{"gamma": self.gamma, "alpha": self.alpha}])
        return self.take(form, classes)

    def take(self, form: KernelForm, classes: NDArray[Any]) -> Self:
        """Take over what was fitted."""
        self.form_, self.classes_, self.n_features_in_ = form, classes, form.feature_dim
        return self
