"""Folds of labelled images, each predicted by a head that was fitted on the others."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from featstore.errors import HeadError, SplitError
from featstore.heads.data.view_counts import check_images
from featstore.heads.fitting.training import fit
from featstore.heads.head import Head
from featstore.scoring.fold_groups import FoldGroups, assign_folds, find_fold_groups
from featstore.scoring.predictions import predict_images
from featstore.splits import SplitRule
from featstore.stats.metrics import log_loss

if TYPE_CHECKING:
    from featstore.store.tables.table import FeatureTable

__all__ = ["CrossFolds", "FoldPrediction", "FoldResults"]


@dataclass(frozen=True, kw_only=True, eq=False)
class FoldPrediction:
    """A head fitted without a fold, and what it predicts there."""

    head: Head
    rows: NDArray[np.intp]  # (n,): of the labelled images, without those of classes that the head lacks
    predicted: NDArray[np.str_]  # (n,)
    probabilities: NDArray[np.float64]  # (n, n_classes): of all classes


@dataclass(frozen=True, kw_only=True, eq=False)
class CrossFolds:
    """A division of a table's labelled images into folds."""

    table: "FeatureTable"  # of labelled images alone
    labels: NDArray[np.str_]
    classes: NDArray[np.str_]
    y: NDArray[np.intp]
    together: FoldGroups
    fold_of: NDArray[np.intp]  # -1 for classes that no fold can hold out
    folds: int
    rule: SplitRule

    @classmethod
    def of(cls, table: "FeatureTable", rule: SplitRule, *, folds: int) -> Self:
        """Divide a table; raise HeadError or SplitError if that is impossible."""
        if isinstance(folds, bool) or not isinstance(folds, int) or folds < 2:
            raise SplitError(f"folds must be an integer of at least 2; found {folds!r}")
        check_images(table)
        labelled = table.select(np.flatnonzero(np.asarray(table.y) != ""))
        if not len(labelled):
            raise HeadError(f"the catalog {table.catalog_name} has no labels ({len(table)} images)")
        labels = np.asarray(labelled.y)
        classes, y = np.unique(labels, return_inverse=True)
        together = find_fold_groups(labelled, rule, folds=folds)
        fold_of = assign_folds(together.keys, y, folds=folds, salt=rule.salt)
        n_usable = len(np.unique(y[fold_of >= 0]))
        if n_usable < 2:
            raise HeadError(
                f"the catalog {table.catalog_name} has {n_usable} classes whose images can be held out; "
                "expected at least 2: label more images, or correct the groups"
            )
        if missing := folds - len(np.unique(fold_of[fold_of >= 0])):
            raise SplitError(f"{missing} of {folds} folds would be empty; use fewer folds")
        return cls(
            table=labelled,
            labels=labels,
            classes=classes,
            y=y,
            together=together,
            fold_of=fold_of,
            folds=folds,
            rule=rule,
        )

    def units(self, at: NDArray[np.intp]) -> NDArray[np.intp]:
        """Return which group each of some images belongs to, as numbers."""
        return np.asarray(np.unique(np.asarray(self.together.keys)[at], return_inverse=True)[1], np.intp)

    def unit(self, at: NDArray[np.intp]) -> str:
        """Return what is independent among some images: ``"image"``, or what groups are by."""
        n_units = len(np.unique(self.units(at)))
        return "near-duplicates" if self.together.by == "image" and n_units < len(at) else self.together.by

    def predict(
        self, fold: int, *, head: Any, seed: int, jobs: int | None, options: Mapping[str, Any]
    ) -> FoldPrediction:
        """Fit a head on all folds but one, its parameters chosen inside of them, and predict that one."""
        splits = self._splits(fold)
        # Groups are kept together by the given splits.
        inner = SplitRule(test=0, validation=self.rule.validation, salt=self.rule.salt)
        fitted = fit(self.table.with_splits(splits), head=head, rule=inner, seed=seed, jobs=jobs, **options)
        rows = np.flatnonzero(splits == "test")
        rows = rows[np.isin(self.labels[rows], fitted.classes)]
        predicted, likely = predict_images(fitted, self.table, rows)
        probabilities = np.zeros((len(rows), len(self.classes)))
        probabilities[:, np.searchsorted(self.classes, fitted.classes)] = likely
        return FoldPrediction(head=fitted, rows=rows, predicted=predicted, probabilities=probabilities)

    def _splits(self, fold: int) -> NDArray[np.str_]:
        """Return each image's split while a fold is held out."""
        splits = np.full(len(self.y), "train", "<U10")
        splits[self.fold_of == fold] = "test"
        rule = self.rule
        if rule.validation:
            inside = np.flatnonzero(self.fold_of != fold)
            keys = [self.together.keys[at] for at in inside.tolist()]
            n_parts = max(2, round((1 - rule.test) / rule.validation))
            parts = assign_folds(keys, self.y[inside], folds=n_parts, salt=f"{rule.salt}#inside")
            splits[inside[parts == 0]] = "validation"
        return splits


class FoldResults:
    """Predictions of a kind of head in the folds so far."""

    def __init__(self, divided: CrossFolds) -> None:
        self._divided = divided
        self.is_right = np.zeros(len(divided.y), np.bool_)
        self.is_predicted = np.zeros(len(divided.y), np.bool_)
        self.probabilities = np.zeros(len(divided.y))  # of the label
        self.seconds: list[float] = []

    def add(self, found: FoldPrediction) -> None:
        """Take over the predictions of a fold."""
        rows = found.rows
        self.is_right[rows] = found.predicted == self._divided.labels[rows]
        self.is_predicted[rows] = True
        self.probabilities[rows] = found.probabilities[np.arange(len(rows)), self._divided.y[rows]]

    @property
    def top1(self) -> float:
        """Accuracy so far."""
        return float(self.is_right[self.is_predicted].mean())

    def log_loss(self, at: NDArray[np.intp]) -> float:
        """Return the cross entropy on some images, in nats."""
        return log_loss(self.probabilities[at][:, np.newaxis], np.zeros(len(at), np.intp))
