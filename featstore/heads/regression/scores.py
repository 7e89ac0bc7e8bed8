"""Scores of predicted numbers as pure functions."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["SCORES", "drawn_scores", "score_values", "unit_sums"]

SCORES = ("mae", "rmse", "r2")


def unit_sums(
    true: NDArray[np.float64], predicted: NDArray[np.float64], units: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Return what each unit of images adds to the sums of :func:`drawn_scores`, (n_units, 5)."""
    # Numbers around their mean, so that the difference of their squares keeps its digits.
    errors, centred = predicted - true, true - true.mean()
    columns = (np.ones(len(true)), np.abs(errors), errors**2, centred, centred**2)
    return np.stack([np.bincount(units, column) for column in columns], axis=1)


def drawn_scores(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return mean absolute error, root mean squared error and R² of each draw, (n_draws, 3); NaN if none."""
    # R² = 1 - sum (y - f)² / sum (y - mean)², as sklearn.metrics.r2_score.
    n, absolute, squared, total, squares = sums.T
    spread = squares - total**2 / n
    share = np.divide(squared, spread, out=np.full(len(n), np.nan), where=spread > 0)
    return np.stack([absolute / n, np.sqrt(squared / n), 1 - share], axis=1)


def score_values(true: NDArray[np.float64], predicted: NDArray[np.float64]) -> dict[str, Any]:
    """Return ``{"n", "mae", "rmse", "r2"}``; None without images, and R² without different numbers."""
    if not len(true):
        return {"n": 0, **dict.fromkeys(SCORES)}
    sums = unit_sums(true, predicted, np.zeros(len(true), np.intp))
    values = drawn_scores(sums)[0].tolist()
    plain = [None if np.isnan(value) else value for value in values]
    return {"n": len(true), **dict(zip(SCORES, plain, strict=True))}
