"""What a report shows of a head and a table, as rows of the table."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featstore.duplicates.finding import Duplicates, find_duplicates
from featstore.duplicates.likeness import Likeness, fit_likeness
from featstore.errors import HeadError, SplitError
from featstore.heads.head import Head
from featstore.heads.prediction_sets import least_calibrating, n_calibrating
from featstore.reporting.evidence import likely_suspects, nearest_training, predict_all
from featstore.reporting.projection import Projection, project
from featstore.scoring.evaluation import Evaluation, evaluate_images
from featstore.scoring.near_duplicates import cannot_compare
from featstore.scoring.split_images import images_of_split
from featstore.scoring.suspects import Suspects
from featstore.splits import SplitRule

if TYPE_CHECKING:
    from featstore.store.tables.table import FeatureTable

__all__ = ["Examples", "Findings", "alike", "find"]

_COVERAGE = 0.95
_BLOCK_ROWS = 2048


@dataclass(frozen=True, kw_only=True, eq=False)
class Examples:
    """Rows of a class's photos: the surest that are right, the least sure of the label, the most typical."""

    best: list[int]
    worst: list[int]
    typical: list[int]


@dataclass(frozen=True, kw_only=True, eq=False)
class Findings:
    """What was found; ``left_out`` has the reason of each part that is None."""

    evaluation: Evaluation
    scored: NDArray[np.intp]  # rows that the scores are of
    labels: NDArray[np.str_]  # (n,), as the head names them
    predicted: NDArray[np.str_]  # (n,)
    probability: NDArray[np.float64]  # (n,): of the prediction
    label_probability: NDArray[np.float64]  # (n,): of the label; NaN where the head does not know it
    splits: NDArray[np.str_]  # (n,)
    is_fitted: NDArray[np.bool_]  # (n,)
    examples: dict[str, Examples]
    suspects: Suspects | None
    duplicates: Duplicates | None
    similarity: NDArray[np.float32] | None  # (n,): to the most similar training image
    nearest: NDArray[np.int64] | None  # (n,): its row
    projection: Projection
    left_out: dict[str, str]


def find(
    head: Head,
    table: "FeatureTable",
    *,
    split: str,
    n_examples: int,
    with_suspects: bool,
    map_by: str = "pca",
) -> Findings:
    """Gather what a report shows."""
    images = images_of_split(head, table, split)
    scored = images.rows[images.is_scored]
    labels = head.labels_of(table)
    predicted, probability, label_probability = predict_all(head, table, labels)
    left_out: dict[str, str] = {}
    suspects = None
    if with_suspects:
        try:
            suspects = likely_suspects(head, table)
        except (HeadError, SplitError) as error:
            left_out["suspects"] = str(error)
    else:
        left_out["suspects"] = "not asked for"
    likeness = fit_likeness(table.X, np.asarray(table.content_hash_bytes))
    is_fitted = head.was_fitted_on(table)
    return Findings(
        evaluation=evaluate_images(head, table, images, coverage=_coverage(head)),
        scored=scored,
        labels=labels,
        predicted=predicted,
        probability=probability,
        label_probability=label_probability,
        splits=np.asarray(table.splits(head.split_rule)),
        is_fitted=is_fitted,
        examples=_examples(head, table, labels, scored, predicted, label_probability, likeness, n_examples),
        suspects=suspects,
        **alike(table, head.split_rule, is_fitted, likeness, left_out),
        projection=project(table.X, map_by),
        left_out=left_out,
    )


def alike(
    table: "FeatureTable",
    rule: SplitRule,
    is_fitted: NDArray[np.bool_],
    likeness: Likeness,
    left_out: dict[str, str],
) -> dict[str, Any]:
    """Return duplicates, and each image's similarity to the nearest training image and the latter's row."""
    found: dict[str, Any] = {"duplicates": None, "similarity": None, "nearest": None}
    if reason := cannot_compare(len(table), max(1, len(table) // 2), table.feature_dim):
        left_out["duplicates"] = reason
    else:
        found["duplicates"] = find_duplicates(table, rule=rule, max_pairs=0)
    train = np.flatnonzero(is_fitted)
    if not len(train):
        left_out["outliers"] = "the head was fitted on none of these images"
    elif reason := cannot_compare(len(table), len(train), table.feature_dim):
        left_out["outliers"] = reason
    else:
        found["similarity"], found["nearest"] = nearest_training(table, train, likeness)
    return found


def _coverage(head: Head) -> float | None:
    """Return the coverage of the sets that are scored, if enough images were held out to calibrate them."""
    return _COVERAGE if n_calibrating(head.held_out) >= least_calibrating(_COVERAGE) else None


def _examples(
    head: Head,
    table: "FeatureTable",
    labels: NDArray[np.str_],
    scored: NDArray[np.intp],
    predicted: NDArray[np.str_],
    label_probability: NDArray[np.float64],
    likeness: Likeness,
    n_examples: int,
) -> dict[str, Examples]:
    """Return the examples of each class of the head."""
    typical = _typicality(table, labels, head.classes, likeness)
    order = scored[np.argsort(-label_probability[scored], kind="stable")]
    examples = {}
    for label in head.classes.tolist():
        own = order[labels[order] == label]
        of_class = np.flatnonzero(labels == label)
        closest = of_class[np.argsort(-typical[of_class], kind="stable")]
        examples[label] = Examples(
            best=own[predicted[own] == label][:n_examples].tolist(),
            worst=own[::-1][:n_examples].tolist(),
            typical=closest[:n_examples].tolist(),
        )
    return examples


def _typicality(
    table: "FeatureTable", labels: NDArray[np.str_], classes: NDArray[np.str_], likeness: Likeness
) -> NDArray[np.float32]:
    """Return the cosine of each image with the mean of its class; -1 without a class of the head."""
    at = np.where(np.isin(labels, classes), np.searchsorted(classes, labels), -1)
    means = np.zeros((len(classes), table.feature_dim + 1), np.float64)
    cosines = np.full(len(table), -1, np.float32)
    for rows, vectors in _vectors(table.X, at, likeness):
        for number in np.unique(at[rows]):
            means[number] += vectors[at[rows] == number].sum(axis=0)
    means /= np.maximum(np.linalg.norm(means, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    for rows, vectors in _vectors(table.X, at, likeness):
        cosines[rows] = np.einsum("ij,ij->i", vectors, means[at[rows]])
    return cosines


def _vectors(X: Any, at: NDArray[np.intp], likeness: Likeness) -> Any:
    for start in range(0, len(at), _BLOCK_ROWS):
        rows = start + np.flatnonzero(at[start : start + _BLOCK_ROWS] >= 0)
        if len(rows):
            yield rows, likeness.vectors(X[rows])
