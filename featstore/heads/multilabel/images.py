"""Images that may have several labels, as solvers take them."""

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from featstore.errors import HeadError, SplitError
from featstore.heads.calibration import mean_over_views
from featstore.heads.data.blocks import Rows, rows_of_images
from featstore.heads.data.view_counts import Views
from featstore.heads.forms.kernel import KernelForm
from featstore.heads.forms.linear import LinearForm
from featstore.heads.multilabel.decisions import sigmoid
from featstore.messages import listed

if TYPE_CHECKING:
    from featstore.store.tables.table import FeatureTable

__all__ = ["LabelImages", "learnable_labels", "mean_probabilities"]


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelImages:
    """Images whose labels are known, and which of them have which label."""

    table: "FeatureTable"
    at: NDArray[np.intp]  # (n,): rows of the table
    has: NDArray[np.bool_]  # (n, n_classes)
    weights: NDArray[np.float64] | None = None  # (n,): how much each counts in a fit
    views: Views = field(default_factory=Views)
    name: str

    def __len__(self) -> int:
        return len(self.at)

    @property
    def to_fit(self) -> tuple[Rows, NDArray[np.bool_], NDArray[np.float64] | None]:
        """Features of all training views, with their labels and weights."""
        n_views = self.views.train
        rows = rows_of_images(self.table, self.at, n_views=n_views, name=self.name, are_one=False)
        if n_views == 1:
            return rows, self.has, self.weights
        weights = None if self.weights is None else np.repeat(self.weights, n_views)
        return rows, np.repeat(self.has, n_views, axis=0), weights

    @classmethod
    def of(cls, table: "FeatureTable", has: NDArray[np.bool_], views: Views) -> "LabelImages":
        """Return the images of a table whose labels are known; ``has`` is of all its rows."""
        at = np.flatnonzero(table.is_labelled)
        weights = table.sample_weight
        if weights is not None:
            # So that penalties mean what they mean without weights.
            weights = weights[at] / weights[at].mean()
        return cls(table=table, at=at, has=has[at], weights=weights, views=views, name="the catalog")

    def some(self, at: NDArray[np.intp], name: str | None = None) -> "LabelImages":
        """Return a subset, by positions."""
        weights = None if self.weights is None else self.weights[at]
        return replace(self, at=self.at[at], has=self.has[at], weights=weights, name=name or self.name)

    def scores(self, form: LinearForm | KernelForm) -> NDArray[np.float64]:
        """Return the scores of the test views, image by image, (n * n_views, n_classes)."""
        if not len(self):
            return np.empty((0, form.n_classes))
        rows = rows_of_images(self.table, self.at, n_views=self.views.test, name=self.name)
        return np.concatenate([form.scores(block) for _, block in rows.blocks()])

    def probabilities(self, form: LinearForm | KernelForm) -> NDArray[np.float64]:
        """Return the probabilities by a calibrated form, (n, n_classes)."""
        return mean_probabilities(self.scores(form), self.views.test)


def mean_probabilities(scores: NDArray[np.float64], n_views: int) -> NDArray[np.float64]:
    """Return the probabilities of images by the logits of their views, image by image."""
    return mean_over_views(sigmoid(scores), n_views)


def learnable_labels(
    table: "FeatureTable", train: NDArray[np.intp]
) -> tuple[NDArray[np.str_], NDArray[np.bool_]]:
    """Return the labels and which image of the table has which; raise if some cannot be learnt."""
    classes, has = np.asarray(table.classes), np.asarray(table.label_sets)
    if len(classes) < 2:
        raise HeadError(
            f"the catalog {table.catalog_name} has {len(classes)} labels; a head needs at least 2"
        )
    n_with = has[train].sum(axis=0)
    for is_lacking, what in ((n_with == 0, "has"), (n_with == len(train), "lacks")):
        if is_lacking.any():
            raise SplitError(
                f"no image in train {what} {listed(classes[is_lacking].tolist())}; add images, make "
                "--test and --validation smaller, or leave the label out of the list"
            )
    return classes, has
