"""Evaluation of a head that gives several labels."""

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featstore.errors import SplitError
from featstore.heads.multilabel.head import MultiLabelHead
from featstore.heads.multilabel.scores import (
    SCORES,
    average_precisions,
    drawn_scores,
    label_log_loss,
    precision_recall,
)
from featstore.io.json_values import json_values
from featstore.scoring.predictions import label_probabilities, resampling_units
from featstore.splits import SPLITS
from featstore.stats.intervals import percentile_interval, wilson_interval

if TYPE_CHECKING:
    from featstore.store.tables.table import FeatureTable

__all__ = [
    "REPLICATES",
    "SEED",
    "LabelEvaluation",
    "evaluate_label_rows",
    "evaluate_labels",
    "label_draws",
    "label_rows_of_split",
    "score_label_images",
]

_logger = logging.getLogger(__name__)

REPLICATES = 1000
SEED = 0
# Images of all draws that are held in memory at a time.
_BLOCK_NUMBERS = 4_000_000


@dataclass(frozen=True, kw_only=True)
class LabelEvaluation:
    """Scores of a head that gives several labels, on the images of one split.

    Intervals are 95% confidence intervals: Wilson's for shares of images, which assume independent images;
    those of average precision, F1 and their means by resampling units of images, see ``resampling``.

    Parameters
    ----------
    split : str
        ``"train"``, ``"validation"``, ``"test"``, ``"all"`` or ``"cross-validation"``.
    n : int
        Number of images.
    n_fitted : int
        Number of further images of the split that the head was fitted on, and that are not scored.
    map : float
        Mean over labels of their average precision, in [0, 1].
    micro_f1, macro_f1 : float
        F1 of all decisions together, and the mean of the labels' F1, in [0, 1].
    subset_accuracy : float
        Fraction of images whose labels are all right, in [0, 1].
    map_ci, micro_f1_ci, macro_f1_ci, subset_accuracy_ci : tuple of float
        Their intervals.
    log_loss : float
        Mean cross entropy of all labels of all images, in nats.
    labels_per_image : dict
        ``{"true", "given"}``: mean numbers.
    classes : list of dict
        ``{"label", "n", "threshold", "average_precision", "average_precision_ci", "precision",
        "precision_ci", "recall", "recall_ci", "f1"}`` for each label, n being the number of images with it.
        None where there is no image to divide by.
    curves : list of dict
        ``{"label", "probability", "precision", "recall"}`` for each label: precision and recall in [0, 1] of
        giving it from each probability on, in descending order, at up to 200 of them. Empty lists if no image
        has the label.
    mistakes : list of dict
        ``{"path", "labels", "given"}`` of each image whose labels are not all right.
    resampling : dict
        ``{"unit", "n", "replicates", "seed"}``, as for :class:`featstore.Evaluation`.
    test_views : int
        Number of views of each image that probabilities are averaged over.
    folds : list of dict
        Of :func:`featstore.cross_evaluate_labels`: ``{"n", "n_fitted", "map", "micro_f1", "params"}`` of each
        fold. Thresholds are then means over folds.
    unjudged : dict of str to int
        Of the same: number of images with each label that no fold holds out.
    together : dict
        Of the same: ``{"by", "n_near", "skipped"}``, as for :class:`featstore.Evaluation`.

    Examples
    --------
    >>> import featstore
    >>> result = featstore.evaluate_labels(featstore.fit_labels(several, head="ridge"), several)
    >>> result.n > 10, result.map > 0.8, [one["label"] for one in result.classes]
    (True, True, ['bird', 'boat', 'sea', 'tree'])
    """

    split: str
    n: int
    n_fitted: int
    map: float
    micro_f1: float
    macro_f1: float
    subset_accuracy: float
    map_ci: tuple[float, float]
    micro_f1_ci: tuple[float, float]
    macro_f1_ci: tuple[float, float]
    subset_accuracy_ci: tuple[float, float]
    log_loss: float
    labels_per_image: dict[str, float]
    classes: list[dict[str, Any]]
    curves: list[dict[str, Any]]
    mistakes: list[dict[str, Any]]
    resampling: dict[str, Any]
    test_views: int = 1
    folds: list[dict[str, Any]] = field(default_factory=list)
    unjudged: dict[str, int] = field(default_factory=dict)
    together: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return json_values(self)


def evaluate_labels(head: MultiLabelHead, table: "FeatureTable", *, split: str = "test") -> LabelEvaluation:
    """Evaluate a head that gives several labels on one split, as assigned by its own split rule.

    Images that the head was fitted on are left out, in any catalog; only ``"train"``, and ``"validation"`` if
    it was fitted on all of it, are scored nevertheless, with a warning.

    Parameters
    ----------
    head : MultiLabelHead
    table : FeatureTable
        A table of the head's space, of any catalog with several labels an image.
    split : {"test", "validation", "train", "all"}

    Returns
    -------
    LabelEvaluation

    Raises
    ------
    FingerprintMismatchError
        The features are of another backbone.
    SplitError
        The split contains no labelled image, or none that the head was not fitted on.
    HeadError
        Images have labels that the head does not know, or invalid features.

    Examples
    --------
    >>> import featstore
    >>> head = featstore.fit_labels(several, head="ridge")
    >>> featstore.evaluate_labels(head, several).map == head.test["map"]
    True
    """
    rows, n_fitted = label_rows_of_split(head, table, split)
    probabilities = label_probabilities(head, table, rows)
    return evaluate_label_rows(head, table, rows, probabilities, split=split, n_fitted=n_fitted)


def label_rows_of_split(
    head: MultiLabelHead, table: "FeatureTable", split: str
) -> tuple[NDArray[np.intp], int]:
    """Return the rows to score, and how many more the head was fitted on; raise as evaluate_labels does."""
    head.check_fingerprint(table.fingerprint, spec=table.spec)
    if split not in (*SPLITS, "all"):
        raise SplitError(f"split must be one of {', '.join(SPLITS)} or all; found {split!r}")
    is_chosen = np.asarray(table.is_labelled)
    if split != "all":
        is_chosen = is_chosen & (np.asarray(table.splits(head.split_rule)) == split)
    rows = np.flatnonzero(is_chosen)
    is_fitted = head.was_fitted_on(table)[rows]
    if not len(rows):
        raise SplitError(
            f"the catalog {table.catalog_name} has no labelled image in {split}; choose another split, or "
            "fit with a larger fraction for it"
        )
    if split == "train" or (split == "validation" and is_fitted.all()):
        _logger.warning(
            "the head %s was fitted on %d of the %d images in %s: scores on them are optimistic",
            head.name,
            is_fitted.sum(),
            len(rows),
            split,
        )
        is_fitted = np.zeros(len(rows), np.bool_)
    elif is_fitted.all():
        raise SplitError(
            f"the head {head.name} was fitted on all {len(rows)} labelled images in {split} of the catalog "
            f"{table.catalog_name}: evaluate it on images that it has not seen, or by cross-validation with "
            "cross_evaluate_labels (`featstore evaluate --folds`)"
        )
    return rows[~is_fitted], int(is_fitted.sum())


def evaluate_label_rows(
    head: MultiLabelHead,
    table: "FeatureTable",
    rows: NDArray[np.intp],
    probabilities: NDArray[np.float64],
    *,
    split: str,
    n_fitted: int,
) -> LabelEvaluation:
    """Evaluate the predictions of some rows."""
    unit, units = resampling_units(table, rows, head.split_rule)
    return score_label_images(
        head.classes,
        head.label_sets_of(table)[rows],
        probabilities >= head.thresholds,
        probabilities,
        thresholds=head.thresholds,
        paths=np.asarray(table.paths)[rows],
        units=units,
        unit=unit,
        split=split,
        n_fitted=n_fitted,
        test_views=head.test_views,
    )


def score_label_images(
    classes: NDArray[np.str_],
    has: NDArray[np.bool_],
    given: NDArray[np.bool_],
    probabilities: NDArray[np.float64],
    *,
    thresholds: NDArray[np.float64],
    paths: NDArray[np.str_],
    units: NDArray[np.intp],
    unit: str,
    **more: Any,
) -> LabelEvaluation:
    """Score the predictions of images."""
    everything = np.ones((1, len(has)))
    values = drawn_scores(has, given, probabilities, everything)[0]
    precisions = average_precisions(has, probabilities)[0]
    means, of_labels = label_draws(has, given, probabilities, units)
    # Labels that no image has, or is given, count for nothing, and a draw may have no image of any.
    found = dict(zip(SCORES, values.tolist(), strict=True))
    intervals: dict[str, Any] = {f"{name}_ci": _interval(means[:, at]) for at, name in enumerate(SCORES)}
    n_exact = int((has == given).all(axis=1).sum())
    intervals["subset_accuracy_ci"] = wilson_interval(n_exact, len(has))
    labels = classes.tolist()
    return LabelEvaluation(
        n=len(has),
        **found,
        **intervals,
        **more,
        log_loss=label_log_loss(has, probabilities),
        labels_per_image={"true": float(has.sum(axis=1).mean()), "given": float(given.sum(axis=1).mean())},
        classes=[
            _of_label(
                label, has[:, at], given[:, at], thresholds[at], float(precisions[at]), of_labels[:, at]
            )
            for at, label in enumerate(labels)
        ],
        curves=[
            {"label": label, **precision_recall(has[:, at], probabilities[:, at])}
            for at, label in enumerate(labels)
        ],
        mistakes=[
            {
                "path": str(paths[at]),
                "labels": [labels[number] for number in np.flatnonzero(has[at])],
                "given": [labels[number] for number in np.flatnonzero(given[at])],
            }
            for at in np.flatnonzero((has != given).any(axis=1)).tolist()
        ],
        resampling={"unit": unit, "n": len(np.unique(units)), "replicates": REPLICATES, "seed": SEED},
    )


def label_draws(
    has: NDArray[np.bool_],
    given: NDArray[np.bool_],
    probabilities: NDArray[np.float64],
    units: NDArray[np.intp],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the mean scores and the labels' average precisions of resampled images."""
    # The same draws for all heads, so that their scores can be compared draw by draw.
    random = np.random.default_rng(SEED)
    n_units = int(units.max()) + 1
    step = max(1, _BLOCK_NUMBERS // len(has))
    means, of_labels = [], []
    for start in range(0, REPLICATES, step):
        size = min(step, REPLICATES - start)
        drawn = random.multinomial(n_units, np.full(n_units, 1 / n_units), size=size)
        counts = drawn[:, units].astype(np.float64)
        means.append(drawn_scores(has, given, probabilities, counts))
        of_labels.append(average_precisions(has, probabilities, counts))
    return np.concatenate(means), np.concatenate(of_labels)


def _interval(values: NDArray[np.float64]) -> tuple[float, float]:
    there = values[~np.isnan(values)]
    return percentile_interval(there) if len(there) else (0.0, 1.0)


def _of_label(
    label: str,
    has: NDArray[np.bool_],
    given: NDArray[np.bool_],
    threshold: float,
    precision_area: float,
    draws: NDArray[np.float64],
) -> dict[str, Any]:
    n_true, n_given, n_right = int(has.sum()), int(given.sum()), int((has & given).sum())
    return {
        "label": label,
        "n": n_true,
        "threshold": float(threshold),
        "average_precision": precision_area if n_true else None,
        "average_precision_ci": list(_interval(draws)) if n_true else None,
        "precision": n_right / n_given if n_given else None,
        "precision_ci": list(wilson_interval(n_right, n_given)) if n_given else None,
        "recall": n_right / n_true if n_true else None,
        "recall_ci": list(wilson_interval(n_right, n_true)) if n_true else None,
        "f1": 2 * n_right / (n_true + n_given) if n_true + n_given else None,
    }
