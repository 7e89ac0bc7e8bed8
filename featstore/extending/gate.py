"""A gate between the old classes and the new ones."""

from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from featstore.extending.naming import Naming
from featstore.extending.photos import Photos
from featstore.heads.forms.gated import GatedForm, evidence, unit_rows
from featstore.heads.forms.linear import LinearForm

__all__ = ["Gate"]

# Without old images: per standard deviation of the new images' evidence. With, logistic regression finds
# 1.6 and -0.7 for photos of flowers against ImageNet's classes (MobileNetV2); on other features it is the
# deviation that makes weights comparable: cosines of scattering coefficients differ in the fourth digit.
_DEFAULT_WEIGHTS = (2.0, -1.0, 0.0)

# The inverse of the penalty. Larger ones get fewer new images right at the same loss of old ones, on flowers
# against ImageNet's classes; on digits and on flowers against flowers there is no difference.
_C = 0.05


@dataclass(frozen=True, kw_only=True, eq=False)
class Gate:
    """The method ``gate``: the old head as it is, a classifier of the new classes, and a gate between them.

    Parameters
    ----------
    form : GatedForm
    old_classes, new_classes : ndarray, int
        The class that each score of :meth:`sides` is of.
    """

    form: GatedForm
    old_classes: NDArray[np.intp]
    new_classes: NDArray[np.intp]

    def sides(self, X: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Give the scores of the old classes and of the new ones."""
        return self.form.sides(X)

    def with_offset(self, offset: float) -> GatedForm:
        """Return the form with something added to the new scores."""
        return replace(self.form, offset=self.form.offset + np.float64(offset))

    @classmethod
    def fit(
        cls,
        old: LinearForm | GatedForm,
        new: LinearForm,
        new_photos: Photos,
        old_photos: Photos,
        *,
        naming: Naming,
        temperatures: tuple[float, float],
    ) -> Self:
        """Fit a gate.

        It goes by an image's mean cosine to the nearest new training images, by the largest old score and,
        where there are old images, by the mean cosine to the nearest of them. With old images a logistic
        regression finds the weights, both sides counting alike; each image's own row is passed over. Without,
        the evidence is standardised by the new training images, and cosines count twice as much as old
        scores.

        Parameters
        ----------
        old : LinearForm or GatedForm
        new : LinearForm
            Fitted on the new images.
        new_photos, old_photos : Photos
            Of the second, perhaps none; those that the old head was fitted on are neighbours only.
        naming : Naming
        temperatures : tuple of float
            What the old and the new scores are divided by.
        """
        bank, old_bank = unit_rows(new_photos.X), unit_rows(old_photos.X)
        own = np.arange(len(new_photos))
        of_new = evidence(new_photos.X, old.scores(new_photos.X), bank, old_bank, own=(own, None))
        is_fair = np.flatnonzero(old_photos.folds >= 0)
        if len(is_fair):
            fair = old_photos.some(is_fair)
            of_old = evidence(fair.X, old.scores(fair.X), bank, old_bank, own=(None, is_fair))
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
    """Return for each class its columns among the old scores followed by the new ones, -1 for none."""
    of_class = np.concatenate([naming.old, naming.new])
    by_class = np.argsort(of_class, kind="stable")
    starts = np.searchsorted(of_class[by_class], np.arange(len(naming.classes)))
    rank = np.arange(len(of_class)) - starts[of_class[by_class]]
    members = np.full((len(naming.classes), int(rank.max()) + 1), -1, np.int64)
    members[of_class[by_class], rank] = by_class
    return members
