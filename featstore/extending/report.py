"""Gains and costs of an extension."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.extending.held_out import HeldOut
from featstore.extending.naming import Naming
from featstore.extending.offset import OffsetScores
from featstore.heads.calibration import softmax
from featstore.stats.intervals import scored, wilson_interval
from featstore.stats.metrics import calibration_bins, expected_calibration_error, log_loss

__all__ = ["accuracy", "calibration_scores", "confusions", "loss_scores"]


def loss_scores(old: OffsetScores | None, predicted: NDArray[np.intp]) -> dict[str, Any] | None:
    """Score old images by their predictions after the extension; None without old images."""
    if old is None:
        return None
    before, after, n = old.right_as_old, predicted == old.y, len(old)
    n_lost = int((before & ~after).sum())
    return {
        "n": n,
        "top1_before": float(before.mean()),
        "top1_after": float(after.mean()),
        "lost": n_lost / n,
        "lost_ci": list(wilson_interval(n_lost, n)),
        "n_lost": n_lost,
        "n_gained": int((after & ~before).sum()),
    }


def calibration_scores(
    held_out: HeldOut, *, offset: float, temperature: float, n_classes: int
) -> dict[str, Any]:
    """Score the probabilities of held-out images, old and new."""
    probabilities = softmax(held_out.scores(offset, n_classes) / temperature)
    is_right = probabilities.argmax(axis=1) == held_out.y
    bins = calibration_bins(probabilities.max(axis=1), is_right)
    return {
        "n": len(held_out.y),
        "log_loss": log_loss(probabilities, held_out.y),
        "calibration_error": expected_calibration_error(bins),
    }


def confusions(
    naming: Naming,
    new: tuple[NDArray[np.intp], NDArray[np.intp]],
    old: tuple[NDArray[np.intp], NDArray[np.intp]],
) -> list[dict[str, Any]]:
    """Count confusions of each new class with the old class of the same name."""
    # `new` and `old` are (classes, predictions) of new and old images.
    found = []
    for label, called in naming.twins.items():
        own, twin = (int(np.searchsorted(naming.classes, name)) for name in (called, label))
        of_new, of_old = new[0] == own, old[0] == twin
        found.append(
            {
                "new": called,
                "old": label,
                "n_new": int(of_new.sum()),
                "n_new_as_old": int((new[1][of_new] == twin).sum()),
                "n_old": int(of_old.sum()),
                "n_old_as_new": int((old[1][of_old] == own).sum()),
            }
        )
    return found


def accuracy(is_right: NDArray[np.bool_]) -> dict[str, Any]:
    """Return ``{"n", "top1", "top1_ci"}``."""
    return scored(int(is_right.sum()), len(is_right))
