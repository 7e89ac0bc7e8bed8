"""Where old classes end and new ones begin: what each threshold gains and costs, and the one taken."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["KEPT", "Seen", "choose_offset", "seen", "trade_off"]

KEPT = 0.95
"""Without old images, the share of new ones that are to be taken for new."""

_FIRST_POINTS, _COARSE_POINTS = 20, 30


@dataclass(frozen=True, kw_only=True, eq=False)
class Seen:
    """What an extension says of images that it was not fitted on, whatever is added to its new scores.

    An image is taken for one of the new classes where more than ``margin`` is added.

    Parameters
    ----------
    margin : ndarray of shape (n,), float64
        The largest old score less the largest new one.
    as_old, as_new : ndarray of shape (n,), int
        The old class, and the new one, with the largest score.
    y : ndarray of shape (n,), int
        Each image's class.
    """

    margin: NDArray[np.float64]
    as_old: NDArray[np.intp]
    as_new: NDArray[np.intp]
    y: NDArray[np.intp]

    def __len__(self) -> int:
        return len(self.margin)

    @property
    def right_as_old(self) -> NDArray[np.bool_]:
        """Where the old classes by themselves are right."""
        return np.asarray(self.as_old == self.y)

    @property
    def right_as_new(self) -> NDArray[np.bool_]:
        """Where the new classes by themselves are right."""
        return np.asarray(self.as_new == self.y)

    def some(self, at: NDArray[Any]) -> "Seen":
        """Return some of them, by numbers or by a mask."""
        return Seen(margin=self.margin[at], as_old=self.as_old[at], as_new=self.as_new[at], y=self.y[at])

    def predicted(self, offset: float) -> NDArray[np.intp]:
        """Return the classes where so much is added to the new scores."""
        return np.where(self.margin < offset, self.as_new, self.as_old)

    def is_right(self, offset: float) -> NDArray[np.bool_]:
        """Say which images are labelled rightly then."""
        return np.asarray(self.predicted(offset) == self.y)


def seen(
    sides: tuple[NDArray[np.float64], NDArray[np.float64]],
    classes: tuple[NDArray[np.intp], NDArray[np.intp]],
    y: NDArray[np.intp],
) -> Seen:
    """Reduce scores to what a choice needs of them.

    Parameters
    ----------
    sides : tuple of ndarray of shape (n, n_old) and (n, n_new), float64
        Scores of the old classes and of the new ones.
    classes : tuple of ndarray of shape (n_old,) and (n_new,), int
        The class that each column stands for.
    y : ndarray of shape (n,), int
        Each image's class.
    """
    best = [side.argmax(axis=1) for side in sides]
    rows = np.arange(len(y))
    return Seen(
        margin=sides[0][rows, best[0]] - sides[1][rows, best[1]],
        as_old=classes[0][best[0]],
        as_new=classes[1][best[1]],
        y=y,
    )


def choose_offset(new: Seen, old: Seen | None, *, max_loss: float) -> float:
    """Choose what is added to the new scores.

    With old images: what gets most new ones right, of all that are expected to lose at most ``max_loss`` of
    further old ones; of equal ones what loses least, in the middle of the longest such stretch. Lost is an
    old image that the old classes alone label rightly and all together do not; with ``k`` of ``n`` lost,
    ``(k + 1) / (n + 1)`` are expected at most (conformal risk control, Angelopoulos et al., ICLR 2024,
    equation 4). Where no offset does, none is lost. Without old images: what takes 95% of the new ones for
    new.

    Parameters
    ----------
    new, old : Seen
    max_loss : float
        In [0, 1).
    """
    if old is None or not len(old):
        return float(np.quantile(new.margin, KEPT))
    steps, gained, lost = _steps(new, old)
    allowed = np.flatnonzero(lost <= max(0.0, max_loss * (len(old) + 1) - 1 + 1e-9))
    ends = np.concatenate([[steps[0] - 2], steps, [steps[-1] + 2]])
    lengths = np.diff(ends)
    best = max(allowed.tolist(), key=lambda at: (gained[at], -lost[at], lengths[at]))
    return float((ends[best] + ends[best + 1]) / 2)


def _steps(new: Seen, old: Seen) -> tuple[NDArray[np.float64], NDArray[np.intp], NDArray[np.intp]]:
    """Return the margins at which anything changes; and new images right and old ones lost between them."""
    losable = old.right_as_old & ~old.right_as_new
    steps = np.unique(np.concatenate([new.margin, old.margin[losable]]))
    change = new.right_as_new.astype(np.intp) - new.right_as_old.astype(np.intp)
    gains = np.bincount(np.searchsorted(steps, new.margin), change, len(steps)).astype(np.intp)
    losses = np.bincount(np.searchsorted(steps, old.margin[losable]), minlength=len(steps))
    start = int(new.right_as_old.sum())
    return steps, start + np.append(0, gains.cumsum()), np.append(0, losses.cumsum())


def trade_off(chosen_on: Seen, new: Seen, old: Seen, *, offset: float) -> list[dict[str, Any]]:
    """Say what each limit on the loss would have given.

    Parameters
    ----------
    chosen_on : Seen
        The new images that thresholds are chosen on.
    new, old : Seen
        The images that are counted.
    offset : float
        The chosen one, which is among the points.

    Returns
    -------
    list of dict
        ``{"offset", "new_top1", "lost"}``, from the least lost, at most 51.
    """
    n_losable = int((old.right_as_old & ~old.right_as_new).sum())
    # Close together where one would choose.
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
