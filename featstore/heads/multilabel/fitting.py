"""Fitting of a head that gives several labels."""

import logging
import math
from collections.abc import Callable, Mapping
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
from featstore.heads.forms.kernel import KernelForm
from featstore.heads.forms.linear import LinearForm
from featstore.heads.multilabel.decisions import best_thresholds, calibrated, fit_sigmoids, sigmoid
from featstore.heads.multilabel.head import MultiLabelHead
from featstore.heads.multilabel.scores import label_log_loss, score_values
from featstore.heads.multilabel.solving import label_recipe, solve_labels
from featstore.heads.seen import SeenImages
from featstore.heads.solvers.parallel import WarningNotes
from featstore.messages import listed
from featstore.process import one_thread
from featstore.splits import SplitRule

if TYPE_CHECKING:
    from featstore.store.table import FeatureTable

__all__ = ["fit_labels"]

_logger = logging.getLogger(__name__)

_Form = LinearForm | KernelForm


def fit_labels(
    table: "FeatureTable",
    *,
    head: str = "logistic",
    params: Mapping[str, Any] | None = None,
    rule: SplitRule | None = None,
    seed: int = 0,
    refit: bool | None = None,
    progress: Callable[[int, int, Mapping[str, Any]], None] | None = None,
) -> MultiLabelHead:
    """Fit a head to images that may have several labels: a classifier for each against all images without it.

    The setting with the least cross entropy of all labels on validation is kept, as :func:`featstore.fit`
    does. Scores of ``ridge``, ``svm`` and ``rbf`` become probabilities by a sigmoid for each label, fitted on
    validation (Platt); a label that fewer than ten images have, or lack, shares that of all. A label is given
    from the probability on that has the best F1 on validation. Unless ``refit=False``, the head is then
    fitted on train and validation, with these sigmoids and thresholds. Test images are scored once, at the
    end.

    Parameters
    ----------
    table : FeatureTable
        Of a catalog with a ``label_separator``. Images whose labels are not known are left out.
    head : {"logistic", "rbf", "ridge", "svm"}
    params : mapping, optional
        Parameters to fix, such as ``{"C": 0.3}``; the rest of the grid is still chosen.
    rule : SplitRule, optional
        As for :func:`featstore.fit`. Labels are not spread evenly over the splits.
    seed : int
        Random seed, in [0, 2**32).
    refit : bool, optional
        Whether to fit on validation too, once parameters and thresholds are chosen. Default: True.
    progress : callable, optional
        Called as ``progress(done, total, {"params": {…}, "map": …})`` after each setting.

    Returns
    -------
    MultiLabelHead

    Raises
    ------
    HeadError
        The head does not learn several labels; images have one each; there are fewer than two; or parameters
        or features are invalid.
    SplitError
        A label is missing from train, or the validation split is empty.

    Examples
    --------
    >>> import featstore
    >>> head = featstore.fit_labels(several, head="ridge")
    >>> head.classes.tolist(), head.predict(several.X[:2]).shape, head.test["map"] > 0.8
    (['bird', 'boat', 'sea', 'tree'], (2, 4), True)
    """
    if not table.label_separator:
        raise HeadError(
            f"images of the catalog {table.catalog_name} have one label each: use fit, or extract them with "
            "--label-separator or --label-columns"
        )
    recipe = label_recipe(head, None if params is None else dict(params), seed)
    rule = SplitRule() if rule is None else rule
    check_images(table)
    known = table.is_labelled
    rule, rows = split_rows(table, np.where(known, "known", ""), rule, chooses=True)
    classes, has = _classes(table, rows["train"])
    if not len(rows["validation"]):
        raise SplitError(
            "no labelled image is in validation, where thresholds are chosen; make --validation larger"
        )
    weights = table.sample_weight
    if weights is not None:
        weights = weights / weights[known].mean()

    def solved(at: NDArray[np.intp], settings: list[dict[str, Any]], name: str) -> Any:
        of_rows = None if weights is None else weights[at]
        return solve_labels(recipe, Rows(table, at, name=name), has[at], of_rows, settings)

    inside, outside = rows["train"], rows["validation"]
    settings = recipe.settings
    forms: list[tuple[_Form, _Form, dict[str, Any]]] = []
    losses: list[float] = []
    sweep: list[dict[str, Any]] = []
    is_calibrated = recipe.name == "logistic"
    with one_thread, WarningNotes() as notes:
        for number, form in enumerate(solved(inside, settings, "train")):
            scores = _scores(form, table, outside)
            ready = form if is_calibrated else calibrated(form, *fit_sigmoids(scores, has[outside]))
            probabilities = sigmoid(_scores(ready, table, outside))
            loss = label_log_loss(has[outside], probabilities)
            found = score_values(has[outside], probabilities >= 0.5, probabilities)
            sweep.append({"params": settings[number], "map": found["map"], "cross_entropy": loss})
            losses.append(loss if math.isfinite(loss) else math.inf)
            if chosen(losses) == number or not forms:
                forms = [(form, ready, settings[number])]
            if progress is not None and len(settings) > 1:
                progress(number + 1, len(settings), {"params": settings[number], "map": found["map"]})
        [(form, ready, setting)] = forms
        if recipe.solver == "warm" and len(settings) > 1:
            # From scratch, so that it equals a fit with this setting fixed.
            [form] = solved(inside, [setting], "train")
            ready = form
        probabilities = sigmoid(_scores(ready, table, outside))
        thresholds = best_thresholds(probabilities, has[outside])
        validation = score_values(has[outside], probabilities >= thresholds, probabilities)
        fitted_on = ["train"]
        if refit is None or refit:
            slope, offset = np.ones(len(classes)), np.zeros(len(classes))
            if not is_calibrated:
                slope, offset = fit_sigmoids(_scores(form, table, outside), has[outside])
            inside = np.sort(np.concatenate([inside, outside]))
            [form] = solved(inside, [setting], "train and validation")
            ready = calibrated(form, slope, offset)
            fitted_on = ["train", "validation"]
        for note in notes.take():
            warn(_logger, "%s with %s: %s", recipe.name, setting, note)
    hashes = np.asarray(table.content_hash_bytes)
    probabilities = sigmoid(_scores(ready, table, rows["test"]))
    return MultiLabelHead(
        name=recipe.name,
        classes=classes,
        thresholds=thresholds,
        spec=table.spec,
        fingerprint=table.fingerprint,
        feature_dim=table.feature_dim,
        split_rule=rule,
        params=recipe.fixed | setting,
        counts={
            split: dict(zip(classes.tolist(), has[at].sum(axis=0).tolist(), strict=True))
            for split, at in rows.items()
        },
        n_images={split: len(at) for split, at in rows.items()},
        unlabelled=int((~known).sum()),
        weighted=weights is not None,
        sweep=sweep if len(sweep) > 1 else [],
        fitted_on=fitted_on,
        validation=validation,
        test=score_values(has[rows["test"]], probabilities >= thresholds, probabilities),
        seed=int(seed),
        label_separator=table.label_separator,
        weights=table.weights,
        catalog=str(table.catalog_name),
        space=str(table.space_name),
        catalog_digests=dict(table.catalog_digests),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        versions=current_versions(),
        seen=SeenImages.of(hashes[inside], hashes[rows["validation"]]),
        form=ready,
    )


def _classes(table: "FeatureTable", train: NDArray[np.intp]) -> tuple[NDArray[np.str_], NDArray[np.bool_]]:
    """Return the labels and which image has which; raise if some cannot be learnt."""
    classes, has = np.asarray(table.classes), np.asarray(table.label_sets)
    if len(classes) < 2:
        raise HeadError(
            f"the catalog {table.catalog_name} has {len(classes)} labels; a head needs at least 2"
        )
    n_with = has[train].sum(axis=0)
    for is_lacking, what in ((n_with == 0, "has"), (n_with == len(train), "lacks")):
        if is_lacking.any():
            raise SplitError(
                f"no image in train {what} {listed(classes[is_lacking].tolist())}; add images, or make "
                "--test and --validation smaller"
            )
    return classes, has


def _scores(form: _Form, table: "FeatureTable", at: NDArray[np.intp]) -> NDArray[np.float64]:
    parts = [form.scores(block) for _, block in Rows(table, at, name="the table").blocks()]
    return np.concatenate(parts) if parts else np.empty((0, form.n_classes))
