"""Power-law fits to learning curves."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["PowerLaw", "fit_power_law"]

PowerLaw = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]

_EXPONENTS = np.geomspace(0.05, 2, 80)


def fit_power_law(sizes: NDArray[np.float64], errors: NDArray[np.float64]) -> PowerLaw:
    """Fit ``error = floor + slope * size ** -exponent`` by least squares, floor and slope at least 0."""
    # The form that learning curves of classifiers follow (Cortes et al., NIPS 1993; Hestness et al.,
    # arXiv:1712.00409, 2017). For each of 80 exponents from 0.05 to 2 the other two are solved exactly, so
    # that there are no local minima; all curves, errors of shape (n_curves, n_sizes), are fitted at once.
    n_curves = len(errors)
    least = np.full(n_curves, np.inf)
    best = np.zeros((3, n_curves))
    for exponent in _EXPONENTS:
        x = sizes**-exponent
        floor, slope = _nonnegative_line(x, errors)
        misfit = ((errors - floor[:, None] - slope[:, None] * x) ** 2).sum(axis=1)
        better = misfit < least
        least[better] = misfit[better]
        best[:, better] = np.stack([floor, slope, np.full(n_curves, exponent)])[:, better]
    return best[0], best[1], best[2]


def _nonnegative_line(
    x: NDArray[np.float64], y: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return intercepts and slopes, at least 0, of the least-squares lines through each row of y."""
    centred = x - x.mean()
    slope = y @ centred / (centred @ centred)
    intercept = y.mean(axis=1) - slope * x.mean()
    flat = slope < 0
    through_zero = ~flat & (intercept < 0)
    slope = np.where(flat, 0.0, np.where(through_zero, y @ x / (x @ x), slope))
    return np.where(flat, y.mean(axis=1), np.where(through_zero, 0.0, intercept)), slope
