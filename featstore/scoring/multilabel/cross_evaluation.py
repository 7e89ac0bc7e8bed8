"""Cross-validation of a kind of head that gives several labels, on all labelled images."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featstore.errors import SplitError
from featstore.heads.data.view_counts import check_images, checked_views
from featstore.heads.fit_warnings import each_warning_once
from featstore.heads.multilabel.choosing import fit_chosen
from featstore.heads.multilabel.folds import label_divisions
from featstore.heads.multilabel.head import MultiLabelHead
from featstore.heads.multilabel.images import LabelImages, learnable_labels
from featstore.heads.multilabel.scores import score_values
from featstore.heads.multilabel.solving import label_recipe
from featstore.scoring.cross_evaluation import SPLIT
from featstore.scoring.fold_groups import find_fold_groups
from featstore.scoring.multilabel.evaluation import LabelEvaluation, score_label_images
from featstore.splits import SplitRule

if TYPE_CHECKING:
    from featstore.store.tables.table import FeatureTable

__all__ = ["cross_evaluate_labels"]


def cross_evaluate_labels(
    table: "FeatureTable",
    *,
    head: "str | MultiLabelHead" = "logistic",
    params: Mapping[str, Any] | None = None,
    rule: SplitRule | None = None,
    views: Mapping[str, int] | None = None,
    class_weight: str | None = None,
    seed: int = 0,
    folds: int = 5,
    inner_folds: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> LabelEvaluation:
    """Evaluate a kind of head that gives several labels by cross-validation on all labelled images.

    Each fold is predicted by a head fitted on the others as :func:`featstore.fit_labels` does: parameters,
    sigmoids and thresholds are chosen inside of these. This evaluates the kind of head, fitted on slightly
    fewer than all images; it returns no head.

    Each label is spread evenly over the folds. Images of one group of the catalog are in one fold, whether or
    not the rule splits by group, and so are copies and near-duplicates (:func:`featstore.find_duplicates`).
    Splits given by the catalog are ignored.

    Parameters
    ----------
    table : FeatureTable
        Images whose labels are not known are left out.
    head : {"logistic", "rbf", "ridge", "svm"} or MultiLabelHead
        For a fitted head, its kind with its fixed parameters, and its views, rule and folds unless given.
    params, views, class_weight, seed
        As for :func:`featstore.fit_labels`.
    rule : SplitRule, optional
        Further groups to keep together, the salt, and the validation fraction for choosing inside each fit.
    folds : int
        Number of folds, at least 2.
    inner_folds : int, optional
        Choose inside each fit by this many folds instead of on one validation part.
    progress : callable, optional
        Called as ``progress(done, total)`` with numbers of folds.

    Returns
    -------
    LabelEvaluation
        With ``split`` ``"cross-validation"``, ``folds``, ``together`` and ``unjudged``: images with labels
        that are kept together as a whole, so that none can be held out. They are only fitted on.

    Raises
    ------
    HeadError
        As for :func:`featstore.fit_labels`.
    SplitError
        There are fewer than two folds, or fewer groups of images than folds; or the rule has no validation
        fraction.

    Examples
    --------
    >>> import featstore
    >>> result = featstore.cross_evaluate_labels(several, head="ridge", folds=3)
    >>> result.n, len(result.folds), result.map > 0.8
    (200, 3, True)
    """
    if isinstance(head, MultiLabelHead):
        rule = head.split_rule if rule is None else rule
        views = {"train": head.train_views, "test": head.test_views} if views is None else views
        inner_folds = head.folds if inner_folds is None else inner_folds
        params = _fixed_params(head) if params is None else params
        head = head.name
    rule = SplitRule() if rule is None else rule
    recipe = label_recipe(head, None if params is None else dict(params), class_weight, seed)
    check_images(table)
    images, classes = _known(table, views)
    together = find_fold_groups(table.select(images.at), rule, folds=folds)
    keys = np.asarray(together.keys)
    divided = label_divisions(together.keys, images.has, folds=folds, salt=rule.salt)

    probabilities, given = np.zeros(images.has.shape), np.zeros(images.has.shape, np.bool_)
    thresholds, fold_scores = [], []
    with each_warning_once():
        for number, (inside, outside) in enumerate(divided.divisions):
            fitted = images.some(inside, "the other folds")
            inner = _inner(keys[inside].tolist(), fitted.has, rule, inner_folds)
            choice, form = fit_chosen(recipe, fitted, inner, fitted)
            found = images.some(outside).probabilities(form)
            probabilities[outside], given[outside] = found, found >= choice.thresholds
            thresholds.append(choice.thresholds)
            scores = score_values(images.has[outside], given[outside], found)
            kept = {name: scores[name] for name in ("n", "map", "micro_f1")}
            fold_scores.append(kept | {"n_fitted": len(inside), "params": recipe.fixed | choice.setting})
            if progress is not None:
                progress(number + 1, len(divided.divisions))
    at = np.sort(np.concatenate([outside for _, outside in divided.divisions]))
    is_kept_together = divided.unjudged & ~images.has[at].any(axis=0)
    counts = images.has.sum(axis=0)
    return score_label_images(
        classes,
        images.has[at],
        given[at],
        probabilities[at],
        thresholds=np.mean(thresholds, axis=0),
        paths=np.asarray(table.paths)[images.at[at]],
        units=np.unique(keys[at], return_inverse=True)[1],
        unit=together.by,
        split=SPLIT,
        n_fitted=0,
        test_views=images.views.test,
        folds=fold_scores,
        unjudged={str(classes[one]): int(counts[one]) for one in np.flatnonzero(is_kept_together)},
        together={"by": together.by, "n_near": together.n_near, "skipped": together.skipped},
    )


def _known(table: "FeatureTable", views: Mapping[str, int] | None) -> tuple[LabelImages, NDArray[np.str_]]:
    """Return the images whose labels are known, and the labels."""
    classes, has = learnable_labels(table, np.flatnonzero(table.is_labelled))
    return LabelImages.of(table, has, checked_views(views)), classes


def _inner(
    keys: list[str], has: NDArray[np.bool_], rule: SplitRule, folds: int | None
) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Return the divisions that parameters and thresholds are chosen by inside of a fold's training part."""
    salt = f"{rule.salt}#inside"
    if folds is not None:
        return label_divisions(keys, has, folds=folds, salt=salt).divisions
    if not rule.validation:
        raise SplitError("the rule has no validation fraction, where thresholds are chosen: give inner_folds")
    n_parts = max(2, round((1 - rule.test) / rule.validation))
    return label_divisions(keys, has, folds=n_parts, salt=salt).divisions[:1]


def _fixed_params(head: MultiLabelHead) -> dict[str, Any]:
    """Return the parameters of a head that were not chosen from its sweep."""
    chosen = {name for step in head.sweep for name in step["params"]}
    return {name: value for name, value in head.params.items() if name not in chosen}
