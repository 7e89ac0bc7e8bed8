"""Nearest neighbours: one search for all numbers of neighbours and both kinds of weights."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.heads.calibration import smoothed_votes
from featstore.heads.data.blocks import Rows
from featstore.heads.forms.neighbors import vote_weights

__all__ = ["neighbor_scores"]


def neighbor_scores(
    preparation: Any, fitted: Sequence[Any], codes: NDArray[np.intp], held_out: Rows
) -> Iterator[NDArray[np.float64]]:
    """Yield the scores of classifiers that differ in ``n_neighbors`` and ``weights`` only."""
    # The neighbours of each image are searched once, as many as any classifier needs. `codes` are the classes
    # of the training rows, as positions in classes_.
    widest = max(fitted, key=lambda one: int(one.n_neighbors))
    distances = np.empty((len(held_out), widest.n_neighbors))
    labels = np.empty((len(held_out), widest.n_neighbors), np.intp)
    for at, block in held_out.blocks():
        distances[at], nearest = widest.kneighbors(preparation.transform(block))
        labels[at] = codes[nearest]
    for one in fitted:
        n_classes, k = len(one.classes_), one.n_neighbors
        counted = vote_weights(distances[:, :k], one.weights)
        places = labels[:, :k] + np.arange(len(labels))[:, None] * n_classes
        votes = np.bincount(places.ravel(), counted.ravel(), minlength=len(labels) * n_classes)
        votes = votes.reshape(len(labels), n_classes)
        yield smoothed_votes(votes / votes.sum(axis=1, keepdims=True), k)
