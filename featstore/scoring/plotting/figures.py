"""Figures without pyplot, and what all plots share."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["BLUE", "GRAY", "ORANGE", "error_lengths", "new_figure", "short_label"]

_LONGEST_LABEL = 24

BLUE, ORANGE, GRAY = "#1f77b4", "#ff7f0e", "#7f7f7f"


def new_figure(width: float, height: float) -> Any:
    """Return an empty figure, in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def error_lengths(middle: NDArray[np.float64], ends: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the lengths of error bars below and above."""
    return np.stack([middle - ends[:, 0], ends[:, 1] - middle]).clip(0)


def short_label(label: str) -> str:
    """Return a label that fits beside a plot, of printable letters alone."""
    shown = "".join(letter if letter.isprintable() else "?" for letter in label)
    return shown if len(shown) <= _LONGEST_LABEL else shown[: _LONGEST_LABEL - 1] + "…"
