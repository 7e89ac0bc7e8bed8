"""The images that a network is tuned and validated on, and the head that it starts from."""

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featstore.errors import FingerprintMismatchError, HeadError, SplitError, TuningError
from featstore.heads import known_heads
from featstore.heads.data.partition import split_rows
from featstore.heads.fitting.training import fit
from featstore.heads.mismatch import differences
from featstore.heads.seen import SeenImages
from featstore.messages import listed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from featstore.heads.forms.linear import LinearForm
    from featstore.heads.head import Head
    from featstore.splits import SplitRule
    from featstore.store.tables.table import FeatureTable

__all__ = ["Division", "class_weights", "divide", "image_weights"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, eq=False)
class Division:
    """Rows of a table by their use, and the linear head to start from."""

    rule: "SplitRule"
    train: NDArray[np.intp]  # rows of the table
    validation: NDArray[np.intp]
    y: NDArray[np.intp]  # class of each row, -1 without a label
    probe: "Head"  # fitted without the validation images
    counts: dict[str, dict[str, int]]  # of images by split and label

    @property
    def form(self) -> "LinearForm":
        """The probe as a matrix and a vector, its temperature included."""
        form = self.probe.linear
        assert form is not None
        return form


def divide(head: "Head", table: "FeatureTable") -> Division:
    """Divide a table by a head's rule, and check that the head can be tuned on it."""
    _check_head(head, table)
    labels = np.array(head.labels_of(table))
    is_left_out = head.are_of_removed_classes(labels)
    labels[is_left_out] = ""
    rule, rows = split_rows(table, labels, head.split_rule, chooses=True)
    _check_classes(head, labels, rows["train"])
    hashes = np.asarray(table.content_hash_bytes)
    in_train = SeenImages.of(hashes[rows["train"]]).have_fitted(hashes)
    validation = rows["validation"][~in_train[rows["validation"]]]
    if not len(validation):
        raise SplitError(
            "no labelled image is in validation, by which the epoch is chosen; fit the head with a larger "
            f"--validation than {head.split_rule.validation:g}"
        )
    probe = head
    if head.was_fitted_on(table)[validation].any():
        known = table.select(np.flatnonzero(~is_left_out)) if is_left_out.any() else table
        probe = _fitted_again(head, known if head.weighted else known.without_weights())
    y = np.full(len(labels), -1, np.intp)
    y[labels != ""] = np.searchsorted(head.classes, labels[labels != ""])
    names = head.classes.tolist()
    counts = {
        split: dict(zip(names, np.bincount(y[at], minlength=len(names)).tolist(), strict=True))
        for split, at in (("train", rows["train"]), ("validation", validation), ("test", rows["test"]))
    }
    return Division(rule=rule, train=rows["train"], validation=validation, y=y, probe=probe, counts=counts)


def class_weights(
    wanted: "str | Mapping[str, float] | None", classes: NDArray[np.str_], y: NDArray[np.intp]
) -> NDArray[np.float32]:
    """Return the weight of an image of each class, whose mean over the training images is 1."""
    counts = np.bincount(y, minlength=len(classes))
    if wanted is None:
        return np.ones(len(classes), np.float32)
    if wanted == "balanced":
        weights = 1 / counts
    elif isinstance(wanted, str) or not {*wanted} <= {*classes.tolist()}:
        raise TuningError(
            f"class_weight must be 'balanced' or weights of {listed(classes.tolist())}; found {wanted!r}"
        )
    else:
        weights = np.array([float(wanted.get(name, 1.0)) for name in classes.tolist()])
        if not (np.isfinite(weights).all() and (weights >= 0).all() and (weights @ counts) > 0):
            raise TuningError(f"weights of classes must be numbers of at least 0; found {dict(wanted)}")
    return np.asarray(weights * counts.sum() / (weights @ counts), np.float32)


def image_weights(
    of_classes: NDArray[np.float32], division: Division, table: "FeatureTable"
) -> NDArray[np.float32]:
    """Return the weight of each row in training, its class's and its own; over all of these its mean is 1."""
    weights = np.asarray(of_classes[division.y], np.float64)
    if table.sample_weight is not None:
        weights *= table.sample_weight
        weights /= weights[division.train].mean()
    return np.asarray(weights, np.float32)


def _check_head(head: "Head", table: "FeatureTable") -> None:
    if head.fingerprint != table.fingerprint:
        raise FingerprintMismatchError(
            f"the head {head.name} was fitted on features of {head.spec.name}, and the table's are of "
            f"{table.spec.name}: {', '.join(differences(head.spec, table.spec))}"
        )
    if len(head.spec.parts) > 1:
        raise TuningError(
            f"the head {head.name} is on {len(head.spec.parts)} networks joined; fit one on a single space"
        )
    if head.linear is None:
        raise TuningError(
            f"the head {head.name} is not linear; tuning starts from a linear head, such as logistic or svm "
            "(see `featstore heads`)"
        )
    if table.views.any():
        raise TuningError("tuning takes a table with a row for each image; found one of views")
    if any(part.precision != "float32" for part in head.spec.parts):
        raise TuningError(
            f"the features of {head.spec.name} were computed in bfloat16, and tuning computes in float32; "
            "extract them with --precision float32"
        )


def _check_classes(head: "Head", labels: NDArray[np.str_], train: NDArray[np.intp]) -> None:
    known = head.classes.tolist()
    found = {*labels.tolist()} - {""}
    if unknown := sorted(found - {*known}):
        raise HeadError(
            f"the head {head.name} does not know the classes {listed(unknown)}; fit a head on these images, "
            "or add them with featstore extend"
        )
    if absent := sorted({*known} - {*labels[train].tolist()}):
        raise HeadError(
            f"no training image has the labels {listed(absent)}, which are classes of the head {head.name}: "
            "the network would forget them; tune a head whose classes all have images"
        )


def _fitted_again(head: "Head", table: "FeatureTable") -> "Head":
    """Fit the head with its own parameters on train alone, so that validation is new to it."""
    if head.name not in {info.name for info in known_heads()} or any(head.renamed.values()):
        raise TuningError(
            f"the head {head.name} was fitted on the validation images too, by which the epoch is chosen; "
            "fit it without them (refit=False, --no-refit)"
        )
    params: dict[str, Any] = dict(head.params)
    views = {"train": head.train_views, "test": head.test_views}
    _log.info("fitting %s again on train alone, since validation chooses the epoch", head.name)
    again = fit(
        table, head=head.name, params=params, rule=head.split_rule, views=views, seed=head.seed, refit=False
    )
    if again.linear is None or again.classes.tolist() != head.classes.tolist():
        raise TuningError(f"the head {head.name} cannot be fitted again on train alone: fit it anew")
    return again
