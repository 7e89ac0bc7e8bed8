"""Cross-validation of an extension: scores of each fold by a fit without it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.errors import HeadError
from featstore.extending.columns import Columns
from featstore.extending.gate import Gate
from featstore.extending.naming import Naming
from featstore.extending.offset import OffsetScores, choose_offset, offset_scores
from featstore.extending.samples import N_FOLDS, Samples
from featstore.heads.calibration import fit_temperature

__all__ = ["HeldOut", "Method", "class_scores", "hold_out"]

Method = Callable[[Samples, Samples], Gate | Columns]
"""Fits an extension on new and old images."""

_Sides = tuple[NDArray[np.float64], NDArray[np.float64]]


@dataclass(frozen=True, kw_only=True, eq=False)
class HeldOut:
    """Scores of held-out images."""

    new: OffsetScores
    old: OffsetScores | None  # None if the old head was fitted on all old images
    old_folds: NDArray[np.intp]  # (n_old,)
    sides: _Sides  # old and new scores, of new images followed by old ones
    side_classes: tuple[NDArray[np.intp], NDArray[np.intp]]

    @property
    def y(self) -> NDArray[np.intp]:
        """Classes of new images followed by old ones."""
        return self.new.y if self.old is None else np.concatenate([self.new.y, self.old.y])

    def scores(self, offset: float, n_classes: int) -> NDArray[np.float64]:
        """Return each class's score for new images followed by old ones, with an offset to the new scores."""
        old, new = self.sides
        return class_scores((old, new + offset), self.side_classes, n_classes)

    def temperature(self, offset: float, classes: NDArray[np.str_]) -> float:
        """Fit the temperature to new and old images together."""
        return fit_temperature(self.scores(offset, len(classes)), classes[self.y], classes)

    def old_predicted(self, offset: float, *, max_loss: float) -> NDArray[np.intp]:
        """Predict each fold of old images with an offset chosen without it."""
        if self.old is None:
            return np.empty(0, np.intp)
        predicted = self.old.predicted(offset)
        for fold in range(N_FOLDS):
            inside = self.old_folds == fold
            if inside.any() and not inside.all():
                chosen = choose_offset(self.new, self.old.subset(~inside), max_loss=max_loss)
                predicted[inside] = self.old.subset(inside).predicted(chosen)
        return predicted


def hold_out(fit: Method, new: Samples, old: Samples, naming: Naming) -> HeldOut:
    """Fit an extension without each fold in turn, and score the fold."""
    if not (new.folds >= 0).any():
        raise HeadError(
            f"every new class has images of one content or group only ({len(new)} images), so that none "
            "can be held out; add images"
        )
    parts: dict[str, list[tuple[_Sides, NDArray[np.intp], NDArray[np.intp]]]] = {"new": [], "old": []}
    fitted: Gate | Columns | None = None
    for fold in range(N_FOLDS):
        if not ((new.folds == fold).any() or (old.folds == fold).any()):
            continue
        fitted = fit(new.outside(fold), old.outside(fold))
        for name, samples, classes in (("new", new, naming.new), ("old", old, naming.old)):
            inside = samples.inside(fold)
            if len(inside):
                parts[name].append((fitted.sides(inside.X), classes[inside.y], inside.folds))
    assert fitted is not None
    side_classes = fitted.old_classes, fitted.new_classes
    joined = {name: _joined(some) for name, some in parts.items() if some}
    scores_of = {name: offset_scores(sides, side_classes, y) for name, (sides, y, _) in joined.items()}
    both = [sides for sides, _, _ in joined.values()]
    return HeldOut(
        new=scores_of["new"],
        old=scores_of.get("old"),
        old_folds=joined["old"][2] if "old" in joined else np.empty(0, np.intp),
        sides=(np.concatenate([one[0] for one in both]), np.concatenate([one[1] for one in both])),
        side_classes=side_classes,
    )


def _joined(parts: list[Any]) -> tuple[_Sides, NDArray[np.intp], NDArray[np.intp]]:
    old, new = (np.concatenate([part[0][side] for part in parts]) for side in (0, 1))
    y, folds = (np.concatenate([part[at] for part in parts]) for at in (1, 2))
    return (old, new), y, folds


def class_scores(
    sides: _Sides, side_classes: tuple[NDArray[np.intp], NDArray[np.intp]], n_classes: int
) -> NDArray[np.float64]:
    """Return the larger of each class's scores, of shape (n, n_classes)."""
    scores = np.full((len(sides[0]), n_classes), -np.inf)
    scores[:, side_classes[0]] = sides[0]
    for column, number in zip(sides[1].T, side_classes[1], strict=True):
        np.maximum(scores[:, number], column, out=scores[:, number])
    return scores
