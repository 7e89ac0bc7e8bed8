"""Extension method with a gate between old and new classes."""

from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from featstore.extending.naming import Naming
from featstore.extending.samples import Samples
from featstore.heads.forms.gated import GatedForm, evidence, unit_rows
from featstore.heads.forms.kernel import KernelForm
from featstore.heads.forms.linear import LinearForm
from featstore.heads.forms.network import NetworkForm

__all__ = ["Gate"]

# Without old images, per standard deviation of the inputs on new images. With old images, logistic regression
# finds 1.6 and -0.7 for flowers against ImageNet (MobileNetV2). Dividing by the deviation makes weights
# comparable between features: cosines of scattering coefficients differ in the fourth digit.
_DEFAULT_WEIGHTS = (2.0, -1.0, 0.0)

# Inverse regularisation strength. On flowers against ImageNet, larger values get fewer new images right at
# the same loss of old ones; on digits, and flowers against flowers, there is no difference.
_C = 0.05


@dataclass(frozen=True, kw_only=True, eq=False)
class Gate:
    """The method ``gate``: the old head, a classifier of the new classes, and a gate between them."""

    form: GatedForm
    old_classes: NDArray[np.intp]  # class of each score of :meth:`sides`
    new_classes: NDArray[np.intp]

    def sides(self, X: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the scores of the old and of the new classes."""
        return self.form.sides(X)

    def with_offset(self, offset: float) -> GatedForm:
        """Return the form with an offset to the new scores."""
        return replace(self.form, offset=self.form.offset + np.float64(offset))

    @classmethod
    def fit(
        cls,
        old: LinearForm | GatedForm | KernelForm | NetworkForm,
        new: LinearForm | KernelForm | NetworkForm,
        new_samples: Samples,
        old_samples: Samples,
        *,
        naming: Naming,
        temperatures: tuple[float, float],
        old_columns: NDArray[np.int64] | None = None,
    ) -> Self:
        """Fit a gate to images that the old head was not fitted on; others are used as neighbours only."""
        # Its inputs are an image's mean cosine to the nearest new training images, the largest old score and,
        # with old images, the mean cosine to the nearest of them. With old images, a class-balanced logistic
        # regression finds the weights; each image's own row is skipped. Without, the inputs are standardised
        # on the new training images, and cosines weigh twice as much as old scores.
        # Only the new classifier sees more than the old head does: further layers in the gate brought less
        # than half a point for flowers against ImageNet.
        seen_new, seen_old = (
            samples.X if old_columns is None else samples.X[:, old_columns]
            for samples in (new_samples, old_samples)
        )
        bank, old_bank = unit_rows(seen_new), unit_rows(seen_old)
        own = np.arange(len(new_samples))
        of_new = evidence(seen_new, old.scores(seen_new), bank, old_bank, own=(own, None))
        is_fair = np.flatnonzero(old_samples.folds >= 0)
        if len(is_fair):
            fair = seen_old[is_fair]
            of_old = evidence(fair, old.scores(fair), bank, old_bank, own=(None, is_fair))
            weights, offset = _logistic(of_new, of_old)
        else:
            weights = np.array(_DEFAULT_WEIGHTS) / _scale(of_new)
            offset = -float(of_new.mean(axis=0) @ weights)
        form = GatedForm(
            old=old,
            new=new,
            temperatures=np.array(temperatures, np.float64),
            weights=weights,
            offset=np.array(offset, np.float64),
            neighbors=bank,
            old_neighbors=old_bank,
            members=_members(naming),
            old_columns=old_columns,
        )
        return cls(form=form, old_classes=naming.old, new_classes=naming.new)


def _logistic(of_new: NDArray[np.float64], of_old: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    from sklearn.linear_model import LogisticRegression

    rows = np.concatenate([of_new, of_old])
    is_new = np.repeat([True, False], [len(of_new), len(of_old)])
    mean, scale = rows.mean(axis=0), _scale(rows)
    fitted: Any = LogisticRegression(C=_C, class_weight="balanced").fit((rows - mean) / scale, is_new)
    weights = np.asarray(fitted.coef_[0], np.float64) / scale
    return weights, float(fitted.intercept_[0] - mean @ weights)


def _scale(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    deviation = rows.std(axis=0)
    return np.where(deviation > 0, deviation, 1.0)


def _members(naming: Naming) -> NDArray[np.int64]:
    """Return each class's columns among the old scores followed by the new ones, -1 for none."""
    of_class = np.concatenate([naming.old, naming.new])
    by_class = np.argsort(of_class, kind="stable")
    starts = np.searchsorted(of_class[by_class], np.arange(len(naming.classes)))
    rank = np.arange(len(of_class)) - starts[of_class[by_class]]
    members = np.full((len(naming.classes), int(rank.max()) + 1), -1, np.int64)
    members[of_class[by_class], rank] = by_class
    return members
