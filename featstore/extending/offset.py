"""Choice of the offset between old and new classes."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["NEW_SHARE", "OffsetScores", "choose_offset", "offset_scores", "trade_off"]

NEW_SHARE = 0.95
"""Share of new images to be recognised as new, if there are no old images."""

_FIRST_POINTS, _COARSE_POINTS = 20, 30


@dataclass(frozen=True, kw_only=True, eq=False)
class OffsetScores:
    """Predictions of an extension on images that it was not fitted on, for any offset of the new scores."""

    # With an offset above `margin`, an image is predicted as one of the new classes.

    margin: NDArray[np.float64]  # (n,): largest old score minus largest new score
    as_old: NDArray[np.intp]  # (n,): old class with the largest score
    as_new: NDArray[np.intp]  # (n,): new class with the largest score
    y: NDArray[np.intp]  # (n,): true class

    def __len__(self) -> int:
        return len(self.margin)

    @property
    def right_as_old(self) -> NDArray[np.bool_]:
        """Whether the old classes alone are right."""
        return np.asarray(self.as_old == self.y)

    @property
    def right_as_new(self) -> NDArray[np.bool_]:
        """Whether the new classes alone are right."""
        return np.asarray(self.as_new == self.y)

    def subset(self, at: NDArray[Any]) -> "OffsetScores":
        """Return a subset."""
        return OffsetScores(
            margin=self.margin[at], as_old=self.as_old[at], as_new=self.as_new[at], y=self.y[at]
        )

    def predicted(self, offset: float) -> NDArray[np.intp]:
        """Return the predicted classes with an offset to the new scores."""
        return np.where(self.margin < offset, self.as_new, self.as_old)

    def is_right(self, offset: float) -> NDArray[np.bool_]:
        """Return whether these predictions are right."""
        return np.asarray(self.predicted(offset) == self.y)


def offset_scores(
    sides: tuple[NDArray[np.float64], NDArray[np.float64]],
    classes: tuple[NDArray[np.intp], NDArray[np.intp]],
    y: NDArray[np.intp],
) -> OffsetScores:
    """Reduce scores to what choosing an offset needs."""
    # `sides` are the scores of the old and of the new classes, `classes` the class numbers of their columns.
    best = [side.argmax(axis=1) for side in sides]
    rows = np.arange(len(y))
    return OffsetScores(
        margin=sides[0][rows, best[0]] - sides[1][rows, best[1]],
        as_old=classes[0][best[0]],
        as_new=classes[1][best[1]],
        y=y,
    )


def choose_offset(new: OffsetScores, old: OffsetScores | None, *, max_loss: float) -> float:
    """Choose the offset of the new scores."""
    # With old images: the offset with the most correct new images among those expected to lose at most
    # max_loss of further old ones; ties go to the fewest lost, in the middle of the longest such interval. An
    # old image is lost if the old classes alone are right and all classes together are not; with k of n lost,
    # at most (k + 1) / (n + 1) are expected (conformal risk control, Angelopoulos et al., ICLR 2024, equation
    # 4). If no offset qualifies, none is lost. Without old images: the offset that recognises 95% of the new
    # ones as new.
    if old is None or not len(old):
        return float(np.quantile(new.margin, NEW_SHARE))
    steps, gained, lost = _steps(new, old)
    allowed = np.flatnonzero(lost <= max(0.0, max_loss * (len(old) + 1) - 1 + 1e-9))
    ends = np.concatenate([[steps[0] - 2], steps, [steps[-1] + 2]])
    lengths = np.diff(ends)
    best = max(allowed.tolist(), key=lambda at: (gained[at], -lost[at], lengths[at]))
    return float((ends[best] + ends[best + 1]) / 2)


def _steps(
    new: OffsetScores, old: OffsetScores
) -> tuple[NDArray[np.float64], NDArray[np.intp], NDArray[np.intp]]:
    """Return the margins at which anything changes, and new images right and old ones lost between them."""
    losable = old.right_as_old & ~old.right_as_new
    steps = np.unique(np.concatenate([new.margin, old.margin[losable]]))
    change = new.right_as_new.astype(np.intp) - new.right_as_old.astype(np.intp)
    gains = np.bincount(np.searchsorted(steps, new.margin), change, len(steps)).astype(np.intp)
    losses = np.bincount(np.searchsorted(steps, old.margin[losable]), minlength=len(steps))
    start = int(new.right_as_old.sum())
    return steps, start + np.append(0, gains.cumsum()), np.append(0, losses.cumsum())


def trade_off(
    chosen_on: OffsetScores, new: OffsetScores, old: OffsetScores, *, offset: float
) -> list[dict[str, Any]]:
    """Return ``{"offset", "new_top1", "lost"}`` for up to 51 offsets, including the chosen one."""
    n_losable = int((old.right_as_old & ~old.right_as_new).sum())
    # Denser where one would choose.
    first, coarse = np.arange(min(n_losable, _FIRST_POINTS)), np.linspace(0, n_losable, _COARSE_POINTS)
    limits = (np.unique(np.concatenate([first, coarse.round()])) + 1) / (len(old) + 1)
    offsets = {choose_offset(chosen_on, old, max_loss=float(limit)) for limit in limits} | {offset}
    return [
        {
            "offset": one,
            "new_top1": float(new.is_right(one).mean()) if len(new) else None,
            "lost": float((old.right_as_old & ~old.is_right(one)).mean()),
        }
        for one in sorted(offsets)
    ]
