"""A fitted head that gives several labels."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from featstore.backbones.spec import BackboneSpec, JoinedSpec, spec_from_dict
from featstore.errors import HeadError
from featstore.heads.calibration import mean_over_views
from featstore.heads.data.blocks import usable_features
from featstore.heads.data.view_counts import checked_views
from featstore.heads.files.head_file import LABELS
from featstore.heads.forms.kernel import KernelForm
from featstore.heads.forms.linear import LinearForm
from featstore.heads.multilabel.decisions import sigmoid
from featstore.heads.multilabel.scores import SCORES
from featstore.heads.question_head import QuestionHead
from featstore.heads.seen import SeenImages
from featstore.messages import listed
from featstore.splits import SplitRule

if TYPE_CHECKING:
    from featstore.store.tables.table import FeatureTable

__all__ = ["MultiLabelHead"]

_BLOCK_ROWS = 8192
_KINDS: Mapping[str, type] = {
    **dict.fromkeys(("name", "label_separator", "catalog", "space", "created"), str),
    **dict.fromkeys(("params", "counts", "n_images", "versions", "catalog_digests"), dict),
    **dict.fromkeys(("sweep", "fitted_on"), list),
}


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class MultiLabelHead(QuestionHead):
    """A head for images that have several labels: a classifier for each label, on the features of one space.

    Created by :func:`featstore.fit_labels` or :func:`featstore.load_head`.

    Parameters
    ----------
    name : {"logistic", "rbf", "ridge", "svm"}
    classes : ndarray of shape (n_classes,), str
        Labels, sorted; the columns of probabilities are in this order.
    thresholds : ndarray of shape (n_classes,), float64
        Probability from which on each label is given: the best F1 on validation.
    spec : BackboneSpec or JoinedSpec
        Backbone, or several, whose features it was fitted on.
    fingerprint : str
        Fingerprint of the spec.
    feature_dim : int
        Number of features of an image.
    split_rule : SplitRule
        Rule that assigned train, validation and test.
    params : dict
        Parameters of the classifiers, chosen and fixed.
    counts : dict
        Number of images with each label: ``{"train": {label: n}, "validation": {…}, "test": {…}}``.
    n_images : dict of str to int
        Number of images of each split.
    unlabelled : int
        Number of images left out because their labels are not known.
    weighted : bool
        Whether it was fitted with the catalog's weights of images.
    sweep : list of dict
        ``{"params", "map", "cross_entropy"}`` of each setting tried, on validation.
    folds : int or None
        Number of folds that parameters and thresholds were chosen by; None if on validation.
    fitted_on : list of str
        The splits that it was fitted on.
    validation, test : dict
        ``{"n", "map", "micro_f1", "macro_f1", "subset_accuracy"}``, each in [0, 1]; None if n is 0.
        ``validation`` is of the images that parameters and thresholds were chosen on: by the fit on train
        alone, or with folds by the fits without them.
    train_views, test_views : int
        Numbers of views of each image that it was fitted on, and that probabilities are averaged over.
    seed : int
        Random seed.
    label_separator : str
        What stands between the labels of an image in the catalog.
    weights : str, or tuple of str
        Source of the backbone's weights, or one for each joined backbone.
    catalog, space : str
        Names of the catalog and the space that it was fitted on.
    catalog_digests : dict of str to str
        Digest of each catalog as it was then (:attr:`FeatureTable.catalog_digests`); empty if unknown.
    created : str
        ISO 8601 date and time, UTC.
    versions : dict
        Versions of featstore, scikit-learn, numpy and skops.
    seen : SeenImages
        Images that it was fitted on, and those that its parameters were chosen on, by content.
    form : LinearForm or KernelForm
        What computes the logits.

    Examples
    --------
    >>> import featstore
    >>> head = featstore.fit_labels(several, head="ridge")
    >>> head
    <MultiLabelHead ridge: 4 labels on scattering-ae50c2eb555b>
    >>> head.predict_proba(several.X[:3]).shape
    (3, 4)
    """

    question: ClassVar[str] = LABELS

    name: str
    classes: NDArray[np.str_]
    thresholds: NDArray[np.float64]
    spec: BackboneSpec | JoinedSpec
    fingerprint: str
    feature_dim: int
    split_rule: SplitRule
    params: dict[str, Any]
    counts: dict[str, dict[str, int]]
    n_images: dict[str, int]
    unlabelled: int
    weighted: bool
    sweep: list[dict[str, Any]]
    folds: int | None
    fitted_on: list[str]
    validation: dict[str, Any]
    test: dict[str, Any]
    train_views: int
    test_views: int
    seed: int
    label_separator: str
    weights: str | tuple[str, ...]
    catalog: str
    space: str
    catalog_digests: dict[str, str]
    created: str
    versions: dict[str, str]
    seen: SeenImages
    form: LinearForm | KernelForm

    def __post_init__(self) -> None:
        n = len(self.classes)
        if self.thresholds.shape != (n,) or not ((self.thresholds >= 0) & (self.thresholds <= 1)).all():
            raise HeadError(f"thresholds must be {n} probabilities; found {self.thresholds}")
        if (self.form.n_classes, self.form.feature_dim) != (n, self.feature_dim):
            raise HeadError("the classifier does not match the classes or the number of features")
        if self.spec.fingerprint != self.fingerprint:
            raise HeadError("the fingerprint is not that of the backbone's specification")
        checked_views({"train": self.train_views, "test": self.test_views})

    def __repr__(self) -> str:
        return f"<MultiLabelHead {self.name}: {len(self.classes)} labels on {self.space or self.spec.name}>"

    @property
    def rejects_below(self) -> float:
        """Always 0: without a label probable enough, it gives none."""
        return 0.0

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Predict the probability of each label.

        Parameters
        ----------
        X : array_like of shape (n, feature_dim) or (n, n_views, feature_dim), float
            With several views of each image, their probabilities are averaged.

        Returns
        -------
        ndarray of shape (n, n_classes), float64
            In [0, 1]; labels are independent of each other, and rows have any sum.

        Raises
        ------
        HeadError
            ``X`` has another shape, or contains NaN or infinity.
        """
        rows = X if hasattr(X, "shape") and hasattr(X, "dtype") else np.asarray(X)
        shape = tuple(rows.shape)
        if len(shape) not in (2, 3) or shape[-1] != self.feature_dim or (len(shape) == 3 and not shape[1]):
            raise HeadError(
                f"the head {self.name} takes features of shape (n, {self.feature_dim}) or "
                f"(n, n_views, {self.feature_dim}); found {shape}"
            )
        n_views = shape[1] if len(shape) == 3 else 1
        step = max(1, _BLOCK_ROWS // n_views)
        parts = [
            mean_over_views(sigmoid(self.form.scores(usable_features(block))), n_views)
            for block in (
                rows[start : start + step].reshape(-1, self.feature_dim)
                for start in range(0, len(rows), step)
            )
        ]
        return np.concatenate(parts) if parts else np.empty((0, len(self.classes)))

    def predict(self, X: Any) -> NDArray[np.bool_]:
        """Predict which labels each image has, bool of shape (n, n_classes): those above their thresholds.

        Parameters
        ----------
        X : array_like of shape (n, feature_dim) or (n, n_views, feature_dim), float
        """
        return np.asarray(self.predict_proba(X) >= self.thresholds, np.bool_)

    def label_sets_of(self, table: "FeatureTable") -> NDArray[np.bool_]:
        """Return which image of a table has which of the head's labels, bool of shape (n, n_classes).

        Parameters
        ----------
        table : FeatureTable

        Raises
        ------
        HeadError
            Images have labels that the head does not know.
        """
        known = table.classes
        if unknown := sorted({*known.tolist()} - {*self.classes.tolist()}):
            raise HeadError(
                f"images have labels that the head {self.name} does not know: {listed(unknown)}; fit a head "
                "on a catalog with these labels"
            )
        has = np.zeros((len(table), len(self.classes)), np.bool_)
        has[:, np.searchsorted(self.classes, known)] = table.label_sets
        return has

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the form as JSON values; the keys are stable."""
        lists = {"classes": self.classes.tolist(), "thresholds": self.thresholds.tolist()}
        return super().to_dict() | lists

    @classmethod
    def _checked(cls, manifest: Mapping[str, Any]) -> dict[str, Any]:
        # Written later than the others.
        manifest = {"catalog_digests": {}, "folds": None, "train_views": 1, "test_views": 1, **manifest}
        values = {name: manifest[name] for name in cls.manifest_fields()}
        labels = values["classes"]
        if not all(isinstance(label, str) and label for label in labels) or sorted({*labels}) != labels:
            raise HeadError("its classes are not sorted names")
        for name, kind in _KINDS.items():
            if not isinstance(values[name], kind):
                raise HeadError(f"its {name} is invalid: {str(values[name])[:80]}")
        for name in ("validation", "test"):
            if set(values[name]) != {"n", *SCORES}:
                raise HeadError(f"its {name} is invalid: {str(values[name])[:80]}")
        weights = values["weights"]
        return {
            **values,
            "classes": np.array(labels, np.str_),
            "thresholds": np.array(values["thresholds"], np.float64),
            "spec": spec_from_dict(values["spec"]),
            "split_rule": SplitRule.from_dict(values["split_rule"]),
            "weights": tuple(weights) if isinstance(weights, list) else weights,
        }
