"""Fitting of a head that predicts a number."""

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featstore.errors import HeadError, SplitError
from featstore.heads.data.blocks import Rows
from featstore.heads.data.partition import split_rows
from featstore.heads.data.view_counts import check_images
from featstore.heads.files.head_file import current_versions
from featstore.heads.fit_warnings import warn
from featstore.heads.fitting.sweep_scores import chosen
from featstore.heads.regression.head import RegressionHead
from featstore.heads.regression.intervals import held_out_errors
from featstore.heads.regression.scores import score_values
from featstore.heads.regression.solving import Form, form_values, regression_recipe, solve_regression
from featstore.heads.seen import SeenImages
from featstore.heads.solvers.parallel import WarningNotes
from featstore.messages import listed
from featstore.process import one_thread
from featstore.splits import SplitRule

if TYPE_CHECKING:
    from featstore.heads.recipe import Recipe
    from featstore.store.tables.table import FeatureTable

__all__ = ["fit_regression"]

_logger = logging.getLogger(__name__)

_Numbers = NDArray[np.float64]
_SHOWN = 3


def fit_regression(
    table: "FeatureTable",
    *,
    head: str = "ridge",
    params: Mapping[str, Any] | None = None,
    rule: SplitRule | None = None,
    seed: int = 0,
    refit: bool | None = None,
    progress: Callable[[int, int, Mapping[str, Any]], None] | None = None,
) -> RegressionHead:
    """Fit a head that predicts the number of each image, such as an age, a count or an area.

    The setting with the least squared error on validation is kept. Unless ``refit=False``, the head is then
    fitted on train and validation. Test images are scored once, at the end. Prediction intervals are
    calibrated on the errors on validation of the fit on train alone.

    Parameters
    ----------
    table : FeatureTable
        Of a catalog with a ``target``. Images whose number is not known are left out.
    head : {"ridge", "rbf", "knn"}
        Ridge regression on standardised features; kernel ridge regression with a Gaussian kernel; or the mean
        of the nearest images by angle.
    params : mapping, optional
        Parameters to fix, such as ``{"alpha": 10.0}``; the rest of the grid is still chosen.
    rule : SplitRule, optional
        As for :func:`featstore.fit`.
    seed : int
        Random seed, in [0, 2**32).
    refit : bool, optional
        Whether to fit on validation too, once parameters are chosen. Default: True.
    progress : callable, optional
        Called as ``progress(done, total, {"params": {…}, "rmse": …})`` after each setting.

    Returns
    -------
    RegressionHead

    Raises
    ------
    TargetError
        Images have labels instead of a number.
    HeadError
        The head does not predict numbers; all numbers are the same, or none is known; or parameters or
        features are invalid.
    SplitError
        Train or validation is empty.

    Examples
    --------
    >>> import featstore
    >>> head = featstore.fit_regression(numbers, head="ridge")
    >>> head.target, head.test["r2"] > 0.5
    ('age', True)
    """
    y = table.target
    recipe = regression_recipe(head, None if params is None else dict(params), seed)
    rule = SplitRule() if rule is None else rule
    check_images(table)
    known = table.is_labelled
    if not known.any():
        raise HeadError(f"no image of the catalog {table.catalog_name} has a number in {table.target_name}")
    weights = table.sample_weight
    if weights is not None:
        if recipe.name == "knn":
            raise HeadError(
                "knn does not take the weights of images that the catalog has: choose ridge or rbf, or fit "
                "without them (--ignore-weights, or table.without_weights())"
            )
        weights = weights / weights[known].mean()
    rule, rows = split_rows(table, np.where(known, "known", ""), rule, chooses=True)
    for split in ("train", "validation"):
        if not len(rows[split]):
            raise SplitError(f"no image with a number is in {split}; change --validation and --test")
    _warn_of_copies(table, y)
    images = _Images(table=table, y=y, weights=weights)
    recipe = recipe.for_n_rows(len(rows["train"]))
    with one_thread, WarningNotes() as notes:
        choice = _choose(recipe, images, rows, progress)
        form, fitted_on, inside = choice.form, ["train"], rows["train"]
        if refit is None or refit:
            fitted_on = ["train", "validation"]
            inside = np.sort(np.concatenate([inside, rows["validation"]]))
            [form] = images.solve(recipe, inside, [choice.setting], "train and validation")
        for note in notes.take():
            warn(_logger, "%s with %s: %s", recipe.name, choice.setting, note)
        [predicted] = form_values([form], Rows(table, rows["test"], name="test"))
    hashes = np.asarray(table.content_hash_bytes)
    return RegressionHead(
        name=recipe.name,
        target=table.target_name,
        spec=table.spec,
        fingerprint=table.fingerprint,
        feature_dim=table.feature_dim,
        split_rule=rule,
        params=recipe.fixed | choice.setting,
        n_images={split: len(at) for split, at in rows.items()},
        train_numbers={
            "smallest": float(y[rows["train"]].min()),
            "mean": float(y[rows["train"]].mean()),
            "largest": float(y[rows["train"]].max()),
            "std": float(y[rows["train"]].std()),
        },
        unlabelled=int((~known).sum()),
        weighted=weights is not None,
        sweep=choice.sweep if len(choice.sweep) > 1 else [],
        fitted_on=fitted_on,
        validation=score_values(y[rows["validation"]], choice.predicted),
        test=score_values(y[rows["test"]], predicted),
        held_out_errors=held_out_errors(y[rows["validation"]], choice.predicted),
        seed=int(seed),
        weights=table.weights,
        catalog=str(table.catalog_name),
        space=str(table.space_name),
        catalog_digests=dict(table.catalog_digests),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        versions=current_versions(),
        seen=SeenImages.of(hashes[inside], hashes[rows["validation"]]),
        form=form,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Images:
    """What a head is fitted on."""

    table: "FeatureTable"
    y: _Numbers
    weights: _Numbers | None

    def solve(
        self, recipe: "Recipe", at: NDArray[np.intp], settings: list[dict[str, Any]], name: str
    ) -> list[Form]:
        weights = None if self.weights is None else self.weights[at]
        rows = Rows(self.table, at, name=name)
        return list(solve_regression(recipe, rows, self.y[at], weights, settings))


@dataclass(frozen=True, kw_only=True, eq=False)
class _Choice:
    """The setting that validation chooses, its fit on train alone, and what that predicts there."""

    setting: dict[str, Any]
    form: Form
    predicted: _Numbers
    sweep: list[dict[str, Any]]


def _choose(
    recipe: "Recipe",
    images: _Images,
    rows: Mapping[str, NDArray[np.intp]],
    progress: Callable[[int, int, Mapping[str, Any]], None] | None,
) -> _Choice:
    """Fit each setting on train, and choose the one with the least squared error on validation."""
    settings, outside = recipe.settings, rows["validation"]
    forms = images.solve(recipe, rows["train"], settings, "train")
    values = form_values(forms, Rows(images.table, outside, name="validation"))
    sweep: list[dict[str, Any]] = []
    for setting, predicted in zip(settings, values, strict=True):
        scores = score_values(images.y[outside], predicted)
        sweep.append({"params": setting, "mae": scores["mae"], "rmse": scores["rmse"]})
        if progress is not None and len(settings) > 1:
            progress(len(sweep), len(settings), {"params": setting, "rmse": scores["rmse"]})
    losses = [one["rmse"] ** 2 if math.isfinite(one["rmse"]) else math.inf for one in sweep]
    at = chosen(losses)
    return _Choice(setting=settings[at], form=forms[at], predicted=values[at], sweep=sweep)


def _warn_of_copies(table: "FeatureTable", y: _Numbers) -> None:
    """Name copies of one content that have different numbers."""
    known = np.flatnonzero(~np.isnan(y))
    hashes = np.ascontiguousarray(np.asarray(table.content_hash_bytes)[known]).view("V32").ravel()
    _, first, content, counts = np.unique(hashes, return_index=True, return_inverse=True, return_counts=True)
    differs = (counts[content] > 1) & (y[known] != y[known[first]][content])
    if not differs.any():
        return
    paths = table.relative_paths
    pairs = [
        f"{paths[other]} ({y[other]:g}) and {paths[row]} ({y[row]:g})"
        for row, other in zip(known[differs].tolist(), known[first][content[differs]].tolist(), strict=True)
    ]
    warn(
        _logger,
        "%s the content of another and another %s: %s",
        "1 image has" if len(pairs) == 1 else f"{len(pairs):,} images have",
        table.target_name,
        listed(pairs, most=_SHOWN),
    )
