"""From a table of features to a fitted head."""

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
    deal,
    kept_together,
    report_leaks,
    without_small_classes,
)
from featstore.heads.data.samples import Images
from featstore.heads.data.view_counts import check_dealing, check_images, checked_views
from featstore.heads.files.head_file import current_versions
from featstore.heads.fitting.held_out import most_kept, spread
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
    """Fit a classifier on a table of features, and score it.

    A head known by its name is fitted once for each setting of its grid, and the setting with the least cross
    entropy on images held out is kept, of equal ones the most regularised. (Scores that are no probabilities
    are calibrated for that on these same images.) What it is chosen on:

    - without ``folds``, the validation split. The head is fitted on train and then, but with
      ``refit=False``, again on train and validation;
    - with ``folds``, folds dealt by a hash, in train and validation together. The head is then fitted on
      both; with ``refit=False``, folds and fit are in train alone, and validation is left untouched.

    Where the classifier has no probabilities of its own, its scores are divided by a temperature, which is
    found on images that it was not fitted on: validation, before the head is refitted, or each fold by the
    fit without it. So are those of ``logistic``, where that lowers the cross entropy on images that the
    temperature was not found on. The test split is looked at once, at the end. The same table, rule,
    parameters and seed give the same head, bit for bit, on one machine, whatever ``jobs`` is.

    Parameters
    ----------
    table : FeatureTable
        Images without a label are left out.
    head : str, HeadInfo or scikit-learn classifier
        A name that :func:`featstore.known_heads` lists, or a classifier of your own, of which a copy is
        fitted as it is. A search such as ``GridSearchCV`` gets what the rule keeps together as its groups
        where its ``cv`` is a :class:`featstore.HashKFold`, and its best estimator becomes the head's.
    params : mapping, optional
        Parameters to fix, such as ``{"C": 0.3}``; what stays open in the grid is still chosen.
    rule : SplitRule, optional
        Default: ``SplitRule()``. A split that the catalog gives wins over it. Where the catalog gives none to
        validation and there is something to choose, the rule's share of the images given to train is taken;
        the head's own rule then says ``validation_from_train``.
    views : mapping, optional
        Of how many views of each image, number 0 and those after it: ``"train"``, that the head is fitted on,
        each as a row of its own, and ``"test"``, over which probabilities are averaged wherever images are
        judged, here and by the head from then on. By default 1 each, the image itself: views for test cost
        each new image so many passes of the network, and those for training alone have not made heads on
        frozen features better (``benchmarks/views.py``). Splits and folds are dealt, and images counted, as
        without views: those of one image are always on the same side.
    class_weight : "balanced" or mapping of str to float, optional
        What an image of each class counts: ``"balanced"`` makes all classes count alike. Of ``lda`` it is the
        classes' priors that are weighted. Not for ``centroid`` and ``knn``, which fit no such sum.
    seed : int
        In [0, 2**32). Goes to every ``random_state`` that is not set.
    folds : int, optional
        Choose by this many folds, at least 2. What the split rule keeps together is in one fold.
    refit : bool, optional
        Whether the head is fitted on validation too, once its parameters are chosen. Default: True.
    min_images : int, optional
        Leave out classes with fewer labelled images than this, at least 1.
    reject : float, optional
        In [0, 1). The head answers "unknown" where its most probable class is less probable.
    jobs : int, optional
        How many fits run at once, -1 for one on each core; by default what ``joblib.parallel_config`` says,
        or 1. They share the features; each fold has a scaled copy of its own where the head needs one in
        memory.
    progress : callable, optional
        Called as ``progress(done, total, {"params": {…}, "top1": accuracy})`` after each fit; with several
        jobs, after each of these.

    Returns
    -------
    Head

    Raises
    ------
    UnknownHeadError
        No head has this name.
    HeadError
        There are no labels, or one class only; parameters or features are unfit; ``head`` is no classifier,
        or a search whose folds would tear the views of an image apart; the table's rows are views.
    NotInStoreError
        Images lack some of the views.
    SplitError
        A class is missing from train or, with folds, outside a fold; the validation split is empty while
        there is something to choose on it; or given splits tear apart what the rule keeps together.
    """
    recipe = build_recipe(head, params=params, class_weight=class_weight, seed=seed)
    below = None if reject is None else checked_reject(reject)
    rule = SplitRule() if rule is None else rule
    refit = True if refit is None else bool(refit)
    check_images(table)
    of_views = checked_views(views)
    check_dealing(recipe.estimator, of_views)
    divider = None if folds is None else HashKFold(folds, salt=rule.salt, stratify=True)
    labels = np.asarray(table.y)
    n_unlabelled = int((labels == "").sum())
    labels = without_small_classes(labels, min_images)
    chooses = divider is None and recipe.n_settings > 1
    rule, rows = deal(table, labels, rule, chooses=chooses)
    classes = checked_classes(table, labels, rows, rule)
    if told := look_alike_warning(classes.tolist()):
        _logger.warning("%s", told)
    recipe.check_classes(classes)
    leaks, label_conflicts = report_leaks(table, labels, rows)
    # Copies of one image may be in several splits, by their groups or by given splits.
    hashes = np.asarray(table.content_hash_bytes)
    is_trained_on = SeenImages.of(hashes[rows["train"]]).have_fitted(hashes)
    rows["validation"] = rows["validation"][~is_trained_on[rows["validation"]]]
    if chooses and not len(rows["validation"]):
        recipe = _without_choice(recipe, rule)
    together = kept_together(table, rule)
    viewed = table.with_views(of_views.most)
    images = {
        split: Images(table=viewed, at=at, y=labels[at], groups=together[at], name=split, views=of_views)
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
        _logger.warning("%s with %s: %s", recipe.name, outcome.solution.params, note)

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
        "weights": getattr(table, "weights", ""),
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
    """Return a recipe for images that are too few to choose by: with the middle of each grid."""
    if not rule.validation:
        fixed = " ".join(f"--param {name}=…" for name in recipe.grid)
        raise SplitError(
            f"no labelled image is in validation, and {recipe.name} chooses its parameters there; make "
            f"--validation larger than {rule.validation:g}, choose with --folds, or fix them with {fixed}"
        )
    middle = recipe.middle()
    told = ", ".join(f"{name}={values[0]}" for name, values in middle.grid.items())
    _logger.warning(
        "too few images for validation, where %s chooses its parameters: it takes %s, the middle of the "
        "range; add images, or choose with --folds",
        recipe.name,
        told,
    )
    return middle


def _counts(classes: NDArray[np.str_], y: NDArray[np.str_]) -> dict[str, int]:
    counts = np.bincount(np.searchsorted(classes, y), minlength=len(classes))
    return dict(zip(classes.tolist(), counts.tolist(), strict=True))


def _choice(recipe: Recipe, outcome: Outcome, folds: int | None) -> dict[str, Any]:
    by = "cross_entropy" if recipe.n_settings > 1 else None
    is_told = by is not None or folds is not None
    return {
        "by": by,
        "folds": folds,
        "n": outcome.held_out.n if is_told else 0,
        "top1": outcome.held_out.n_right / outcome.held_out.n if is_told and outcome.held_out.n else None,
    }


@dataclass(frozen=True, kw_only=True, eq=False)
class _Seen:
    """What a head gets right of images that it was not fitted on, and its probabilities for some of them."""

    n_right: int
    n: int
    y: NDArray[np.str_]
    probabilities: NDArray[np.float64]


def _seen(held_out: HeldOut, head: Head) -> _Seen:
    probabilities = mean_over_views(softmax(held_out.scores / (head.temperature or 1.0)), held_out.n_views)
    return _Seen(n_right=held_out.n_right, n=held_out.n, y=held_out.y, probabilities=probabilities)


def _look_at(head: Head, images: Images) -> _Seen:
    """Predict images that the head was not fitted on, a block at a time."""
    n_classes = len(head.classes)
    kept = spread(len(images), most_kept(n_classes))
    n_right = 0
    probabilities = np.empty((len(kept), n_classes))
    for at, block in images.to_judge.image_blocks():
        labels, found = head.predict_with_proba(block)
        n_right += int((labels == images.y[at]).sum())
        chosen = (kept >= at.start) & (kept < at.stop)
        probabilities[chosen] = found[kept[chosen] - at.start]
    return _Seen(n_right=n_right, n=len(images), y=images.y[kept], probabilities=probabilities)


def _rejection(seen: _Seen, classes: NDArray[np.str_], below: float) -> dict[str, Any]:
    return rejection_score(seen.y, seen.probabilities, classes, below=below)
