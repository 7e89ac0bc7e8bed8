"""How good a kind of head is on all labelled images: each is judged by a head that was fitted without it."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featstore.errors import HeadError, SplitError
from featstore.heads.data.view_counts import check_images
from featstore.heads.fitting.training import fit
from featstore.heads.head import Head
from featstore.heads.registry import known_heads
from featstore.scoring.evaluation import Evaluation, predictions, score_images
from featstore.scoring.fold_dealing import Together, deal_evenly, find_together
from featstore.scoring.warning_once import each_warning_once
from featstore.splits import SplitRule
from featstore.stats.intervals import scored

if TYPE_CHECKING:
    from featstore.store.table import FeatureTable

__all__ = ["cross_evaluate"]

SPLIT = "cross-validation"


def cross_evaluate(
    table: "FeatureTable",
    *,
    head: Any = "logistic",
    params: Mapping[str, Any] | None = None,
    rule: SplitRule | None = None,
    views: Mapping[str, int] | None = None,
    class_weight: str | Mapping[str, float] | None = None,
    seed: int = 0,
    folds: int = 5,
    jobs: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Score a kind of head by folds: each labelled image is judged by a head that never saw it.

    All labelled images are dealt into folds, and each fold is judged by a head that is fitted on the others
    as :func:`featstore.fit` does it, its parameters chosen inside of these. That measures the kind of head,
    fitted on a little less than all images; it makes no head. Where classes are small, it says far more than
    the test split, which holds few of their images.

    Each class is spread evenly over the folds. Images of one group of the catalog are in one fold, whether or
    not the rule goes by group, and so are copies of one file and near-duplicates, as
    :func:`featstore.find_duplicates` knows them. Splits that the catalog gives are not heeded.

    Parameters
    ----------
    table : FeatureTable
        Images without a label are left out.
    head : str, HeadInfo, scikit-learn classifier or Head
        As for :func:`featstore.fit`. Of a fitted head its kind, with the parameters that were fixed, its
        views and its rule where these are not given.
    params, views, class_weight, seed, jobs
        As for :func:`featstore.fit`.
    rule : SplitRule, optional
        What stays together besides, its salt, and the share that is kept for choosing inside of each fit.
    folds : int
        At least 2.
    progress : callable, optional
        Called as ``progress(done, total)`` with numbers of folds.

    Returns
    -------
    Evaluation
        With ``split`` ``"cross-validation"``, ``folds``, ``together``, and ``unjudged``: images of classes
        all of whose images are kept together, which no head could know without them. They are fitted on.

    Raises
    ------
    HeadError
        There are fewer than two classes that can be held out; the head was imported or extended; or as for
        :func:`featstore.fit`.
    SplitError
        There are fewer than two folds, or fewer images than folds.

    Examples
    --------
    >>> found = featstore.cross_evaluate(table, head="svm", folds=10)  # doctest: +SKIP
    >>> found.n, found.top1, found.top1_bootstrap_ci  # doctest: +SKIP
    """
    if isinstance(folds, bool) or not isinstance(folds, int) or folds < 2:
        raise SplitError(f"folds are a whole number, at least 2; found {folds!r}")
    check_images(table)
    options: dict[str, Any] = {"params": params, "views": views, "class_weight": class_weight}
    if isinstance(head, Head):
        rule = head.split_rule if rule is None else rule
        head, options = _kind_of(head, options)
    rule = SplitRule() if rule is None else rule
    labelled = table.select(np.flatnonzero(np.asarray(table.y) != ""))
    if not len(labelled):
        raise HeadError(f"the catalog {table.catalog_name} has no labels ({len(table)} images)")
    labels = np.asarray(labelled.y)
    classes, y = np.unique(labels, return_inverse=True)
    together = find_together(labelled, rule, folds=folds)
    fold_of = deal_evenly(together.keys, y, folds=folds, salt=rule.salt)
    n_judgeable = len(np.unique(y[fold_of >= 0]))
    if n_judgeable < 2:
        raise HeadError(
            f"the catalog {table.catalog_name} has {n_judgeable} classes of which images can be held out; "
            "expected at least 2: label more images, or mend the groups"
        )
    if missing := folds - len(np.unique(fold_of[fold_of >= 0])):
        raise SplitError(f"{missing} of {folds} folds would be empty; use fewer folds")

    predicted = np.full(len(labels), "", classes.dtype)
    probabilities = np.zeros((len(labels), len(classes)))
    is_judged = np.zeros(len(labels), np.bool_)
    told: list[dict[str, Any]] = []
    fitted: Head | None = None
    with each_warning_once():
        for fold in range(folds):
            splits = _splits(together, y, fold_of, fold, rule)
            dealt = labelled.with_splits(splits)
            # What is kept together stands in the given splits.
            inner = SplitRule(test=0, validation=rule.validation, salt=rule.salt)
            fitted = fit(dealt, head=head, rule=inner, seed=seed, jobs=jobs, **options)
            rows = np.flatnonzero(splits == "test")
            rows = rows[np.isin(labels[rows], fitted.classes)]
            columns = np.searchsorted(classes, fitted.classes)
            predicted[rows], likely = predictions(fitted, labelled, rows)
            probabilities[np.ix_(rows, columns)] = likely
            is_judged[rows] = True
            n_right = int((predicted[rows] == labels[rows]).sum())
            n_fitted = sum(sum(fitted.counts[split].values()) for split in fitted.choice["fitted_on"])
            told.append({**scored(n_right, len(rows)), "n_fitted": n_fitted, "params": fitted.params})
            if progress is not None:
                progress(fold + 1, folds)
    assert fitted is not None
    names, counts = np.unique(labels[~is_judged], return_counts=True)
    at = np.flatnonzero(is_judged)
    units = np.unique(np.asarray(together.keys)[at], return_inverse=True)[1]
    return score_images(
        classes=classes,
        labels=labels[at],
        predicted=predicted[at],
        probabilities=probabilities[at],
        paths=np.asarray(labelled.paths)[at],
        unit=together.by,
        units=units,
        often={},
        split=SPLIT,
        test_views=fitted.test_views,
        parts=[{"part": "held_out", **scored(int((predicted[at] == labels[at]).sum()), len(at))}],
        scored=["held_out"],
        folds=told,
        unjudged=dict(zip(names.tolist(), counts.tolist(), strict=True)),
        together={"by": together.by, "n_near": together.n_near, "skipped": together.skipped},
    )


def _splits(
    together: Together, y: NDArray[np.intp], fold_of: NDArray[np.intp], fold: int, rule: SplitRule
) -> NDArray[np.str_]:
    """Return the split of each image while a fold is held out."""
    splits = np.full(len(y), "train", "<U10")
    splits[fold_of == fold] = "test"
    if rule.validation:
        inside = np.flatnonzero(fold_of != fold)
        keys = [together.keys[at] for at in inside.tolist()]
        n_parts = max(2, round((1 - rule.test) / rule.validation))
        parts = deal_evenly(keys, y[inside], folds=n_parts, salt=f"{rule.salt}#inside")
        splits[inside[parts == 0]] = "validation"
    return splits


def _kind_of(head: Head, given: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Return what to fit so that it becomes a head like this one, and with what options."""
    if head.extension or not head.choice.get("fitted_on"):
        made = "extended" if head.extension else "imported"
        raise HeadError(
            f"the head {head.name} was {made}, and folds fit heads anew: name a kind of head, as logistic is"
        )
    options = dict(given)
    if options["views"] is None:
        options["views"] = {"train": head.train_views, "test": head.test_views}
    if head.name not in {info.name for info in known_heads()}:
        return head.estimator, options
    if options["params"] is None:
        tried = [step["params"] for step in head.sweep]
        chosen = {name for params in tried for name, value in params.items() if value != tried[0].get(name)}
        options["params"] = {name: value for name, value in head.params.items() if name not in chosen}
    if options["class_weight"] is not None:
        options["params"].pop("class_weight", None)
    return head.name, options
