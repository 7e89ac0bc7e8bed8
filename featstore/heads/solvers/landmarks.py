"""Landmarks: the few rows that stand for all in Nyström's method."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.heads.data.blocks import Rows
from featstore.heads.forms.kernel import similarities, squared_distances

__all__ = ["choose_landmarks"]

# Rows that each landmark is chosen among.
_CANDIDATES = 4

# Of the number of candidates: the ridge by which leverage is measured.
_RIDGE = 1e-4

_BLOCK_ROWS = 1024


def choose_landmarks(
    X: Rows,
    number: int,
    *,
    prepare: Callable[[NDArray[Any]], NDArray[np.float16]],
    gamma: float,
    seed: int,
) -> NDArray[np.float16]:
    """Draw distinct rows with probabilities by their leverage, in the rows' order."""
    # Leverage is that of ridge regression as estimated from a uniform sample (Musco & Musco, NIPS 2017): of
    # many alike rows few are chosen, and of rare ones most.
    generator = np.random.default_rng(seed)
    at = np.sort(generator.permutation(len(X))[: _CANDIDATES * number])
    rows = np.concatenate(
        [prepare(X.take(at[start : start + _BLOCK_ROWS])) for start in range(0, len(at), _BLOCK_ROWS)]
    )
    sample = rows[np.sort(generator.permutation(len(at))[: max(1, number // 4)])].astype(np.float64)
    leverage = _leverage(rows, sample, gamma)
    chosen = generator.choice(len(at), number, replace=False, p=leverage / leverage.sum())
    return np.ascontiguousarray(rows[np.sort(chosen)])


def _leverage(rows: NDArray[np.float16], sample: NDArray[np.float64], gamma: float) -> NDArray[np.float64]:
    """Return what of each row's kernel a sample does not explain, at least a millionth."""
    from scipy.linalg import cholesky, solve_triangular

    kernel = similarities(squared_distances(sample), gamma) + 1
    kernel[np.diag_indices(len(sample))] += _RIDGE * len(rows)
    root = cholesky(kernel, lower=True, overwrite_a=True, check_finite=False)
    left = np.empty(len(rows))
    for start in range(0, len(rows), _BLOCK_ROWS):
        part = rows[start : start + _BLOCK_ROWS].astype(np.float64)
        near = similarities(squared_distances(part, sample), gamma) + 1
        explained = solve_triangular(root, near.T, lower=True, overwrite_b=True, check_finite=False)
        left[start : start + _BLOCK_ROWS] = 2 - np.einsum("ij,ij->j", explained, explained)
    return np.maximum(left, 1e-6)
