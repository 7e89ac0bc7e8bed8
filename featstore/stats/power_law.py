"""A power law through a learning curve."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["PowerLaw", "fit_power_law"]

PowerLaw = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]

_EXPONENTS = np.geomspace(0.05, 2, 80)


def fit_power_law(sizes: NDArray[np.float64], errors: NDArray[np.float64]) -> PowerLaw:
    """Fit ``error = floor + slope * size ** -exponent`` by least squares, with floor and slope at least 0.

    The form that learning curves of classifiers follow (Cortes et al., NIPS 1993; Hestness et al.,
    arXiv:1712.00409, 2017). For each of 80 exponents from 0.05 to 2 the other two are found exactly, so that
    there is no local minimum to be caught in; all curves are fitted at once.

    Parameters
    ----------
    sizes : ndarray of shape (n_sizes,), float64
        Above 0; give them as parts of a reference size, whose error is then ``floor + slope``.
    errors : ndarray of shape (n_curves, n_sizes), float64
        In [0, 1].

    Returns
    -------
    floor, slope, exponent : ndarray of shape (n_curves,), float64

    Examples
    --------
    >>> sizes = np.array([0.125, 0.25, 0.5, 1.0])
    >>> floor, slope, _ = fit_power_law(sizes, (0.05 + 0.1 * sizes**-0.5)[None])
    >>> round(float(floor[0]), 2), round(float(slope[0]), 2)
    (0.05, 0.1)
    """
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
    """Return intercepts and slopes of the best lines through each row of y, neither below 0."""
    centred = x - x.mean()
    slope = y @ centred / (centred @ centred)
    intercept = y.mean(axis=1) - slope * x.mean()
    flat = slope < 0
    through_zero = ~flat & (intercept < 0)
    slope = np.where(flat, 0.0, np.where(through_zero, y @ x / (x @ x), slope))
    return np.where(flat, y.mean(axis=1), np.where(through_zero, 0.0, intercept)), slope
