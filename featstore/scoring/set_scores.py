"""Scores of conformal prediction sets on images with known labels."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.heads.head import Head
from featstore.heads.prediction_sets import in_sets, n_calibrating
from featstore.stats.intervals import wilson_interval

__all__ = ["set_scores"]


def set_scores(
    head: Head,
    labels: NDArray[np.str_],
    probabilities: NDArray[np.float64],
    *,
    coverage: float,
    by_class: bool,
) -> dict[str, Any]:
    """Return how often the sets of at least one image hold its label, and how large they are."""
    chosen = in_sets(probabilities, head.set_thresholds(coverage=coverage, by_class=by_class))
    true = np.searchsorted(head.classes, labels)
    is_covered = chosen[np.arange(len(labels)), true]
    sizes = chosen.sum(axis=1)
    return {
        "coverage": coverage,
        "by_class": by_class,
        "n_calibrating": n_calibrating(head.held_out),
        **_covered(is_covered),
        "mean_size": float(sizes.mean()),
        "sizes": [{"size": int(size), **_covered(is_covered[sizes == size])} for size in np.unique(sizes)],
        "classes": [
            {"label": str(label), **_covered(is_covered[true == number])}
            for number, label in enumerate(head.classes)
        ],
    }


def _covered(is_covered: NDArray[np.bool_]) -> dict[str, Any]:
    n, n_covered = len(is_covered), int(is_covered.sum())
    if not n:
        return {"n": 0, "covered": None, "covered_ci": None}
    return {"n": n, "covered": n_covered / n, "covered_ci": list(wilson_interval(n_covered, n))}
