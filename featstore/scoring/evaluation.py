"""How good a head is, always with n and an interval."""

import logging
import shlex
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featstore.errors import HeadError, SplitError
from featstore.heads.data.blocks import rows_of_images
from featstore.heads.data.view_counts import check_images
from featstore.heads.head import Head
from featstore.notebook_table import html_table, percent
from featstore.splits import SPLITS, SplitRule
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
    from featstore.store.table import FeatureTable

__all__ = [
    "Evaluation",
    "check_labels_known",
    "evaluate",
    "predictions",
    "resampling_units",
    "score_images",
]

_logger = logging.getLogger(__name__)

_SEED = 0


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What a head gets right and wrong on the labelled images of one split.

    An image is predicted by as many of its views as the head averages over. Intervals hold the true value in
    95 of 100 such experiments. Those called Wilson's take the images as independent; the others resample
    units of images, see ``resampling``.

    Parameters
    ----------
    split : str
        ``"train"``, ``"validation"``, ``"test"`` or ``"all"``.
    n : int
        Number of images.
    top1 : float
        Accuracy: the fraction whose label is predicted, in [0, 1].
    top1_ci : tuple of float
        Its Wilson interval.
    top5 : float or None
        The fraction whose label is among the five most probable; None with five classes or fewer.
    classes : list of dict
        ``{"label", "n", "precision", "recall", "recall_ci", "f1"}`` for each class; n is how many images have
        the label. Precision is None where the label was never predicted, recall and its Wilson interval
        where n is 0, F1 where both are so.
    confusion : list of list of int
        Row: the label; column: the prediction; both in the order of ``classes``.
    misclassified : list of dict
        ``{"path", "label", "predicted", "probability"}``; the probability is that of the prediction, and
        the surest mistakes come first.
    top5_ci : tuple of float or None
        Its Wilson interval.
    top1_bootstrap_ci : tuple of float
        The interval of the accuracy by resampling: the one to trust where units hold several images.
    macro_f1, balanced_accuracy : float
        F1 and recall, averaged over classes; see :func:`featstore.stats.metrics.macro_f1` and
        :func:`featstore.stats.metrics.balanced_accuracy`.
    macro_f1_ci, balanced_accuracy_ci : tuple of float
        Their intervals by resampling.
    log_loss, brier_score, calibration_error : float
        How good the probabilities are: cross entropy in nats, Brier's score in [0, 2], and the expected
        calibration error in [0, 1]; the smaller the better. See :mod:`featstore.stats.metrics`.
    calibration : list of CalibrationBin
        The 15 bins of equal width of the calibration error.
    baseline : dict
        ``{"label", "n", "top1", "top1_ci"}`` of always saying the class with the most training images, or,
        of a head that was fitted on none, with the most of these.
    resampling : dict
        ``{"unit", "n", "replicates", "seed"}``: what was resampled (``"image"``, or what the head's split
        rule goes by: ``"group"``, ``"folder"`` …), how many of them there are, how often.
    test_views : int
        Over how many views of each image the probabilities are averaged.
    parts : list of dict
        ``{"part", "n", "top1", "top1_ci"}`` of the split's images by how the head has seen them, the most
        honest first: ``"held_out"``; ``"chosen_on"``, that its parameters were chosen on; ``"fitted_on"``.
    scored : list of str
        Which of these parts all other figures are of. Images that the head was fitted on are left out, but
        where they are asked for: of ``"train"``, and of ``"validation"`` where it was fitted on all of that.
    seen_by : str
        How the head knows which images it was fitted on: :attr:`featstore.Head.seen_by`.
    folds : list of dict
        Of :func:`featstore.cross_evaluate`, ``{"n", "top1", "n_fitted", "params"}`` of each head.
    unjudged : dict of str to int
        Of the same, images that no fold could judge, by their class.
    together : dict
        Of the same, ``{"by", "n_near", "skipped"}``: what was kept in one fold, how many images were kept
        with a near-duplicate, and why these were not looked for, or None.
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
        """Return the fields as JSON values; ``top5`` is left out where it is None.

        ``precision@1`` and ``recall@5`` are the same as ``top1`` and ``top5``, under the names that
        Inception's evaluation prints (TensorFlow models, ``inception_eval.py``).
        """
        values = {
            name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()
        }
        values["precision@1"] = self.top1
        if self.top5 is None:
            del values["top5"], values["top5_ci"]
        else:
            values["recall@5"] = self.top5
        return values


def evaluate(head: Head, table: "FeatureTable", *, split: str = "test") -> Evaluation:
    """Score a head on the labelled images of one split, as its own split rule deals them.

    Images that the head was fitted on are left out, whatever their catalog is called, and counted in
    ``parts``; only ``"train"`` and ``"validation"`` are scored where it was fitted on them.

    Parameters
    ----------
    head : Head
    table : FeatureTable
        Of the space that the head was fitted on; the catalog may be another.
    split : {"test", "validation", "train", "all"}
        ``"all"`` is every labelled image, for a catalog that the head has never seen.

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
        The split holds no labelled image, or none that the head was not fitted on.
    HeadError
        Images have labels that the head does not know, or their features are unfit.
    """
    head.check_fingerprint(table.fingerprint, spec=table.spec)
    if split not in (*SPLITS, "all"):
        raise SplitError(f"a split is one of {', '.join(SPLITS)} or all; found {split!r}")
    labels = head.labels_of(table)
    chosen = labels != ""
    if split != "all":
        chosen &= np.asarray(table.splits(head.split_rule)) == split
    chosen &= ~_are_removed(head, labels, chosen)
    rows = np.flatnonzero(chosen)
    if not len(rows):
        raise SplitError(
            f"the catalog {table.catalog_name} has no labelled image in {split}; "
            "choose another split, or fit with a larger fraction for it"
        )
    check_labels_known(head, labels[rows])
    predicted, probabilities = predictions(head, table, rows)
    is_fitted, is_chosen = head.was_fitted_on(table)[rows], head.was_chosen_on(table)[rows]
    masks = {"held_out": ~is_fitted & ~is_chosen, "chosen_on": is_chosen, "fitted_on": is_fitted}
    is_right = predicted == labels[rows]
    parts = [
        {"part": part, **scored(int(is_right[mask].sum()), int(mask.sum()))}
        for part, mask in masks.items()
        if mask.any()
    ]
    is_scored = ~is_fitted
    if split == "train" or (split == "validation" and is_fitted.all()):
        is_scored = np.ones(len(rows), np.bool_)
        _logger.warning(
            "the head %s was fitted on %d of the %d images in %s: scores on them are too good",
            head.name,
            is_fitted.sum(),
            len(rows),
            split,
        )
    elif not is_scored.any():
        raise SplitError(
            f"the head {head.name} was fitted on all {len(rows)} labelled images in {split} of the catalog "
            f"{table.catalog_name}: they say nothing of others; score it on images that it has not seen, or "
            "by folds with cross_evaluate (`featstore evaluate --folds`)"
        )
    unit, units = resampling_units(table, rows[is_scored], head.split_rule)
    return score_images(
        classes=head.classes,
        labels=labels[rows[is_scored]],
        predicted=predicted[is_scored],
        probabilities=probabilities[is_scored],
        paths=table.paths[rows[is_scored]],
        unit=unit,
        units=units,
        often=head.counts["train"],
        split=split,
        test_views=head.test_views,
        parts=parts,
        scored=[part["part"] for part in parts if (is_scored & masks[part["part"]]).any()],
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
    """Score predictions.

    Parameters
    ----------
    classes : ndarray of shape (n_classes,), str
        Sorted.
    labels, predicted, paths : ndarray of shape (n,), str
        Of images, at least one.
    probabilities : ndarray of shape (n, n_classes), float64
    unit : str
    units : ndarray of shape (n,), int
        What is resampled together: :func:`resampling_units`.
    often : mapping of str to int
        Of each label how many images were fitted on.
    **more
        Further fields of the evaluation.
    """
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


def _are_removed(head: Head, labels: NDArray[np.str_], chosen: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which images are of classes that were removed from a head, with a warning for those chosen."""
    removed = [label for label, name in head.renamed.items() if not name]
    removed = sorted({*removed, *(f"{label} (removed)" for label in removed)} - {*head.classes.tolist()})
    if not removed:
        return np.zeros(len(labels), np.bool_)
    are_removed = np.isin(labels, removed)
    if n_left_out := int((are_removed & chosen).sum()):
        names = ", ".join(sorted({*labels[are_removed & chosen].tolist()}))
        _logger.warning(
            "left out %s of classes that were removed from the head: %s",
            f"{n_left_out:,} image{'s' * (n_left_out > 1)}",
            names,
        )
    return are_removed


def check_labels_known(head: Head, labels: NDArray[np.str_], *, name: str | None = None) -> None:
    """Refuse images whose labels a head does not know.

    Parameters
    ----------
    head : Head
    labels : ndarray of shape (n,), str
    name : str, optional
        What the user calls it.

    Raises
    ------
    HeadError
        The message names the labels.
    """
    unknown = sorted(set(labels.tolist()) - set(head.classes.tolist()))
    if unknown:
        n_unknown = int(np.isin(labels, unknown).sum())
        named = ", ".join(unknown[:5]) + (" …" if len(unknown) > 5 else "")
        called = name or head.name
        idle = sorted({*head.classes.tolist()} - {*labels.tolist()})
        # One class without an image beside one label without a class: it is likely to have a new name.
        pair = f"{idle[0]}={unknown[0]}" if len(idle) == len(unknown) == 1 else "OLD=NEW"
        raise HeadError(
            f"{n_unknown} of {len(labels)} images have labels that the head {called} does not know: "
            f"{named}; where the catalog calls its classes otherwise now, `featstore head classes` with "
            f"--rename {shlex.quote(pair)} renames them; else fit a head on a catalog that has these labels"
        )


def predictions(
    head: Head, table: "FeatureTable", at: NDArray[np.intp]
) -> tuple[NDArray[np.str_], NDArray[np.float64]]:
    """Predict some images' labels and probabilities, each by as many views as the head asks for.

    They are read in blocks: a memory map is never gathered whole.

    Raises
    ------
    HeadError
        The table's rows are views.
    NotInStoreError
        An image lacks some of these views.
    """
    check_images(table)
    rows = rows_of_images(table, at, n_views=head.test_views, name="the table")
    predicted: list[NDArray[np.str_]] = []
    probabilities: list[NDArray[np.float64]] = []
    for _, block in rows.image_blocks():
        labels, likely = head.predict_with_proba(block)
        predicted.append(labels)
        probabilities.append(likely)
    return np.concatenate(predicted), np.concatenate(probabilities)


def resampling_units(
    table: "FeatureTable", rows: NDArray[np.intp], rule: SplitRule
) -> tuple[str, NDArray[np.intp]]:
    """Say which images are to be resampled together: those that a split rule keeps together.

    Copies of one file tell nothing new, and neither do ten images of one patient tell as much as ten
    patients.

    Parameters
    ----------
    table : FeatureTable
    rows : ndarray of shape (n,), int
    rule : SplitRule

    Returns
    -------
    unit : str
        ``"image"``, or what the rule goes by.
    units : ndarray of shape (n,), int
        Each image's unit.
    """
    keys = np.asarray(table.group_keys(rule))[rows]
    return "image" if rule.by == "content" else rule.by, np.unique(keys, return_inverse=True)[1]


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
