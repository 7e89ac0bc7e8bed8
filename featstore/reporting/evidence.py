"""What a head and the features say of every image of a table."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from featstore.duplicates.likeness import Likeness
from featstore.duplicates.search import nearest_others
from featstore.heads.head import Head
from featstore.heads.registry import known_heads
from featstore.scoring.predictions import predict_images
from featstore.scoring.suspects import Suspects, find_suspects

if TYPE_CHECKING:
    from featstore.store.tables.table import FeatureTable

__all__ = ["likely_suspects", "nearest_training", "predict_all"]

_BLOCK_IMAGES = 20_000


def predict_all(
    head: Head, table: "FeatureTable", labels: NDArray[np.str_]
) -> tuple[NDArray[np.str_], NDArray[np.float64], NDArray[np.float64]]:
    """Return each image's prediction, its probability, and that of its label."""
    n_images = len(table)
    predicted = np.full(n_images, "", head.classes.dtype)
    probability, of_label = np.zeros(n_images), np.full(n_images, np.nan)
    for start in range(0, n_images, _BLOCK_IMAGES):
        rows = np.arange(start, min(start + _BLOCK_IMAGES, n_images))
        predicted[rows], likely = predict_images(head, table, rows)
        probability[rows] = likely[np.arange(len(rows)), np.searchsorted(head.classes, predicted[rows])]
        known = np.isin(labels[rows], head.classes)
        columns = np.searchsorted(head.classes, labels[rows][known])
        of_label[rows[known]] = likely[np.flatnonzero(known), columns]
    return predicted, probability, of_label


def likely_suspects(head: Head, table: "FeatureTable") -> Suspects:
    """Find suspects by a head of the same kind and parameters, or by logistic where there is no such kind."""
    views = {"train": head.train_views, "test": head.test_views} if head.test_views > 1 else None
    is_of_a_kind = head.name in {one.name for one in known_heads()} and head.choice.get("fitted_on")
    if not is_of_a_kind or head.extension:
        return find_suspects(table, views=views)
    return find_suspects(table, head=head.name, params=head.params, views=views)


def nearest_training(
    table: "FeatureTable", train: NDArray[np.intp], likeness: Likeness
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Compare each image with the training images other than itself and its copies."""
    hashes = np.ascontiguousarray(table.content_hash_bytes).view("V32").ravel()
    contents = np.unique(hashes, return_inverse=True)[1]
    return nearest_others(table.X, np.arange(len(table)), train, likeness, contents=contents)
