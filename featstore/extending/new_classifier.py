"""The classifier of the new classes behind a gate."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from featstore.errors import HeadError
from featstore.extending.samples import Samples
from featstore.heads.forms.fitted import fitted_form
from featstore.heads.forms.kernel import KernelForm
from featstore.heads.forms.linear import LinearForm, linear_form
from featstore.heads.forms.network import NetworkForm
from featstore.heads.head import Head

__all__ = ["NewClassifier"]

# Only the form is used: it need not match scikit-learn to the last digit.
_TOLERANCE = 1e-2


@dataclass(frozen=True, kw_only=True)
class NewClassifier:
    """A head of the new classes, fitted again on some of their images with the parameters chosen."""

    alone: Head | None  # fitted on all new images; None for a single class, which needs none
    known: Sequence[str]
    n_new: int
    dims: Sequence[int]  # columns of each space

    @property
    def temperature(self) -> float:
        """Divisor of its scores."""
        return 1.0 if self.alone is None else self.alone.temperature or 1.0

    def fit(self, samples: Samples) -> LinearForm | KernelForm | NetworkForm:
        """Return the form that is fitted on some images."""
        dim = samples.X.shape[1]
        if self.alone is None:
            return LinearForm(coef=np.zeros((1, dim)), intercept=np.zeros(1))
        form = self.alone.form
        # With a sample of the images, the head has seen all of them.
        if len(samples) != self.n_new or not isinstance(form, LinearForm | KernelForm | NetworkForm):
            form = self._fitted_again(samples)
        return form

    def _fitted_again(self, samples: Samples) -> LinearForm | KernelForm | NetworkForm:
        from sklearn.base import clone

        assert self.alone is not None
        estimator = clone(self.alone.estimator)
        blocks = [name for name in estimator.get_params() if name.endswith("block_dims")]
        estimator.set_params(**dict.fromkeys(blocks, tuple(self.dims)))
        estimator.fit(samples.X, np.array(self.known)[samples.y])
        dim = samples.X.shape[1]
        linear = linear_form(estimator, feature_dim=dim, is_calibrated=True, tolerance=_TOLERANCE)
        form = linear or fitted_form(estimator, feature_dim=dim, is_calibrated=True)
        if not isinstance(form, LinearForm | KernelForm | NetworkForm):
            raise HeadError(
                f"the head {self.alone.name} cannot stand behind a gate, or these features hardly vary; use "
                "a linear head, rbf or mlp"
            )
        return form
