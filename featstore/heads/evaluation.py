"""How good a head is, always with n and an interval."""

import math
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featstore.errors import HeadError, SplitError
from featstore.heads.head import Head
from featstore.splits import SPLITS

if TYPE_CHECKING:
    from featstore.store.table import FeatureTable

__all__ = ["Evaluation", "evaluate", "score", "wilson_interval"]

_BLOCK_ROWS = 8192


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What a head gets right and wrong on the labelled images of one split.

    Parameters
    ----------
    split : str
        ``"train"``, ``"validation"``, ``"test"`` or ``"all"``.
    n : int
        Number of images.
    top1 : float
        Accuracy: the fraction whose label is predicted, in [0, 1].
    top1_ci : tuple of float
        Its 95% Wilson interval.
    top5 : float or None
        The fraction whose label is among the five most probable; None with five classes or fewer.
    classes : list of dict
        ``{"label", "n", "precision", "recall"}`` for each class; n is how many images have the label.
        Precision is None where the label was never predicted, recall where n is 0.
    confusion : list of list of int
        Row: the label; column: the prediction; both in the order of ``classes``.
    misclassified : list of dict
        ``{"path", "label", "predicted", "probability"}``; the probability is that of the prediction, and
        the surest mistakes come first.
    """

    split: str
    n: int
    top1: float
    top1_ci: tuple[float, float]
    top5: float | None
    classes: list[dict[str, Any]]
    confusion: list[list[int]]
    misclassified: list[dict[str, Any]]

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values; ``top5`` is left out where it is None."""
        values = asdict(self) | {"top1_ci": list(self.top1_ci)}
        if self.top5 is None:
            del values["top5"]
        return values


def evaluate(head: Head, table: "FeatureTable", *, split: str = "test") -> Evaluation:
    """Score a head on the labelled images of one split, as its own split rule deals them.

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
    SplitError
        The split holds no labelled image.
    HeadError
        Images have labels that the head does not know, or their features are unfit.
    """
    head.check_fingerprint(table.fingerprint, spec=table.spec)
    if split not in (*SPLITS, "all"):
        raise SplitError(f"a split is one of {', '.join(SPLITS)} or all; found {split!r}")
    labels = np.asarray(table.y)
    chosen = labels != ""
    if split != "all":
        chosen &= np.asarray(table.splits(head.split_rule)) == split
    rows = np.flatnonzero(chosen)
    if not len(rows):
        raise SplitError(
            f"the catalog {table.catalog_name} has no labelled image in {split}; "
            "choose another split, or fit with a larger fraction for it"
        )
    labels = labels[rows]
    if unknown := sorted(set(labels.tolist()) - set(head.classes.tolist())):
        n_unknown = int(np.isin(labels, unknown).sum())
        named = ", ".join(unknown[:5]) + (" …" if len(unknown) > 5 else "")
        raise HeadError(
            f"{n_unknown} of {len(rows)} images have labels that the head {head.name} does not know: "
            f"{named}; fit a head on a catalog that has them"
        )
    predicted, probabilities = _predictions(head, table.X, rows)
    true, guess = np.searchsorted(head.classes, labels), np.searchsorted(head.classes, predicted)
    n_classes = len(head.classes)
    confusion = np.bincount(true * n_classes + guess, minlength=n_classes**2).reshape(n_classes, n_classes)
    n_right = int(confusion.trace())
    wrong = np.flatnonzero(true != guess)
    sureness = probabilities[wrong, guess[wrong]]
    paths = table.paths
    return Evaluation(
        split=split,
        n=len(rows),
        top1=n_right / len(rows),
        top1_ci=wilson_interval(n_right, len(rows)),
        top5=_top_k(probabilities, true, 5) if n_classes > 5 else None,
        classes=_per_class(head.classes, confusion),
        confusion=confusion.tolist(),
        misclassified=[
            {
                "path": str(paths[rows[at]]),
                "label": str(labels[at]),
                "predicted": str(predicted[at]),
                "probability": float(probabilities[at, guess[at]]),
            }
            for at in wrong[np.argsort(-sureness, kind="stable")]
        ],
    )


def wilson_interval(correct: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Give the interval that a fraction's true value lies in, from ``correct`` successes in ``n`` trials.

    The score interval of Wilson (J. Am. Stat. Assoc. 22, 1927, p. 209), which Brown, Cai & DasGupta
    (Statistical Science 16, 2001, p. 101) recommend for small n. It takes the trials as independent.

    Parameters
    ----------
    correct, n : int
        0 <= correct <= n, and n at least 1.
    confidence : float
        In (0, 1).

    Returns
    -------
    tuple of float
        Lower and upper end, in [0, 1].

    Raises
    ------
    HeadError
        The numbers are outside their ranges.

    Examples
    --------
    >>> low, high = wilson_interval(95, 100)
    >>> round(low, 4), round(high, 4)
    (0.8882, 0.9785)
    """
    if not 0 <= correct <= n or n < 1 or not 0 < confidence < 1:
        raise HeadError(
            "an interval needs 0 <= correct <= n, n >= 1 and 0 < confidence < 1; "
            f"found correct={correct}, n={n} and confidence={confidence}"
        )
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    fraction = correct / n
    centre = fraction + z**2 / (2 * n)
    half = z * math.sqrt(fraction * (1 - fraction) / n + z**2 / (4 * n**2))
    low, high = ((centre + side) / (1 + z**2 / n) for side in (-half, half))
    # Both are exact at the ends but for rounding.
    return (0.0 if correct == 0 else low), (1.0 if correct == n else high)


def score(labels: NDArray[np.str_], predicted: NDArray[np.str_]) -> dict[str, Any]:
    """Return ``{"n", "top1", "top1_ci"}``: accuracy and its 95% interval, None where there is no image."""
    n_images = len(labels)
    if not n_images:
        return {"n": 0, "top1": None, "top1_ci": None}
    n_right = int((labels == predicted).sum())
    return {"n": n_images, "top1": n_right / n_images, "top1_ci": list(wilson_interval(n_right, n_images))}


def _predictions(head: Head, X: Any, rows: NDArray[np.intp]) -> tuple[NDArray[np.str_], NDArray[np.float64]]:
    """Predict in blocks, so that a memory map is never gathered whole."""
    blocks = [X[rows[start : start + _BLOCK_ROWS]] for start in range(0, len(rows), _BLOCK_ROWS)]
    predicted = [head.predict(block) for block in blocks]
    return np.concatenate(predicted), np.concatenate([head.predict_proba(block) for block in blocks])


def _top_k(probabilities: NDArray[np.float64], true: NDArray[np.intp], k: int) -> float:
    """Return the fraction of rows whose true class ranks among the first k; ties go to the lower column."""
    own = probabilities[np.arange(len(true)), true][:, None]
    before = np.arange(probabilities.shape[1]) < true[:, None]
    rank = ((probabilities > own) | ((probabilities == own) & before)).sum(axis=1)
    return float((rank < k).mean())


def _per_class(classes: NDArray[np.str_], confusion: NDArray[np.intp]) -> list[dict[str, Any]]:
    right, n_true, n_predicted = confusion.diagonal(), confusion.sum(axis=1), confusion.sum(axis=0)
    return [
        {
            "label": str(label),
            "n": int(n_true[at]),
            "precision": float(right[at] / n_predicted[at]) if n_predicted[at] else None,
            "recall": float(right[at] / n_true[at]) if n_true[at] else None,
        }
        for at, label in enumerate(classes)
    ]
