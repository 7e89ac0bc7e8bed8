"""Evaluation of a head on the labelled images of a split."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featstore.heads.head import Head
from featstore.heads.hierarchy import level_scores
from featstore.io.json_values import json_values
from featstore.notebook_table import html_table, percent
from featstore.scoring.predictions import predict_images, resampling_units
from featstore.scoring.set_scores import set_scores
from featstore.scoring.split_images import SplitImages, images_of_split
from featstore.stats.intervals import (
    REPLICATES,
    bootstrap_scores,
    percentile_interval,
    scored,
    wilson_interval,
)
from featstore.stats.metrics import (
    CalibrationBin,
    balanced_accuracy,
    brier_score,
    calibration_bins,
    confusion_counts,
    expected_calibration_error,
    f1_scores,
    log_loss,
    macro_f1,
    top_k_accuracy,
)

if TYPE_CHECKING:
    from featstore.store.tables.table import FeatureTable

__all__ = [
    "Evaluation",
    "evaluate",
    "evaluate_images",
    "score_images",
]

_SEED = 0


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Scores of a head on the labelled images of one split.

    Images are predicted by as many views as the head averages over. Intervals are 95% confidence intervals.
    Wilson intervals assume independent images; the others resample units of images, see ``resampling``.

    Parameters
    ----------
    split : str
        ``"train"``, ``"validation"``, ``"test"``, ``"all"`` or ``"cross-validation"``.
    n : int
        Number of images.
    top1 : float
        Accuracy, in [0, 1].
    top1_ci : tuple of float
        Its Wilson interval.
    top5 : float or None
        Fraction whose label is among the five most probable; None with five classes or fewer.
    classes : list of dict
        ``{"label", "n", "precision", "recall", "recall_ci", "f1"}`` for each class, n being the number of
        images with the label. Precision is None if the label was never predicted, recall and its Wilson
        interval if n is 0, F1 if both.
    confusion : list of list of int
        Confusion matrix, labels in rows and predictions in columns, in the order of ``classes``.
    misclassified : list of dict
        ``{"path", "label", "predicted", "probability"}``, with the probability of the prediction, in
        decreasing probability.
    top5_ci : tuple of float or None
        Its Wilson interval.
    top1_bootstrap_ci : tuple of float
        Interval of the accuracy by resampling, to be preferred if units contain several images.
    macro_f1, balanced_accuracy : float
        F1 and recall, averaged over classes, in [0, 1].
    macro_f1_ci, balanced_accuracy_ci : tuple of float
        Their intervals by resampling.
    log_loss, brier_score, calibration_error : float
        Quality of the probabilities: cross entropy in nats, Brier score in [0, 2], and expected calibration
        error in [0, 1]; lower is better.
    calibration : list of CalibrationBin
        The 15 bins of equal width of the calibration error.
    baseline : dict
        ``{"label", "n", "top1", "top1_ci"}`` of always predicting the most frequent class of the training
        images, or, for a head that was fitted on none, of these.
    resampling : dict
        ``{"unit", "n", "replicates", "seed"}``: what was resampled (``"image"``, or what the head's split
        rule splits by: ``"group"``, ``"folder"`` …), the number of units, and the number of draws.
    sets : dict
        Where a coverage was asked for, ``{"coverage", "by_class", "n_calibrating", "n", "covered",
        "covered_ci", "mean_size", "sizes", "classes"}``: how often conformal prediction sets hold the label,
        with its Wilson interval, and their mean size; the same by size of the set and by class. Otherwise
        empty.
    levels : list of dict
        Of a head with a hierarchy, ``{"level", "classes", "n", "top1", "top1_ci"}`` from the topmost level
        on: an image gets the node with the largest sum of probabilities; a class above stands for itself.
    test_views : int
        Number of views of each image that probabilities are averaged over.
    parts : list of dict
        ``{"part", "n", "top1", "top1_ci"}`` of the split's images by how the head has seen them:
        ``"held_out"``; ``"chosen_on"``, that its parameters were chosen on; ``"fitted_on"``.
    scored : list of str
        The parts that all other figures are of. Images that the head was fitted on are left out, except in
        ``"train"``, and in ``"validation"`` if it was fitted on all of it.
    seen_by : str
        How the head identifies the images that it was fitted on: :attr:`featstore.Head.seen_by`.
    folds : list of dict
        For :func:`featstore.cross_evaluate`, ``{"n", "top1", "top1_ci", "n_fitted", "params"}`` of each fold.
    unjudged : dict of str to int
        For the same, number of images of each class that no fold could hold out.
    together : dict
        For the same, ``{"by", "n_near", "skipped"}``: what was kept in one fold, the number of images kept
        with a near-duplicate, and the reason why near-duplicates were not looked for, or None.

    Examples
    --------
    >>> import featstore
    >>> result = featstore.evaluate(featstore.fit(table, head="ridge"), table)
    >>> result.n, sum(map(sum, result.confusion)), result.top1_ci[0] <= result.top1 <= result.top1_ci[1]
    (11, 11, True)
    """

    split: str
    n: int
    top1: float
    top1_ci: tuple[float, float]
    top5: float | None
    classes: list[dict[str, Any]]
    confusion: list[list[int]]
    misclassified: list[dict[str, Any]]
    top5_ci: tuple[float, float] | None
    top1_bootstrap_ci: tuple[float, float]
    macro_f1: float
    macro_f1_ci: tuple[float, float]
    balanced_accuracy: float
    balanced_accuracy_ci: tuple[float, float]
    log_loss: float
    brier_score: float
    calibration_error: float
    calibration: list[CalibrationBin]
    baseline: dict[str, Any]
    resampling: dict[str, Any]
    sets: dict[str, Any] = field(default_factory=dict)
    levels: list[dict[str, Any]] = field(default_factory=list)
    test_views: int = 1
    parts: list[dict[str, Any]] = field(default_factory=list)
    scored: list[str] = field(default_factory=list)
    seen_by: str = "content"
    folds: list[dict[str, Any]] = field(default_factory=list)
    unjudged: dict[str, int] = field(default_factory=dict)
    together: dict[str, Any] = field(default_factory=dict)

    def _repr_html_(self) -> str:
        return html_table(
            f"{self.split} accuracy {percent(self.top1, self.top1_ci)}, n = {self.n:,}",
            ("class", "n", "precision", "recall", "F1"),
            [
                (
                    one["label"],
                    one["n"],
                    percent(one["precision"]),
                    percent(one["recall"], one["recall_ci"]),
                    percent(one["f1"]),
                )
                for one in self.classes
            ],
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values; ``top5`` is left out if None.

        ``precision@1`` and ``recall@5`` equal ``top1`` and ``top5``, under the names that Inception's
        evaluation prints (TensorFlow models, ``inception_eval.py``).
        """
        values = json_values(self)
        values["precision@1"] = self.top1
        if self.top5 is None:
            del values["top5"], values["top5_ci"]
        else:
            values["recall@5"] = self.top5
        return values


def evaluate(
    head: Head,
    table: "FeatureTable",
    *,
    split: str = "test",
    coverage: float | None = None,
    by_class: bool = False,
) -> Evaluation:
    """Evaluate a head on the labelled images of one split, as assigned by its own split rule.

    Images that the head was fitted on are left out, in any catalog, and counted in ``parts``; only
    ``"train"``, and ``"validation"`` if it was fitted on all of it, are scored anyway, with a warning.

    Parameters
    ----------
    head : Head
    table : FeatureTable
        A table of the head's space, of any catalog.
    split : {"test", "validation", "train", "all"}
        ``"all"`` is every labelled image, for a catalog that the head has never seen.
    coverage, by_class
        As for :meth:`featstore.Head.prediction_sets`: score these sets too.

    Returns
    -------
    Evaluation

    Raises
    ------
    FingerprintMismatchError
        The features are of another backbone.
    NotInStoreError
        Images lack some of the views that the head averages over.
    SplitError
        The split contains no labelled image, or none that the head was not fitted on.
    HeadError
        Images have labels that the head does not know, or invalid features; or too few images were held out
        for this coverage.

    Examples
    --------
    >>> import featstore
    >>> result = featstore.evaluate(featstore.fit(table, head="ridge"), table)
    >>> result.split, result.n, [one["label"] for one in result.classes]
    ('test', 11, ['daisy', 'roses', 'tulips'])
    """
    images = images_of_split(head, table, split)
    return evaluate_images(head, table, images, coverage=coverage, by_class=by_class)


def evaluate_images(
    head: Head,
    table: "FeatureTable",
    images: SplitImages,
    *,
    coverage: float | None = None,
    by_class: bool = False,
) -> Evaluation:
    """Evaluate a head on the images of a split that may be scored."""
    if coverage is not None:
        # Refused before images are predicted.
        head.set_thresholds(coverage=coverage, by_class=by_class)
    rows, labels, is_scored = images.rows, images.labels, images.is_scored
    predicted, probabilities = predict_images(head, table, rows)
    is_right = predicted == labels
    parts = [
        {"part": part, **scored(int(is_right[mask].sum()), int(mask.sum()))}
        for part, mask in images.parts.items()
        if mask.any()
    ]
    unit, units = resampling_units(table, rows[is_scored], head.split_rule)
    sets: dict[str, Any] = {}
    if coverage is not None:
        found = labels[is_scored], probabilities[is_scored]
        sets = set_scores(head, *found, coverage=coverage, by_class=by_class)
    return score_images(
        classes=head.classes,
        labels=labels[is_scored],
        predicted=predicted[is_scored],
        probabilities=probabilities[is_scored],
        paths=table.paths[rows[is_scored]],
        unit=unit,
        units=units,
        often=head.counts["train"],
        split=images.split,
        sets=sets,
        levels=level_scores(head.classes.tolist(), head.parents, labels[is_scored], probabilities[is_scored]),
        test_views=head.test_views,
        parts=parts,
        scored=[part for part, mask in images.parts.items() if (is_scored & mask).any()],
        seen_by=head.seen_by,
    )


def score_images(
    *,
    classes: NDArray[np.str_],
    labels: NDArray[np.str_],
    predicted: NDArray[np.str_],
    probabilities: NDArray[np.float64],
    paths: NDArray[np.str_],
    unit: str,
    units: NDArray[np.intp],
    often: Mapping[str, int],
    **more: Any,
) -> Evaluation:
    """Score predictions of images, at least one."""
    # classes are sorted; images of the same number in units are resampled together; often counts each label's
    # training images; more are further fields of the evaluation.
    true, guess = np.searchsorted(classes, labels), np.searchsorted(classes, predicted)
    n_images, n_classes = len(labels), len(classes)
    is_right = true == guess
    sureness = probabilities[np.arange(n_images), guess]
    confusion = confusion_counts(true, guess, n_classes)
    counts = confusion.diagonal(), confusion.sum(axis=1), confusion.sum(axis=0)
    bins = calibration_bins(sureness, is_right)
    top5 = top_k_accuracy(probabilities, true, 5) if n_classes > 5 else None
    draws = bootstrap_scores(units, true, guess, n_classes, _resampled, seed=_SEED)
    top1_bootstrap_ci, macro_f1_ci, balanced_accuracy_ci = map(percentile_interval, draws.T)
    wrong = np.flatnonzero(~is_right)
    return Evaluation(
        **more,
        n=n_images,
        **_accuracy(int(is_right.sum()), n_images),
        top5=top5,
        top5_ci=None if top5 is None else wilson_interval(round(top5 * n_images), n_images),
        top1_bootstrap_ci=top1_bootstrap_ci,
        macro_f1=float(macro_f1(*counts)),
        macro_f1_ci=macro_f1_ci,
        balanced_accuracy=float(balanced_accuracy(*counts[:2])),
        balanced_accuracy_ci=balanced_accuracy_ci,
        log_loss=log_loss(probabilities, true),
        brier_score=brier_score(probabilities, true),
        calibration_error=expected_calibration_error(bins),
        calibration=bins,
        baseline=_baseline(classes, often, labels),
        resampling={
            "unit": unit,
            "n": len(np.unique(units)),
            "replicates": REPLICATES,
            "seed": _SEED,
        },
        classes=_per_class(classes, *counts),
        confusion=confusion.tolist(),
        misclassified=[
            {
                "path": str(paths[at]),
                "label": str(labels[at]),
                "predicted": str(predicted[at]),
                "probability": float(sureness[at]),
            }
            for at in wrong[np.argsort(-sureness[wrong], kind="stable")]
        ],
    )


def _resampled(
    right: NDArray[np.int64], n_true: NDArray[np.int64], n_predicted: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return accuracy, macro F1 and balanced accuracy of each draw."""
    return np.stack(
        [
            right.sum(axis=1) / n_true.sum(axis=1),
            macro_f1(right, n_true, n_predicted),
            balanced_accuracy(right, n_true),
        ],
        axis=1,
    )


def _accuracy(n_right: int, n_images: int) -> dict[str, Any]:
    return {"top1": n_right / n_images, "top1_ci": wilson_interval(n_right, n_images)}


def _baseline(
    classes: NDArray[np.str_], often: Mapping[str, int], labels: NDArray[np.str_]
) -> dict[str, Any]:
    counts = often or Counter(labels.tolist())
    in_training = [counts.get(label, 0) for label in classes.tolist()]
    most = str(classes[int(np.argmax(in_training))])
    return {"label": most} | scored(int((labels == most).sum()), len(labels))


def _per_class(
    classes: NDArray[np.str_],
    right: NDArray[np.int64],
    n_true: NDArray[np.int64],
    n_predicted: NDArray[np.int64],
) -> list[dict[str, Any]]:
    f1 = f1_scores(right, n_true, n_predicted)
    return [
        {
            "label": str(label),
            "n": int(n_true[at]),
            "precision": float(right[at] / n_predicted[at]) if n_predicted[at] else None,
            "recall": float(right[at] / n_true[at]) if n_true[at] else None,
            "recall_ci": list(wilson_interval(int(right[at]), int(n_true[at]))) if n_true[at] else None,
            "f1": None if np.isnan(f1[at]) else float(f1[at]),
        }
        for at, label in enumerate(classes)
    ]
