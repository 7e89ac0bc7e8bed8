"""Fitting a head to a table of features."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featstore.class_names import look_alike_warning
from featstore.errors import SplitError
from featstore.heads.calibration import mean_over_views, softmax
from featstore.heads.data.partition import (
    checked_classes,
    report_leaks,
    row_groups,
    split_rows,
    without_small_classes,
)
from featstore.heads.data.samples import Images
from featstore.heads.data.view_counts import check_images, check_search_folds, checked_views
from featstore.heads.files.head_file import current_versions
from featstore.heads.fit_warnings import warn
from featstore.heads.fitting.held_out import evenly_spaced, most_kept
from featstore.heads.fitting.sweep import (
    HeldOut,
    Outcome,
    Progress,
    choose_by_folds,
    choose_on_validation,
)
from featstore.heads.forms.linear import linear_form
from featstore.heads.head import Head
from featstore.heads.recipe import Recipe, build_recipe
from featstore.heads.rejection import checked_reject, rejection_score
from featstore.heads.seen import SeenImages
from featstore.splits import HashKFold, SplitRule
from featstore.stats.intervals import scored

if TYPE_CHECKING:
    from featstore.store.table import FeatureTable

__all__ = ["Progress", "fit"]

_logger = logging.getLogger(__name__)


def fit(
    table: "FeatureTable",
    *,
    head: Any = "logistic",
    params: Mapping[str, Any] | None = None,
    rule: SplitRule | None = None,
    views: Mapping[str, int] | None = None,
    class_weight: str | Mapping[str, float] | None = None,
    seed: int = 0,
    folds: int | None = None,
    refit: bool | None = None,
    min_images: int | None = None,
    reject: float | None = None,
    jobs: int | None = None,
    progress: Progress | None = None,
) -> Head:
    """Fit a classifier to a table of features, choose its parameters and score it.

    A named head is fitted once for each setting of its grid, and the setting with the least cross entropy on
    held-out images is kept, ties going to the most regularised. (Scores that are not probabilities are
    calibrated on these same images for the comparison.) The held-out images are:

    - without ``folds``, the validation split. The head is fitted on train and then, unless ``refit=False``,
      again on train and validation;
    - with ``folds``, hash-based folds of train and validation together. The head is then fitted on both; with
      ``refit=False``, folds and fit use train alone, and validation is not touched.

    If the classifier has no probabilities, its scores are divided by a temperature, fitted on images that it
    was not fitted on: validation, before the head is refitted, or each fold by the fit without it. So are
    those of ``logistic``, if that lowers the cross entropy on images that the temperature was not fitted on.
    The test split is used once, at the end. The same table, rule, parameters and seed give the same head, bit
    for bit, on one machine, for any ``jobs``. Near-duplicates of training images are not looked for; see
    :func:`featstore.leakage`.

    Parameters
    ----------
    table : FeatureTable
        Images without a label are left out.
    head : str, HeadInfo or scikit-learn classifier
        A name from :func:`featstore.known_heads`, or your own classifier, of which a copy is fitted as it is.
        A search such as ``GridSearchCV`` gets the rule's groups if its ``cv`` is a
        :class:`featstore.HashKFold`, and its best estimator becomes the head's.
    params : mapping, optional
        Parameters to fix, such as ``{"C": 0.3}``; the rest of the grid is still chosen.
    rule : SplitRule, optional
        Default: ``SplitRule()``. Splits given by the catalog override it. If the catalog gives none to
        validation and there is something to choose, the rule's share of the images given to train is used;
        the head's own rule then has ``validation_from_train``.
    views : mapping, optional
        Numbers of views of each image, view 0 and those after it: ``"train"``, that the head is fitted on,
        each as a row of its own, and ``"test"``, over which probabilities are averaged whenever images are
        predicted, here and by the head from then on. Default: 1 each, the image itself. Views for test cost
        each new image as many passes of the network, and views for training alone have not improved heads on
        frozen features (``benchmarks/views.py``). Splits, folds and counts are those of images: views of one
        image are always on the same side.
    class_weight : "balanced" or mapping of str to float, optional
        Weight of an image of each class; ``"balanced"`` gives all classes the same total. For ``lda`` it
        weights the class priors. Not supported by ``centroid`` and ``knn``.
    seed : int
        Random seed, in [0, 2**32), for every ``random_state`` that is not set.
    folds : int, optional
        Choose by this many folds, at least 2. Groups of the split rule stay in one fold.
    refit : bool, optional
        Whether to fit the head on validation too, once its parameters are chosen. Default: True.
    min_images : int, optional
        Leave out classes with fewer labelled images than this, at least 1.
    reject : float, optional
        In [0, 1). The head answers "unknown" if its most probable class is less probable.
    jobs : int, optional
        Number of parallel fits, -1 for one on each core; by default that of ``joblib.parallel_config``, or 1.
        They share the features; each fold has a scaled copy of its own if the head needs one in memory.
    progress : callable, optional
        Called as ``progress(done, total, {"params": {…}, "top1": accuracy})`` after each fit; with several
        jobs, after each job.

    Returns
    -------
    Head

    Raises
    ------
    UnknownHeadError
        There is no head of this name.
    HeadError
        There are fewer than two classes; parameters or features are invalid; ``head`` is not a classifier, or
        is a search whose folds would separate the views of an image; the table's rows are views.
    NotInStoreError
        Images lack some of the views.
    SplitError
        A class is missing from train or, with folds, outside a fold; the validation split is empty while
        there is something to choose on it; or given splits tear apart a group of the rule.

    Examples
    --------
    >>> import featstore
    >>> head = featstore.fit(table, head="svm", folds=3)
    >>> head.classes.tolist(), head.test["n"]
    (['daisy', 'roses', 'tulips'], 11)
    >>> head.predict(table.X[:1]).tolist()
    ['daisy']
    """
    recipe = build_recipe(head, params=params, class_weight=class_weight, seed=seed)
    below = None if reject is None else checked_reject(reject)
    rule = SplitRule() if rule is None else rule
    refit = True if refit is None else bool(refit)
    check_images(table)
    of_views = checked_views(views)
    check_search_folds(recipe.estimator, of_views)
    divider = None if folds is None else HashKFold(folds, salt=rule.salt, stratify=True)
    labels = np.asarray(table.y)
    n_unlabelled = int((labels == "").sum())
    labels = without_small_classes(labels, min_images)
    chooses = divider is None and recipe.n_settings > 1
    rule, rows = split_rows(table, labels, rule, chooses=chooses)
    classes = checked_classes(table, labels, rows, rule)
    if warning := look_alike_warning(classes.tolist()):
        warn(_logger, "%s", warning)
    recipe.check_classes(classes)
    leaks, label_conflicts = report_leaks(table, labels, rows)
    # Copies of an image may be in several splits, by their groups or by given splits.
    hashes = np.asarray(table.content_hash_bytes)
    is_trained_on = SeenImages.of(hashes[rows["train"]]).have_fitted(hashes)
    rows["validation"] = rows["validation"][~is_trained_on[rows["validation"]]]
    if chooses and not len(rows["validation"]):
        recipe = _without_choice(recipe, rule)
    groups = row_groups(table, rule)
    view_table = table.with_views(of_views.most)
    images = {
        split: Images(table=view_table, at=at, y=labels[at], groups=groups[at], name=split, views=of_views)
        for split, at in rows.items()
    }
    train, validation = images["train"], images["validation"]
    fitted_on = ["train", "validation"] if refit and len(validation) else ["train"]
    seen = SeenImages.of(
        hashes[np.concatenate([rows[split] for split in fitted_on])],
        hashes[rows["validation"]] if chooses else None,
    )
    test = images["test"] = images["test"].some(np.flatnonzero(~seen.have_fitted(hashes[rows["test"]])))
    if divider is None:
        outcome = choose_on_validation(
            recipe,
            train,
            validation,
            classes,
            refit=refit and len(validation) > 0,
            jobs=jobs,
            progress=progress,
        )
    else:
        inside = train.joined(validation) if refit else train
        outcome = choose_by_folds(recipe, inside, classes, folds=divider, jobs=jobs, progress=progress)
    for note in outcome.solution.notes:
        warn(_logger, "%s with %s: %s", recipe.name, outcome.solution.params, note)

    values: dict[str, Any] = {
        "name": recipe.name,
        "classes": classes,
        "spec": table.spec,
        "fingerprint": table.fingerprint,
        "feature_dim": table.feature_dim,
        "split_rule": rule,
        "params": outcome.solution.params,
        "counts": {split: _counts(classes, part.y) for split, part in images.items()},
        "unlabelled": n_unlabelled,
        "sweep": outcome.sweep,
        "steps": outcome.steps,
        "choice": {
            **_choice(recipe, outcome, folds),
            "fitted_on": fitted_on,
        },
        "seed": int(seed),
        "leaks": leaks,
        "label_conflicts": label_conflicts,
        "temperature": outcome.temperature,
        "train_views": of_views.train,
        "test_views": of_views.test,
        "weights": table.weights,
        "catalog": str(table.catalog_name),
        "space": str(table.space_name),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": current_versions(),
        "seen": seen,
        "linear": linear_form(
            outcome.solution.estimator, feature_dim=table.feature_dim, is_calibrated=recipe.is_calibrated
        ),
        "load_estimator": partial(_itself, outcome.solution.estimator),
    }
    nothing = scored(0, 0)
    unscored = Head(**values, validation=nothing, test=nothing)
    looks_again = divider is not None and not refit
    of_validation = _look_at(unscored, validation) if looks_again else _seen(outcome.held_out, unscored)
    tested = _look_at(unscored, test)
    rejection = None
    if below is not None:
        rejection = {
            "below": below,
            "validation": _rejection(of_validation, classes, below),
            "test": _rejection(tested, classes, below),
        }
    validated, checked = (scored(one.n_right, one.n) for one in (of_validation, tested))
    return Head(**values, validation=validated, test=checked, reject=rejection)


def _itself(estimator: Any) -> Any:
    return estimator


def _without_choice(recipe: Recipe, rule: SplitRule) -> Recipe:
    """Return the recipe with the middle of each grid, if too few validation images are left to choose by."""
    if not rule.validation:
        fixed = " ".join(f"--param {name}=…" for name in recipe.grid)
        raise SplitError(
            f"no labelled image is in validation, where {recipe.name} chooses its parameters; make "
            f"--validation larger than {rule.validation:g}, choose with --folds, or fix them with {fixed}"
        )
    middle = recipe.middle()
    values_used = ", ".join(f"{name}={values[0]}" for name, values in middle.grid.items())
    warn(
        _logger,
        "too few validation images for %s to choose its parameters: using %s, the middle of the "
        "range; add images, or choose with --folds",
        recipe.name,
        values_used,
    )
    return middle


def _counts(classes: NDArray[np.str_], y: NDArray[np.str_]) -> dict[str, int]:
    counts = np.bincount(np.searchsorted(classes, y), minlength=len(classes))
    return dict(zip(classes.tolist(), counts.tolist(), strict=True))


def _choice(recipe: Recipe, outcome: Outcome, folds: int | None) -> dict[str, Any]:
    by = "cross_entropy" if recipe.n_settings > 1 else None
    is_chosen = by is not None or folds is not None
    return {
        "by": by,
        "folds": folds,
        "n": outcome.held_out.n if is_chosen else 0,
        "top1": outcome.held_out.n_right / outcome.held_out.n if is_chosen and outcome.held_out.n else None,
    }


@dataclass(frozen=True, kw_only=True, eq=False)
class _Seen:
    """A head's accuracy on images that it was not fitted on, and its probabilities for a sample of them."""

    n_right: int
    n: int
    y: NDArray[np.str_]
    probabilities: NDArray[np.float64]


def _seen(held_out: HeldOut, head: Head) -> _Seen:
    probabilities = mean_over_views(softmax(held_out.scores / (head.temperature or 1.0)), held_out.n_views)
    return _Seen(n_right=held_out.n_right, n=held_out.n, y=held_out.y, probabilities=probabilities)


def _look_at(head: Head, images: Images) -> _Seen:
    """Predict images that the head was not fitted on, block by block."""
    n_classes = len(head.classes)
    kept = evenly_spaced(len(images), most_kept(n_classes))
    n_right = 0
    probabilities = np.empty((len(kept), n_classes))
    for at, block in images.to_predict.image_blocks():
        labels, found = head.predict_with_proba(block)
        n_right += int((labels == images.y[at]).sum())
        chosen = (kept >= at.start) & (kept < at.stop)
        probabilities[chosen] = found[kept[chosen] - at.start]
    return _Seen(n_right=n_right, n=len(images), y=images.y[kept], probabilities=probabilities)


def _rejection(seen: _Seen, classes: NDArray[np.str_], below: float) -> dict[str, Any]:
    return rejection_score(seen.y, seen.probabilities, classes, below=below)
