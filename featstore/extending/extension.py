"""Extending a head with the classes of new images."""

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featstore.errors import FingerprintMismatchError, HeadError, SplitError
from featstore.extending.columns import Columns
from featstore.extending.features import columns_of
from featstore.extending.gate import Gate
from featstore.extending.held_out import Method, hold_out
from featstore.extending.naming import Naming, name_classes
from featstore.extending.new_classifier import NewClassifier
from featstore.extending.offset import OffsetScores, choose_offset, offset_scores, trade_off
from featstore.extending.report import accuracy, calibration_scores, confusions, loss_scores
from featstore.extending.samples import N_FOLDS, Samples
from featstore.extending.training_images import gather_new, gather_old
from featstore.heads.data.partition import ignoring_weights, split_rows
from featstore.heads.files.head_file import current_versions
from featstore.heads.fitting.training import Progress, fit
from featstore.heads.forms.estimator import form_estimator
from featstore.heads.forms.gated import GatedForm
from featstore.heads.forms.kernel import KernelForm
from featstore.heads.forms.linear import LinearForm
from featstore.heads.forms.network import NetworkForm
from featstore.heads.head import Head
from featstore.heads.mismatch import differences
from featstore.splits import SplitRule
from featstore.stats.intervals import scored

if TYPE_CHECKING:
    from featstore.store.tables.table import FeatureTable

__all__ = ["METHODS", "extend"]

METHODS = ("gate", "columns", "imprinting")

# Parameters for too few images to choose them by folds.
_OF_FEW: Mapping[str, Mapping[str, float]] = {"logistic": {"C": 0.01}, "rbf": {"gamma": 1.0, "alpha": 1e-3}}

_BLOCK_ROWS = 8192

_logger = logging.getLogger(__name__)


def extend(
    old: Head | str | os.PathLike[str],
    table: "FeatureTable",
    *,
    method: str = "gate",
    head: str = "logistic",
    old_table: "FeatureTable | Sequence[FeatureTable] | None" = None,
    same: Mapping[str, str] | None = None,
    max_loss: float = 0.02,
    rule: SplitRule | None = None,
    seed: int = 0,
    jobs: int | None = None,
    progress: Progress | None = None,
) -> Head:
    """Extend a head with the classes of new images.

    Images of the old classes are optional. With them, the offset of the new classes is chosen such that at
    most ``max_loss`` of the old images lose their correct label, and the cost for the old classes is
    measured; without, such that 95% of the new images are recognised as new, at an unknown cost. Everything
    is chosen by 5-fold cross-validation, and measured on other images than those it was chosen on.

    Parameters
    ----------
    old : Head or path
        A linear, imported or extended head, ``rbf`` or ``mlp``. If it averages over several views of an
        image, the extended head does not: it predicts from the image itself.
    table : FeatureTable
        Images of the new classes, at least one, in the old head's space, or, for a gate, in that joined with
        others: the new classes then see all features, the old head and the gate its own. Images without a
        label are left out.
    method : {"gate", "columns", "imprinting"}
        ``"gate"``: the unchanged old head beside a classifier of the new classes; which of the two decides
        depends on the image's similarity to new training images (and to old ones, if any) and on the largest
        old score. ``"columns"``: new columns of a linear head are trained with the old ones frozen, on new
        images and on old ones or, without any, on synthetic features of the old classes. ``"imprinting"``:
        the new columns are the mean directions of the classes.
    head : str
        Head of the new classes behind a gate, by name: a linear one, ``"rbf"`` or ``"mlp"``.
    old_table : FeatureTable or sequence of FeatureTable, optional
        Images of old classes, in the same spaces. Those that the old head was fitted on are not used for
        measurements.
    same : mapping of str to str, optional
        New labels that are old classes, with the class: ``{"daisy": "daisy"}``. Any other label that is also
        an old class is named after its catalog, ``"daisy (flowers)"``.
    max_loss : float
        Share of old images that may lose their correct label, in [0, 1).
    rule : SplitRule, optional
        Rule that splits the new images; default ``SplitRule()``. The head is fitted on train and validation,
        and scored on test.
    seed : int
        Random seed, in [0, 2**32).
    jobs, progress
        As for :func:`featstore.fit`, which fits the classifier of the new classes.

    Returns
    -------
    Head
        Named after the method. ``extension`` reports how it was made, and its gains and costs:

        - ``method``, ``catalog``, ``labels`` (the head's name of each new label), ``new`` (its new classes),
          ``same``, ``max_loss``;
        - ``old``: ``name``, ``created``, ``n_classes``, ``catalog`` of the old head; ``old_catalogs``;
        - ``chosen``: ``by``, ``"max_loss"`` or ``"kept"``, the ``offset``, and ``n_new``, ``n_old``, the
          numbers of
          images that it was chosen on;
        - ``scores``: ``new``, the accuracy on the new test images over all classes, ``held_out``, on the
          others by
          cross-validation, and ``alone``, of the classifier of the new classes on the test images: each
          ``{"n", "top1", "top1_ci"}``; ``old``, None without old images: ``{"n", "top1_before", "top1_after",
          "lost", "lost_ci", "n_lost", "n_gained"}``; ``calibration``, on held-out images: ``{"n", "log_loss",
          "calibration_error"}``;
        - ``confused``: for each label that is kept apart from an old class of the same name, how often the
          two are
          confused: ``{"new", "old", "n_new", "n_new_as_old", "n_old", "n_old_as_new"}``;
        - ``curve``: the trade-off for other limits on the loss, ``{"offset", "new_top1", "lost"}`` each;
        - ``neighbors``: for a gate, the numbers of training features it keeps, ``{"new", "old"}``.

    Raises
    ------
    FingerprintMismatchError
        The images' features are of other backbones than the old head's, or than the new images'.
    HeadError
        The old head cannot be extended, or not by this method; there are no labels; ``same`` has an unknown
        label or class; or old images have labels that the old head does not know.
    SplitError
        A new class has no image in train.

    Examples
    --------
    >>> import featstore
    >>> old = featstore.fit(table.select(table.y != "tulips"), head="logistic", params={"C": 0.1})
    >>> head = featstore.extend(old, table.select(table.y == "tulips"))
    >>> head.classes.tolist(), head.extension["new"]
    (['daisy', 'roses', 'tulips'], ['tulips'])
    """
    if not isinstance(old, Head):
        old = Head.load(os.fspath(old))
    form = _checked(old, method=method, head=head, max_loss=max_loss)
    old_columns = columns_of(old, table, method=method)
    if old.test_views > 1:
        _logger.warning(
            "the old head averages over %d views of an image; the extended one predicts from the image "
            "itself",
            old.test_views,
        )
    tables = [] if old_table is None else [*old_table] if isinstance(old_table, Sequence) else [old_table]
    for one in tables:
        if one.fingerprint != table.fingerprint:
            raise FingerprintMismatchError(
                f"the old images' features are of {one.spec.name}, the new ones' of {table.spec.name}: "
                f"{', '.join(differences(table.spec, one.spec))}; both must be in the same spaces, in one "
                "order"
            )

    rule = SplitRule() if rule is None else rule
    table = ignoring_weights(table, "extend")
    labels = np.asarray(table.y)
    known = sorted({*labels.tolist()} - {""})
    if not known:
        raise HeadError(
            f"the catalog {table.catalog_name} has no labels ({len(labels)} images); "
            "extract from class folders, or from a CSV with a label column"
        )
    naming = name_classes(old.classes.tolist(), known, same=same or {}, catalog=str(table.catalog_name))
    alone = None
    if len(known) > 1:
        alone = _alone(table, head=head, rule=rule, seed=seed, jobs=jobs, progress=progress)
        rule = alone.split_rule
    rule, rows = split_rows(table, labels, rule, chooses=False)
    fitted_on = np.union1d(rows["train"], rows["validation"])
    new = gather_new(table, labels, fitted_on, known, rule)
    old_images = gather_old(old, tables, but=table)
    old_samples = old_images.samples
    if len(tables) and not (old_samples.folds >= 0).any():
        _logger.warning("the old head was fitted on all old images: the loss cannot be measured")

    classifier = NewClassifier(alone=alone, known=known, n_new=len(new), dims=table.feature_dims)
    method_of = _method(method, old, form, classifier, naming, old_columns=old_columns, seed=seed)
    held_out = hold_out(method_of, new, old_samples, naming)
    offset = choose_offset(held_out.new, held_out.old, max_loss=max_loss)
    temperature = held_out.temperature(offset, naming.classes)
    fitted = method_of(new, old_samples)
    final = fitted.with_offset(offset)
    test = _test_scores(fitted, table, labels, rows["test"], known, naming)
    old_predicted = held_out.old_predicted(offset, max_loss=max_loss)
    is_known = held_out.old is not None
    extension: dict[str, Any] = {
        "method": method,
        "catalog": str(table.catalog_name),
        "labels": naming.labels,
        "new": [name for name in naming.classes.tolist() if name not in old.classes],
        "same": naming.same,
        "max_loss": max_loss,
        "old": {
            "name": old.name,
            "created": old.created,
            "n_classes": len(old.classes),
            "catalog": old.catalog,
        },
        "old_catalogs": [str(one.catalog_name) for one in tables],
        "chosen": {
            "by": "max_loss" if is_known else "kept",
            "offset": offset,
            "n_new": len(held_out.new),
            "n_old": 0 if held_out.old is None else len(held_out.old),
        },
        "scores": {
            "new": accuracy(test.is_right(offset)),
            "held_out": accuracy(held_out.new.is_right(offset)),
            "alone": scored(0, 0) if alone is None else alone.test,
            "old": loss_scores(held_out.old, old_predicted),
            "calibration": calibration_scores(
                held_out, offset=offset, temperature=temperature, n_classes=len(naming.classes)
            ),
        },
        "confused": confusions(
            naming,
            (test.y, test.predicted(offset)),
            (np.empty(0, np.intp) if held_out.old is None else held_out.old.y, old_predicted),
        ),
        "curve": []
        if held_out.old is None
        else trade_off(held_out.new, test if len(test) else held_out.new, held_out.old, offset=offset),
        "neighbors": {"new": len(final.neighbors), "old": len(final.old_neighbors)}
        if isinstance(final, GatedForm)
        else None,
    }
    return Head(
        name=method,
        classes=naming.classes,
        spec=table.spec,
        fingerprint=table.fingerprint,
        feature_dim=table.feature_dim,
        split_rule=rule,
        params={} if alone is None else alone.params,
        counts={split: _counts(labels[at], naming) for split, at in rows.items()},
        unlabelled=int((labels == "").sum()),
        choice={
            "by": "folds",
            "folds": N_FOLDS,
            "n": len(held_out.new),
            "top1": float(held_out.new.is_right(offset).mean()),
            "fitted_on": ["train", "validation"],
        },
        seed=int(seed),
        validation=extension["scores"]["held_out"],
        test=extension["scores"]["new"],
        extension=extension,
        temperature=temperature,
        weights=table.weights,
        catalog=str(table.catalog_name),
        space=str(table.space_name),
        catalog_digests=_digests(old, table),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        versions=current_versions(),
        renamed=old.renamed,
        seen=old_images.seen_with(
            np.asarray(table.content_hash_bytes)[fitted_on], old, are_fitted_on=method != "imprinting"
        ),
        linear=final if isinstance(final, LinearForm) else None,
        gated=final if isinstance(final, GatedForm) else None,
        load_estimator=partial(form_estimator, final, naming.classes, temperature),
    )


def _digests(old: Head, table: "FeatureTable") -> dict[str, str]:
    """Return the digests of all catalogs that went into a head; none if one is unknown."""
    if old.catalog and not old.catalog_digests:
        return {}
    return {**old.catalog_digests, **table.catalog_digests}


def _checked(
    old: Head, *, method: str, head: str, max_loss: float
) -> LinearForm | GatedForm | KernelForm | NetworkForm:
    if method not in METHODS:
        raise HeadError(f"method must be one of {', '.join(METHODS)}; found {method!r}")
    if isinstance(max_loss, bool) or not 0 <= max_loss < 1:
        raise HeadError(
            f"max_loss must be a share of old images of at least 0 and below 1; found {max_loss!r}"
        )
    if method != "gate" and head != "logistic":
        raise HeadError(f"the method {method} has no head of the new classes; {head} is for the method gate")
    form = old.form
    if form is None:
        raise HeadError(
            f"the head {old.name} cannot be extended: it is neither linear nor rbf, mlp or extended; fit "
            "one of these (`featstore heads` lists them)"
        )
    if method != "gate" and not isinstance(form, LinearForm):
        raise HeadError(
            f"the head {old.name} is not linear, but {method} adds columns to linear heads; use the method "
            "gate"
        )
    return form


def _alone(
    table: "FeatureTable",
    *,
    head: str,
    rule: SplitRule,
    seed: int,
    jobs: int | None,
    progress: Progress | None,
) -> Head:
    """Fit a classifier of the new classes alone."""
    try:
        return fit(table, head=head, rule=rule, seed=seed, folds=N_FOLDS, jobs=jobs, progress=progress)
    except SplitError:
        if head not in _OF_FEW:
            raise
        # Errors other than too few images for folds occur again.
        fixed = _OF_FEW[head]
        few = fit(table, head=head, params=fixed, rule=rule, seed=seed, refit=True, progress=progress)
        named = ", ".join(f"{name}={value:g}" for name, value in fixed.items())
        _logger.warning("too few new images to choose parameters by %d folds: using %s", N_FOLDS, named)
        return few


def _method(
    method: str,
    old: Head,
    form: LinearForm | GatedForm | KernelForm | NetworkForm,
    classifier: NewClassifier,
    naming: Naming,
    *,
    old_columns: NDArray[np.int64] | None,
    seed: int,
) -> Method:
    """Return a function that fits the extension on given images."""
    temperature = old.temperature or 1.0
    if method == "gate" or not isinstance(form, LinearForm):

        def fit_gate(new: Samples, old_samples: Samples) -> Gate:
            return Gate.fit(
                form,
                classifier.fit(new),
                new,
                old_samples,
                naming=naming,
                temperatures=(temperature, classifier.temperature),
                old_columns=old_columns,
            )

        return fit_gate
    scaled = replace(form, coef=form.coef / temperature, intercept=form.intercept / temperature)
    if method == "imprinting":
        return lambda new, _old: Columns.imprint(scaled, new, naming=naming)
    return lambda new, old_samples: Columns.train(scaled, new, old_samples, naming=naming, seed=seed)


def _test_scores(
    fitted: Gate | Columns,
    table: "FeatureTable",
    labels: NDArray[np.str_],
    rows: NDArray[np.intp],
    known: list[str],
    naming: Naming,
) -> OffsetScores:
    """Score the test images, block by block."""
    y = naming.new[np.searchsorted(known, labels[rows])]
    classes = fitted.old_classes, fitted.new_classes
    starts = range(0, max(1, len(rows)), _BLOCK_ROWS)
    blocks = [slice(start, start + _BLOCK_ROWS) for start in starts]
    parts = [offset_scores(fitted.sides(table.select(rows[at]).X), classes, y[at]) for at in blocks]
    return OffsetScores(
        **{
            name: np.concatenate([getattr(part, name) for part in parts])
            for name in ("margin", "as_old", "as_new", "y")
        }
    )


def _counts(labels: NDArray[np.str_], naming: Naming) -> dict[str, int]:
    counts = dict.fromkeys(naming.labels.values(), 0)
    for label in labels.tolist():
        counts[naming.labels[label]] += 1
    return counts
