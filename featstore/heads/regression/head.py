"""A fitted head that predicts a number."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from featstore.backbones.spec import BackboneSpec, JoinedSpec, spec_from_dict
from featstore.errors import HeadError, TargetError
from featstore.heads.data.blocks import usable_features
from featstore.heads.files.head_file import NUMBER
from featstore.heads.forms.kernel import KernelForm
from featstore.heads.forms.linear import LinearForm
from featstore.heads.forms.neighbors import NeighborForm
from featstore.heads.question_head import QuestionHead
from featstore.heads.regression.intervals import are_held_out_errors, interval_half_width
from featstore.heads.regression.scores import SCORES
from featstore.heads.seen import SeenImages
from featstore.splits import SplitRule

if TYPE_CHECKING:
    from featstore.store.tables.table import FeatureTable

__all__ = ["RegressionHead"]

_BLOCK_ROWS = 8192
_KINDS: Mapping[str, type] = {
    **dict.fromkeys(("name", "target", "catalog", "space", "created"), str),
    **dict.fromkeys(("params", "n_images", "train_numbers", "versions", "catalog_digests"), dict),
    **dict.fromkeys(("sweep", "fitted_on"), list),
}


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class RegressionHead(QuestionHead):
    """A head that predicts a number of each image, on the features of one space.

    Created by :func:`featstore.fit_regression` or :func:`featstore.load_head`.

    Parameters
    ----------
    name : {"knn", "rbf", "ridge"}
    target : str
        Name of the number: the column that it came from.
    spec : BackboneSpec or JoinedSpec
        Backbone, or several, whose features it was fitted on.
    fingerprint : str
        Fingerprint of the spec.
    feature_dim : int
        Number of features of an image.
    split_rule : SplitRule
        Rule that assigned train, validation and test.
    params : dict
        Parameters of the regression, chosen and fixed.
    n_images : dict of str to int
        Number of images of each split whose number is known.
    train_numbers : dict
        ``{"smallest", "mean", "largest", "std"}`` of the numbers in train.
    unlabelled : int
        Number of images left out because their number is not known.
    weighted : bool
        Whether it was fitted with the catalog's weights of images.
    sweep : list of dict
        ``{"params", "mae", "rmse"}`` of each setting tried, on validation.
    fitted_on : list of str
        The splits that it was fitted on.
    validation, test : dict
        ``{"n", "mae", "rmse", "r2"}``: mean absolute error, root mean squared error and R², None if n is 0.
        ``validation`` is that of the fit on train alone, on images that parameters were chosen on.
    held_out_errors : list of float
        Absolute errors on validation of the fit on train alone, ascending: prediction intervals are
        calibrated on them.
    seed : int
        Random seed.
    weights : str, or tuple of str
        Source of the backbone's weights, or one for each joined backbone.
    catalog, space : str
        Names of the catalog and the space that it was fitted on.
    catalog_digests : dict of str to str
        Digest of each catalog as it was then (:attr:`FeatureTable.catalog_digests`).
    created : str
        ISO 8601 date and time, UTC.
    versions : dict
        Versions of featstore, scikit-learn, numpy and skops.
    seen : SeenImages
        Images that it was fitted on, and those that its parameters were chosen on, by content.
    form : LinearForm, KernelForm or NeighborForm
        What computes the number.

    Examples
    --------
    >>> import featstore
    >>> head = featstore.fit_regression(numbers, head="ridge")
    >>> head
    <RegressionHead ridge: age on scattering-ae50c2eb555b>
    >>> head.predict(numbers.X[:3]).shape
    (3,)
    """

    question: ClassVar[str] = NUMBER

    name: str
    target: str
    spec: BackboneSpec | JoinedSpec
    fingerprint: str
    feature_dim: int
    split_rule: SplitRule
    params: dict[str, Any]
    n_images: dict[str, int]
    train_numbers: dict[str, float]
    unlabelled: int
    weighted: bool
    sweep: list[dict[str, Any]]
    fitted_on: list[str]
    validation: dict[str, Any]
    test: dict[str, Any]
    held_out_errors: list[float]
    seed: int
    weights: str | tuple[str, ...]
    catalog: str
    space: str
    catalog_digests: dict[str, str]
    created: str
    versions: dict[str, str]
    seen: SeenImages
    form: LinearForm | KernelForm | NeighborForm

    def __post_init__(self) -> None:
        if (self.form.n_classes, self.form.feature_dim) != (1, self.feature_dim):
            raise HeadError("the regression does not match the number of features")
        if self.spec.fingerprint != self.fingerprint:
            raise HeadError("the fingerprint is not that of the backbone's specification")

    def __repr__(self) -> str:
        return f"<RegressionHead {self.name}: {self.target} on {self.space or self.spec.name}>"

    @property
    def classes(self) -> NDArray[np.str_]:
        """The labels that it gives, str of shape (0,): none."""
        return np.empty(0, np.str_)

    @property
    def test_views(self) -> int:
        """Number of views of each image that it looks at: 1, the image itself."""
        return 1

    @property
    def rejects_below(self) -> float:
        """Always 0: it has no probabilities."""
        return 0.0

    def predict(self, X: Any) -> NDArray[np.float64]:
        """Predict the number of each image.

        Parameters
        ----------
        X : array_like of shape (n, feature_dim), float

        Returns
        -------
        ndarray of shape (n,), float64

        Raises
        ------
        HeadError
            ``X`` has another shape, or contains NaN or infinity.
        """
        rows = X if hasattr(X, "shape") and hasattr(X, "dtype") else np.asarray(X)
        if len(rows.shape) != 2 or rows.shape[1] != self.feature_dim:
            raise HeadError(
                f"the head {self.name} takes features of shape (n, {self.feature_dim}); "
                f"found {tuple(rows.shape)}"
            )
        parts = [
            self.form.scores(usable_features(rows[start : start + _BLOCK_ROWS]))[:, 0]
            for start in range(0, len(rows), _BLOCK_ROWS)
        ]
        return np.concatenate(parts) if parts else np.empty(0)

    def interval_half_width(self, coverage: float) -> float:
        """Return how far a prediction interval reaches to either side of the predicted number.

        An image's number is within this of the predicted one with the probability ``coverage`` if it is drawn
        as the validation images were (split conformal prediction).

        Parameters
        ----------
        coverage : float
            In (0, 1).

        Raises
        ------
        HeadError
            ``coverage`` is no such fraction, or the head was fitted with too few validation images for it.
        """
        return interval_half_width(self.held_out_errors, coverage=coverage, name=f"the head {self.name}")

    def target_of(self, table: "FeatureTable") -> NDArray[np.float64]:
        """Return the numbers of a table's images; raise TargetError unless they are the head's.

        Parameters
        ----------
        table : FeatureTable
        """
        if table.target_name and table.target_name != self.target:
            raise TargetError(
                f"the head {self.name} predicts {self.target}, and the catalog {table.catalog_name} holds "
                f"{table.target_name}: fit a head on it, or extract its list with --target {self.target}"
            )
        return table.target

    @classmethod
    def _checked(cls, manifest: Mapping[str, Any]) -> dict[str, Any]:
        values = {name: manifest[name] for name in cls.manifest_fields()}
        fit = {
            **{name: isinstance(values[name], kind) for name, kind in _KINDS.items()},
            **{name: set(values[name]) == {"n", *SCORES} for name in ("validation", "test")},
            "train_numbers": _are_numbers(values["train_numbers"]),
            "held_out_errors": are_held_out_errors(values["held_out_errors"]),
        }
        if unfit := [name for name, is_fit in fit.items() if not is_fit]:
            raise HeadError(f"its {unfit[0]} is invalid: {str(values[unfit[0]])[:80]}")
        weights = values["weights"]
        return {
            **values,
            "spec": spec_from_dict(values["spec"]),
            "split_rule": SplitRule.from_dict(values["split_rule"]),
            "weights": tuple(weights) if isinstance(weights, list) else weights,
        }


def _are_numbers(values: Any) -> bool:
    return (
        isinstance(values, dict)
        and set(values) == {"smallest", "mean", "largest", "std"}
        and all(isinstance(value, float | int) and np.isfinite(value) for value in values.values())
        and values["std"] > 0
    )
