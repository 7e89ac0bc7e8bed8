"""Cross-validation of a kind of head on all labelled images."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from featstore.errors import HeadError
from featstore.heads.fit_warnings import each_warning_once
from featstore.heads.head import Head
from featstore.heads.hierarchy import level_scores
from featstore.heads.registry import known_heads
from featstore.scoring.cross_folds import CrossFolds
from featstore.scoring.evaluation import Evaluation, score_images
from featstore.splits import SplitRule
from featstore.stats.intervals import scored

if TYPE_CHECKING:
    from featstore.store.tables.table import FeatureTable

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
    """Evaluate a kind of head by cross-validation on all labelled images.

    All labelled images are assigned to folds, and each fold is predicted by a head fitted on the others as
    :func:`featstore.fit` does, its parameters chosen inside of these. This evaluates the kind of head, fitted
    on slightly fewer than all images; it returns no head. With small classes it is far more informative than
    the test split, which holds few of their images.

    Each class is spread evenly over the folds. Images of one group of the catalog are in one fold, whether or
    not the rule splits by group, and so are copies and near-duplicates (:func:`featstore.find_duplicates`).
    Splits given by the catalog are ignored.

    Parameters
    ----------
    table : FeatureTable
        Images without a label are left out.
    head : str, HeadInfo, scikit-learn classifier or Head
        As for :func:`featstore.fit`. For a fitted head, its kind with its fixed parameters, and its views and
        rule unless given.
    params, views, class_weight, seed, jobs
        As for :func:`featstore.fit`.
    rule : SplitRule, optional
        Further groups to keep together, the salt, and the validation fraction for choosing inside each fit.
    folds : int
        Number of folds, at least 2.
    progress : callable, optional
        Called as ``progress(done, total)`` with numbers of folds.

    Returns
    -------
    Evaluation
        With ``split`` ``"cross-validation"``, ``folds``, ``together``, and ``unjudged``: images of classes
        that are kept together as a whole, so that none can be held out. They are only fitted on.

    Raises
    ------
    HeadError
        Fewer than two classes can be held out; the head was imported or extended; or as for
        :func:`featstore.fit`.
    SplitError
        There are fewer than two folds, or fewer images than folds.

    Examples
    --------
    >>> import featstore
    >>> result = featstore.cross_evaluate(table, head="ridge", folds=3)
    >>> result.n, len(result.folds), result.top1 > 0.9
    (90, 3, True)
    """
    options: dict[str, Any] = {"params": params, "views": views, "class_weight": class_weight}
    parents: Mapping[str, str] = {}
    if isinstance(head, Head):
        parents = head.parents
        rule = head.split_rule if rule is None else rule
        head, options = _kind_of(head, options)
    rule = SplitRule() if rule is None else rule
    divided = CrossFolds.of(table, rule, folds=folds)
    labels, classes = divided.labels, divided.classes

    predicted = np.full(len(labels), "", classes.dtype)
    probabilities = np.zeros((len(labels), len(classes)))
    is_predicted = np.zeros(len(labels), np.bool_)
    fold_scores: list[dict[str, Any]] = []
    fitted: Head | None = None
    with each_warning_once():
        for fold in range(folds):
            found = divided.predict(fold, head=head, seed=seed, jobs=jobs, options=options)
            fitted, rows = found.head, found.rows
            predicted[rows], probabilities[rows] = found.predicted, found.probabilities
            is_predicted[rows] = True
            n_right = int((predicted[rows] == labels[rows]).sum())
            n_fitted = sum(sum(fitted.counts[split].values()) for split in fitted.choice["fitted_on"])
            fold_scores.append({**scored(n_right, len(rows)), "n_fitted": n_fitted, "params": fitted.params})
            if progress is not None:
                progress(fold + 1, folds)
    assert fitted is not None
    names, counts = np.unique(labels[~is_predicted], return_counts=True)
    at = np.flatnonzero(is_predicted)
    together = divided.together
    return score_images(
        classes=classes,
        labels=labels[at],
        predicted=predicted[at],
        probabilities=probabilities[at],
        paths=np.asarray(divided.table.paths)[at],
        unit=together.by,
        units=divided.units(at),
        often={},
        split=SPLIT,
        test_views=fitted.test_views,
        parts=[{"part": "held_out", **scored(int((predicted[at] == labels[at]).sum()), len(at))}],
        scored=["held_out"],
        folds=fold_scores,
        levels=level_scores(classes.tolist(), parents, labels[at], probabilities[at]),
        unjudged=dict(zip(names.tolist(), counts.tolist(), strict=True)),
        together={"by": together.by, "n_near": together.n_near, "skipped": together.skipped},
    )


def _kind_of(head: Head, given: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Return the kind of a fitted head, and the options to fit another one like it."""
    if head.extension or not head.choice.get("fitted_on"):
        made = "extended" if head.extension else "imported"
        raise HeadError(
            f"the head {head.name} was {made} and cannot be fitted again in folds: choose a kind of head, "
            "such as logistic"
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
