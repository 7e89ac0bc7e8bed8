"""Cross-validation of a kind of head that predicts a number, on all images whose number is known."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from featstore.errors import HeadError, SplitError
from featstore.heads.data.blocks import Rows
from featstore.heads.data.view_counts import check_images
from featstore.heads.fit_warnings import each_warning_once
from featstore.heads.regression.fitting import fit_regression
from featstore.heads.regression.head import RegressionHead
from featstore.heads.regression.scores import score_values
from featstore.heads.regression.solving import form_values
from featstore.scoring.cross_evaluation import SPLIT
from featstore.scoring.fold_groups import assign_folds, find_fold_groups
from featstore.scoring.regression.evaluation import RegressionEvaluation, score_numbers
from featstore.splits import SplitRule

if TYPE_CHECKING:
    from featstore.store.tables.table import FeatureTable

__all__ = ["cross_evaluate_regression"]


def cross_evaluate_regression(
    table: "FeatureTable",
    *,
    head: "str | RegressionHead" = "ridge",
    params: Mapping[str, Any] | None = None,
    rule: SplitRule | None = None,
    seed: int = 0,
    folds: int = 5,
    progress: Callable[[int, int], None] | None = None,
) -> RegressionEvaluation:
    """Evaluate a kind of head that predicts a number by cross-validation.

    Each fold is predicted by a head fitted on the others as :func:`featstore.fit_regression` does, its
    parameters chosen inside of these. This evaluates the kind of head, fitted on slightly fewer than all
    images; it returns no head.

    Images of one group of the catalog are in one fold, whether or not the rule splits by group, and so are
    copies and near-duplicates (:func:`featstore.find_duplicates`). Splits given by the catalog are ignored.

    Parameters
    ----------
    table : FeatureTable
        Images whose number is not known are left out.
    head : {"ridge", "rbf", "knn"} or RegressionHead
        For a fitted head, its kind with its fixed parameters, and its rule unless given.
    params, seed
        As for :func:`featstore.fit_regression`.
    rule : SplitRule, optional
        Further groups to keep together, the salt, and the validation fraction for choosing inside each fit.
    folds : int
        Number of folds, at least 2.
    progress : callable, optional
        Called as ``progress(done, total)`` with numbers of folds.

    Returns
    -------
    RegressionEvaluation
        With ``split`` ``"cross-validation"``, ``folds`` and ``together``.

    Raises
    ------
    HeadError
        As for :func:`featstore.fit_regression`.
    SplitError
        There are fewer than two folds, or fewer groups of images than folds.

    Examples
    --------
    >>> import featstore
    >>> result = featstore.cross_evaluate_regression(numbers, folds=3)
    >>> result.n, len(result.folds), result.r2 > 0.5
    (300, 3, True)
    """
    if isinstance(head, RegressionHead):
        rule = head.split_rule if rule is None else rule
        if params is None:
            chosen = {name for step in head.sweep for name in step["params"]}
            params = {name: value for name, value in head.params.items() if name not in chosen}
        head = head.name
    rule = SplitRule() if rule is None else rule
    if isinstance(folds, bool) or not isinstance(folds, int) or folds < 2:
        raise SplitError(f"folds must be an integer of at least 2; found {folds!r}")
    check_images(table)
    known = table.select(np.flatnonzero(~np.isnan(table.target)))
    if not len(known):
        raise HeadError(f"no image of the catalog {table.catalog_name} has a number in {table.target_name}")
    together = find_fold_groups(known, rule, folds=folds)
    one = np.zeros(len(known), np.intp)
    fold_of = assign_folds(together.keys, one, folds=folds, salt=rule.salt)
    if len(np.unique(fold_of[fold_of >= 0])) < folds:
        raise SplitError(
            f"{len({*together.keys})} images or groups cannot be divided into {folds} folds; use fewer folds"
        )
    inner = SplitRule(test=0, validation=rule.validation, salt=rule.salt)
    n_parts = max(2, round((1 - rule.test) / rule.validation)) if rule.validation else 0
    if not n_parts:
        raise SplitError("the rule has no validation fraction, where parameters are chosen inside each fit")
    predicted, fold_scores = np.empty(len(known)), []
    with each_warning_once():
        for fold in range(folds):
            inside, outside = np.flatnonzero(fold_of != fold), np.flatnonzero(fold_of == fold)
            keys = [together.keys[at] for at in inside.tolist()]
            parts = assign_folds(keys, one[inside], folds=n_parts, salt=f"{rule.salt}#inside")
            splits = np.full(len(known), "test", "<U10")
            splits[inside] = np.where(parts == 0, "validation", "train")
            fitted = fit_regression(
                known.with_splits(splits), head=head, params=params, rule=inner, seed=seed
            )
            [predicted[outside]] = form_values([fitted.form], Rows(known, outside, name="the fold"))
            scores = score_values(known.target[outside], predicted[outside])
            fold_scores.append(scores | {"n_fitted": len(inside), "params": fitted.params})
            if progress is not None:
                progress(fold + 1, folds)
    return score_numbers(
        known.target,
        predicted,
        paths=np.asarray(known.paths),
        units=np.unique(np.asarray(together.keys), return_inverse=True)[1],
        unit=together.by,
        intervals={},
        target=table.target_name,
        split=SPLIT,
        n_fitted=0,
        folds=fold_scores,
        together={"by": together.by, "n_near": together.n_near, "skipped": together.skipped},
    )
