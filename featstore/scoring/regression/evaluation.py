"""Evaluation of a head that predicts a number."""

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featstore.errors import SplitError
from featstore.heads.data.blocks import Rows
from featstore.heads.regression.head import RegressionHead
from featstore.heads.regression.scores import SCORES, drawn_scores, score_values, unit_sums
from featstore.heads.regression.solving import form_values
from featstore.io.json_values import json_values
from featstore.scoring.predictions import resampling_units
from featstore.splits import SPLITS
from featstore.stats.intervals import REPLICATES, bootstrap, percentile_interval, wilson_interval

if TYPE_CHECKING:
    from featstore.store.tables.table import FeatureTable

__all__ = ["RegressionEvaluation", "evaluate_regression", "score_numbers"]

_logger = logging.getLogger(__name__)

_SEED = 0


@dataclass(frozen=True, kw_only=True)
class RegressionEvaluation:
    """Scores of a head that predicts a number, on the images of one split or of all folds.

    Intervals are 95% bootstrap intervals, by resampling units of images, see ``resampling``.

    Parameters
    ----------
    target : str
        Name of the number.
    split : str
        ``"train"``, ``"validation"``, ``"test"``, ``"all"`` or ``"cross-validation"``.
    n : int
        Number of images.
    n_fitted : int
        Number of further images of the split that the head was fitted on, and that are not scored.
    mae, rmse : float
        Mean absolute error and root mean squared error, in the number's own unit.
    r2 : float or None
        Coefficient of determination, at most 1; None where all numbers are the same.
    mae_ci, rmse_ci, r2_ci : tuple of float
        Their intervals; of R² None where it is None.
    bias : float
        Mean of predicted minus true numbers.
    baseline : dict
        ``{"value", "mae", "rmse"}``: the scores of always answering the mean of the images scored.
    intervals : dict
        Where a coverage was asked for, ``{"coverage", "n_calibrating", "half_width", "covered",
        "covered_ci"}``: how often the prediction interval holds the true number, with Wilson's interval.
    predictions : list of dict
        ``{"path", "true", "predicted"}`` of each image, the largest error first.
    folds : list of dict
        Of a cross-validation, ``{"n", "mae", "rmse", "r2", "n_fitted", "params"}`` of each fold.
    together : dict
        Of a cross-validation, ``{"by", "n_near", "skipped"}``, as for :class:`featstore.Evaluation`.
    resampling : dict
        ``{"unit", "n", "replicates", "seed"}``, as for :class:`featstore.Evaluation`.

    Examples
    --------
    >>> import featstore
    >>> result = featstore.evaluate_regression(featstore.fit_regression(numbers), numbers)
    >>> result.n > 10, result.mae < result.baseline["mae"], result.target
    (True, True, 'age')
    """

    target: str
    split: str
    n: int
    n_fitted: int
    mae: float
    rmse: float
    r2: float | None
    mae_ci: tuple[float, float]
    rmse_ci: tuple[float, float]
    r2_ci: tuple[float, float] | None
    bias: float
    baseline: dict[str, float]
    intervals: dict[str, Any]
    predictions: list[dict[str, Any]]
    resampling: dict[str, Any]
    folds: list[dict[str, Any]] = field(default_factory=list)
    together: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return json_values(self)


def evaluate_regression(
    head: RegressionHead, table: "FeatureTable", *, split: str = "test", coverage: float | None = None
) -> RegressionEvaluation:
    """Evaluate a head that predicts a number on one split, as assigned by its own split rule.

    Images that the head was fitted on are left out, in any catalog; only ``"train"``, and ``"validation"`` if
    it was fitted on all of it, are scored nevertheless, with a warning.

    Parameters
    ----------
    head : RegressionHead
    table : FeatureTable
        A table of the head's space, of any catalog of the same number.
    split : {"test", "validation", "train", "all"}
    coverage : float, optional
        In (0, 1): also score the prediction intervals of this coverage.

    Returns
    -------
    RegressionEvaluation

    Raises
    ------
    FingerprintMismatchError
        The features are of another backbone.
    TargetError
        The catalog has labels, or another number.
    SplitError
        The split contains no image with a number, or none that the head was not fitted on.
    HeadError
        Features are invalid, or the head has no intervals of this coverage.

    Examples
    --------
    >>> import featstore
    >>> head = featstore.fit_regression(numbers, head="ridge")
    >>> featstore.evaluate_regression(head, numbers).mae == head.test["mae"]
    True
    """
    head.check_fingerprint(table.fingerprint, spec=table.spec)
    if split not in (*SPLITS, "all"):
        raise SplitError(f"split must be one of {', '.join(SPLITS)} or all; found {split!r}")
    true = head.target_of(table)
    half_width = None if coverage is None else head.interval_half_width(coverage)
    rows, n_fitted = _unseen(head, table, split)
    [predicted] = form_values([head.form], Rows(table, rows, name="the table"))
    unit, units = resampling_units(table, rows, head.split_rule)
    intervals: dict[str, Any] = {}
    if half_width is not None:
        n_covered = int((np.abs(predicted - true[rows]) <= half_width).sum())
        intervals = {
            "coverage": coverage,
            "n_calibrating": len(head.held_out_errors),
            "half_width": half_width,
            "covered": n_covered / len(rows),
            "covered_ci": list(wilson_interval(n_covered, len(rows))),
        }
    return score_numbers(
        true[rows],
        predicted,
        paths=np.asarray(table.paths)[rows],
        units=units,
        unit=unit,
        target=head.target,
        split=split,
        n_fitted=n_fitted,
        intervals=intervals,
    )


def score_numbers(
    true: NDArray[np.float64],
    predicted: NDArray[np.float64],
    *,
    paths: NDArray[np.str_],
    units: NDArray[np.intp],
    unit: str,
    intervals: dict[str, Any],
    **described: Any,
) -> RegressionEvaluation:
    """Return the evaluation of predicted numbers."""
    values = score_values(true, predicted)
    sums = unit_sums(true, predicted, units)
    draws = bootstrap(sums, np.ones(len(sums), np.int64), drawn_scores, seed=_SEED)
    found = dict(zip((f"{name}_ci" for name in SCORES), map(_interval, draws.T), strict=True))
    mean = float(true.mean())
    baseline = score_values(true, np.full(len(true), mean))
    order = np.argsort(-np.abs(predicted - true), kind="stable")
    return RegressionEvaluation(
        **values,
        **found,  # type: ignore[arg-type]
        bias=float((predicted - true).mean()),
        baseline={"value": mean, "mae": baseline["mae"], "rmse": baseline["rmse"]},
        intervals=intervals,
        predictions=[
            {"path": str(paths[at]), "true": float(true[at]), "predicted": float(predicted[at])}
            for at in order.tolist()
        ],
        resampling={"unit": unit, "n": len(sums), "replicates": REPLICATES, "seed": _SEED},
        **described,
    )


def _unseen(head: RegressionHead, table: "FeatureTable", split: str) -> tuple[NDArray[np.intp], int]:
    """Return the rows of a split that the head was not fitted on, and how many it was."""
    is_chosen = np.asarray(table.is_labelled)
    if split != "all":
        is_chosen = is_chosen & (np.asarray(table.splits(head.split_rule)) == split)
    rows = np.flatnonzero(is_chosen)
    is_fitted = head.seen.have_fitted(np.asarray(table.content_hash_bytes)[rows])
    if not len(rows):
        raise SplitError(
            f"the catalog {table.catalog_name} has no image with a number in {split}; choose another split, "
            "or fit with a larger fraction for it"
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
            f"the head {head.name} was fitted on all {len(rows)} images with a number in {split} of the "
            f"catalog {table.catalog_name}: evaluate it on images that it has not seen"
        )
    return rows[~is_fitted], int(is_fitted.sum())


def _interval(values: NDArray[np.float64]) -> tuple[float, float] | None:
    there = values[~np.isnan(values)]
    return percentile_interval(there) if len(there) else None
