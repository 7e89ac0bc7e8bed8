"""Fitting a head to a table of features."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featstore.class_names import look_alike_warning
from featstore.errors import SplitError
from featstore.heads.calibration import mean_over_views, softmax
from featstore.heads.classifier import HeadClassifier
from featstore.heads.data.blocks import Rows
from featstore.heads.data.part_runner import PartRunner
from featstore.heads.data.partition import (
    checked_classes,
    report_leaks,
    row_groups,
    split_rows,
    without_small_classes,
)
from featstore.heads.data.parts import over_parts
from featstore.heads.data.samples import Images
from featstore.heads.data.view_counts import check_images, check_search_folds, checked_views
from featstore.heads.files.head_file import current_versions
from featstore.heads.fit_warnings import warn
from featstore.heads.fitting.held_out import evenly_spaced, most_kept
from featstore.heads.fitting.spreading import spread_recipe
from featstore.heads.fitting.sweep import Outcome, Progress, choose_by_folds, choose_on_validation
from featstore.heads.fitting.sweep_scores import HeldOut
from featstore.heads.forms.fitted import fitted_form
from featstore.heads.forms.kernel import KernelForm
from featstore.heads.forms.linear import LinearForm
from featstore.heads.forms.network import NetworkForm
from featstore.heads.head import Head
from featstore.heads.prediction_sets import held_out_probabilities
from featstore.heads.recipe import Recipe, build_recipe
from featstore.heads.rejection import checked_reject, rejection_score
from featstore.heads.seen import SeenImages
from featstore.splits import HashKFold, SplitRule
from featstore.stats.intervals import scored

if TYPE_CHECKING:
    from featstore.store.tables.table import FeatureTable

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
    runner: PartRunner | None = None,
) -> Head:
    """Fit a head, with passes over the features here or by a runner; see :func:`featstore.fit`."""
    recipe = build_recipe(head, params=params, class_weight=class_weight, seed=seed)
    if runner is not None:
        recipe = spread_recipe(recipe)
    below = None if reject is None else checked_reject(reject)
    rule = SplitRule() if rule is None else rule
    refit = True if refit is None else bool(refit)
    check_images(table)
    of_views = checked_views(views)
    check_search_folds(recipe.estimator, of_views)
    divider = None if folds is None else HashKFold(folds, salt=rule.salt, stratify=True)
    weights = table.sample_weight
    if weights is not None:
        recipe.check_weights()
    labels = np.asarray(table.y)
    n_unlabelled = int((labels == "").sum())
    with_small = labels
    labels = without_small_classes(labels, min_images)
    left_out = np.unique(with_small[(labels == "") & (with_small != "")]).tolist()
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
    if weights is not None:
        # So that penalties mean what they mean without weights.
        weights = weights / weights[labels != ""].mean()
    images = {
        split: Images(
            table=view_table,
            at=at,
            y=labels[at],
            groups=groups[at],
            weights=None if weights is None else weights[at],
            name=split,
            views=of_views,
            runner=runner,
        )
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

    estimator = outcome.solution.estimator
    form = fitted_form(estimator, feature_dim=table.feature_dim, is_calibrated=recipe.is_calibrated)
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
        "weighted": weights is not None,
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
        "catalog_digests": dict(table.catalog_digests),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "renamed": dict.fromkeys(left_out, ""),
        "versions": current_versions(),
        "seen": seen,
        "linear": form if isinstance(form, LinearForm) else None,
        "kernel": form if isinstance(form, KernelForm) else None,
        "network": form if isinstance(form, NetworkForm) else None,
        "load_estimator": partial(_itself, estimator),
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
    held_out = held_out_probabilities(classes, of_validation.y, of_validation.probabilities)
    return Head(**values, validation=validated, test=checked, reject=rejection, held_out=held_out)


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
    is_kept = np.zeros(len(images), np.bool_)
    is_kept[kept] = True
    classifier = HeadClassifier(**{field.name: getattr(head, field.name) for field in fields(HeadClassifier)})
    n_right, n_done = 0, 0
    probabilities = np.empty((len(kept), n_classes))
    parts = over_parts(images.to_predict, _look_at_part, classifier, columns=[images.y, is_kept])
    for _, (n_right_there, some) in parts:
        n_right += n_right_there
        probabilities[n_done : n_done + len(some)] = some
        n_done += len(some)
    return _Seen(n_right=n_right, n=len(images), y=images.y[kept], probabilities=probabilities)


def _look_at_part(
    rows: Rows, y: NDArray[np.str_], is_kept: NDArray[np.bool_], classifier: HeadClassifier
) -> tuple[int, NDArray[np.float64]]:
    n_right, probabilities = 0, [np.empty((0, len(classifier.classes)))]
    for at, block in rows.image_blocks():
        labels, found = classifier.predict_with_proba(block)
        n_right += int((labels == y[at]).sum())
        probabilities.append(found[is_kept[at]])
    return n_right, np.concatenate(probabilities)


def _rejection(seen: _Seen, classes: NDArray[np.str_], below: float) -> dict[str, Any]:
    return rejection_score(seen.y, seen.probabilities, classes, below=below)
