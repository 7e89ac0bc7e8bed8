"""Two coordinates for each image: its features' principal components, or UMAP of them."""

import warnings
from contextlib import suppress
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.backbones.keras.quiet import quiet_import

__all__ = ["MAPS", "Projection", "keep_compiled", "project"]

MAPS = ("pca", "umap")

# Enough for two directions, in some seconds.
_FITTED_ROWS = 10_000
_BLOCK_ROWS = 4096
_COMPONENTS, _NEIGHBORS = 50, 15


@dataclass(frozen=True, kw_only=True, eq=False)
class Projection:
    """Coordinates, and the share of the features' variance that lies along each axis."""

    points: NDArray[np.float32]  # (n, 2)
    shares: tuple[float, float] | None  # None of UMAP, whose axes have no such meaning


def project(X: Any, by: str = "pca") -> Projection:
    """Project features on their first principal components, or by UMAP, which keeps who is near to whom."""
    return _umap(X) if by == "umap" else _principal(X)


def _umap(X: Any) -> Projection:
    """Project by UMAP (McInnes, Healy & Melville, arXiv:1802.03426, 2018) of 50 principal components."""
    from sklearn.decomposition import PCA
    from sklearn.neighbors import NearestNeighbors

    # It imports TensorFlow where that is installed.
    with quiet_import():
        from umap import UMAP, layouts, umap_
    keep_compiled(layouts, umap_)

    n_rows, feature_dim = X.shape
    if n_rows <= _NEIGHBORS:
        return _principal(X)
    chosen = _even(n_rows)
    fitted = PCA(min(_COMPONENTS, len(chosen), feature_dim), svd_solver="randomized", random_state=0)
    fitted.fit(_unit(X[chosen]))
    reduced = np.concatenate(
        [fitted.transform(_unit(X[start : start + _BLOCK_ROWS])) for start in range(0, n_rows, _BLOCK_ROWS)]
    )
    distances, rows = NearestNeighbors(n_neighbors=_NEIGHBORS).fit(reduced).kneighbors(reduced)
    with warnings.catch_warnings():
        # A seed takes one core, of which it warns; and small or clustered data have several parts.
        warnings.simplefilter("ignore")
        made = UMAP(n_neighbors=_NEIGHBORS, random_state=0, n_jobs=1, precomputed_knn=(rows, distances, None))
        points = made.fit_transform(reduced)
    return Projection(points=_spread(points), shares=None)


def keep_compiled(*modules: ModuleType) -> None:
    """Let Numba keep on disk what it compiles of modules."""
    for module in modules:
        for one in vars(module).values():
            if hasattr(one, "enable_caching"):
                # Where no folder can be written to, it is compiled each time.
                with suppress(RuntimeError):
                    one.enable_caching()


def _unit(X: Any) -> NDArray[np.float32]:
    """Return rows of length 1, so that distances are those of cosines."""
    rows = np.asarray(X, np.float32)
    unit: NDArray[np.float32] = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return unit


def _spread(points: Any) -> NDArray[np.float32]:
    """Return points without the few that lie far outside and would squeeze all others."""
    low, high = np.percentile(points, [0.1, 99.9], axis=0)
    room = 0.1 * (high - low)
    clipped: NDArray[np.float32] = np.clip(points, low - room, high + room).astype(np.float32)
    return clipped


def _even(n_rows: int) -> NDArray[np.intp]:
    return np.unique(np.linspace(0, n_rows - 1, min(n_rows, _FITTED_ROWS)).astype(np.intp))


def _principal(X: Any) -> Projection:
    """Project on the first two principal components, fitted on an even selection of the rows."""
    from sklearn.decomposition import PCA

    n_rows, feature_dim = X.shape
    points = np.zeros((n_rows, 2), np.float32)
    n_components = min(2, n_rows, feature_dim)
    chosen = _even(n_rows)
    if len(chosen) < 2:
        return Projection(points=points, shares=(0.0, 0.0))
    sample = np.asarray(X[chosen], np.float32)
    if not sample.std(axis=0).any():
        return Projection(points=points, shares=(0.0, 0.0))
    # svd_flip inside makes the signs the same everywhere; the solver of a random start is seeded.
    fitted = PCA(n_components, svd_solver="randomized", random_state=0).fit(sample)
    for start in range(0, n_rows, _BLOCK_ROWS):
        block = np.asarray(X[start : start + _BLOCK_ROWS], np.float32)
        points[start : start + len(block), :n_components] = fitted.transform(block)
    shares = [*fitted.explained_variance_ratio_.tolist(), 0.0][:2]
    return Projection(points=points, shares=(float(shares[0]), float(shares[1])))
