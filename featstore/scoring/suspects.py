"""Detection of likely label errors by cross-validated predictions."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featstore.errors import HeadError
from featstore.heads.data.samples import Images
from featstore.heads.data.view_counts import check_images, check_search_folds, checked_views
from featstore.heads.fitting.held_out import HeldOutPredictions, predict_held_out
from featstore.heads.fitting.limits import limits
from featstore.heads.recipe import Recipe, build_recipe
from featstore.heads.solvers.parallel import WarningNotes
from featstore.heads.solvers.solver import prepare, solve
from featstore.io.json_values import json_values
from featstore.notebook_table import html_table, percent
from featstore.scoring.fold_groups import warn_of_seen_labels
from featstore.splits import HashKFold
from featstore.stats.metrics import log_loss
from featstore.store.tables.grouping import join_groups

if TYPE_CHECKING:
    from featstore.store.tables.table import FeatureTable

__all__ = ["Suspect", "Suspects", "find_suspects"]

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Suspect:
    """An image whose label contradicts the prediction of a head that was not trained on it.

    Parameters
    ----------
    row : int
        Row in the table.
    path : str
        Absolute path.
    label : str
    suggested : str
        Most probable label.
    label_probability, probability : float
        Probabilities of the label and of the suggested one, in [0, 1].
    margin : float
        The first minus the second, in [-1, 0): the lower, the more suspect.
    content_hash : str
        SHA-256 of the file's content, 64 hexadecimal digits.

    Examples
    --------
    >>> import featstore
    >>> found = featstore.find_suspects(table, head="ridge", params={"alpha": 10}, folds=3)
    >>> all(suspect.label != suspect.suggested and suspect.margin < 0 for suspect in found.suspects)
    True
    """

    row: int
    path: str
    label: str
    suggested: str
    label_probability: float
    probability: float
    margin: float
    content_hash: str


@dataclass(frozen=True, kw_only=True)
class Suspects:
    """Result of :func:`find_suspects`.

    Parameters
    ----------
    head : str
    params : dict
        Parameters of the classifier, fixed or chosen.
    folds : int
    n_images : int
        Number of labelled images that were predicted.
    n_unjudged : int
        Number of labelled images that could not be, because all images of their class are in one fold.
    top1 : float
        Accuracy on the predicted images, in [0, 1].
    suspects : tuple of Suspect
        Misclassified images, the most suspect first.

    Examples
    --------
    >>> import featstore
    >>> found = featstore.find_suspects(table, head="ridge", params={"alpha": 10}, folds=3)
    >>> found.head, found.folds, found.n_images
    ('ridge', 3, 90)
    """

    head: str
    params: dict[str, Any]
    folds: int
    n_images: int
    n_unjudged: int
    top1: float
    suspects: tuple[Suspect, ...]

    def _repr_html_(self) -> str:
        return html_table(
            f"{len(self.suspects):,} suspects among {self.n_images:,} images, accuracy {percent(self.top1)}",
            ("label", "suggested", "image", "p(label)", "p(suggested)", "margin"),
            [
                (
                    one.label,
                    one.suggested,
                    one.path,
                    percent(one.label_probability),
                    percent(one.probability),
                    one.margin,
                )
                for one in self.suspects
            ],
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values; the keys are stable."""
        return json_values(self)


def find_suspects(
    table: "FeatureTable",
    *,
    head: Any = "logistic",
    params: Mapping[str, Any] | None = None,
    class_weight: str | Mapping[str, float] | None = None,
    views: Mapping[str, int] | None = None,
    folds: int = 10,
    progress: Callable[[int, int], None] | None = None,
) -> Suspects:
    """Rank the images whose labels are likely wrong.

    Images are assigned to folds by a hash (:class:`featstore.HashKFold`), groups and copies together; each
    fold is predicted by a head fitted on the others. An image is a suspect if another label than its own is
    the most probable. Suspects are ranked by the normalised margin, p(label) - max p(another label), of
    Northcutt, Jiang & Chuang (Confident learning, J. Artificial Intelligence Research 70, 2021, section 3.2);
    within a class that equals the ranking of their "prune by noise rate". A suspect is not a proven error:
    many are hard images with the correct label.

    The head's parameters are chosen once for all folds: those with the least cross entropy (for a head
    without probabilities: the fewest errors) on the first fold when fitted on the others. No image's label is
    used to fit the head that predicts it. The same table gives the same suspects.

    Parameters
    ----------
    table : FeatureTable
        Images without a label are left out.
    head : str, HeadInfo or scikit-learn classifier
        As for :func:`featstore.fit`.
    params : mapping, optional
        Parameters to fix, such as ``{"C": 0.01}``.
    class_weight : "balanced" or mapping of str to float, optional
        As for :func:`featstore.fit`.
    views : mapping, optional
        As for :func:`featstore.fit`: predictions average over an image's views for test.
    folds : int
        Number of folds, at least 2.
    progress : callable, optional
        Called as ``progress(done, total)`` with numbers of fits.

    Returns
    -------
    Suspects

    Raises
    ------
    UnknownHeadError
        There is no head of this name.
    HeadError
        There are fewer than two classes, or parameters or features are invalid.
    SplitError
        There are fewer than two folds, or one would be empty.

    Examples
    --------
    >>> import featstore
    >>> found = featstore.find_suspects(table, head="ridge", params={"alpha": 10}, folds=3)
    >>> found.n_images, found.top1 > 0.9
    (90, True)
    """
    check_images(table)
    warn_of_seen_labels(table)
    labels = np.asarray(table.y)
    rows = np.flatnonzero(labels != "")
    classes, y = np.unique(labels[rows], return_inverse=True)
    if len(classes) < 2:
        raise HeadError(
            f"the catalog {table.catalog_name} has {len(classes)} classes; finding suspects needs at least 2"
        )
    recipe = build_recipe(head, params=params, class_weight=class_weight, seed=0)
    recipe.check_classes(classes)
    hashes = np.asarray(table.content_hash)
    # Copies of a file may be in different groups.
    named = [group or None for group in np.asarray(table.groups).tolist()]
    groups = np.array(join_groups(named, hashes.tolist()), np.str_)
    of_views = checked_views(views)
    check_search_folds(recipe.estimator, of_views)
    images = Images(
        table=table.with_views(of_views.most),
        at=rows,
        y=labels[rows],
        groups=groups[rows],
        name="the catalog",
        views=of_views,
    )
    parts = list(HashKFold(folds).split(rows, groups=images.groups))
    recipe = recipe.for_n_rows(min(len(train) for train, _ in parts) * of_views.train)
    total = recipe.n_settings + folds - 1
    probabilities = np.zeros((len(rows), len(classes)))
    with limits(images, classes, n_tasks=folds) as notes:
        chosen = _choose(recipe, images, parts[0], notes, lambda done: progress and progress(done, total))
        temperature = chosen.predictions.temperature
        for number, (train, test) in enumerate(parts):
            predictions = chosen.predictions
            if number:
                inside, held_out = images.some(train), images.some(test)
                prepared = prepare(recipe, *inside.to_fit)
                [solution] = solve(recipe, prepared, [chosen.setting], notes, held_out=held_out.to_predict)
                predictions = predict_held_out(
                    solution,
                    held_out.to_predict,
                    _known_classes(inside.y),
                    held_out.y,
                    is_calibrated=recipe.is_calibrated,
                )
                chosen.notes.update(solution.notes)
            columns = np.searchsorted(classes, predictions.classes)
            probabilities[np.ix_(test, columns)] = predictions.probabilities(temperature)
            if progress is not None:
                progress(recipe.n_settings + number, total)
    for note in sorted(chosen.notes):
        _logger.warning("%s with %s: %s", recipe.name, chosen.params, note)
    own = probabilities[np.arange(len(rows)), y]
    is_predicted = ~np.isnan(own)
    for train, test in parts:
        is_predicted[test] &= np.isin(y[test], y[train])
    if not is_predicted.any():
        raise HeadError(f"no class has images in two of {folds} folds; label more images")
    guess = probabilities.argmax(axis=1)
    best = probabilities.max(axis=1)
    margins = own - best
    suspect_rows = np.flatnonzero(is_predicted & (guess != y) & (margins < 0))
    paths = table.paths
    return Suspects(
        head=recipe.name,
        params=chosen.params,
        folds=folds,
        n_images=int(is_predicted.sum()),
        n_unjudged=int((~is_predicted).sum()),
        top1=1 - len(suspect_rows) / int(is_predicted.sum()),
        suspects=tuple(
            Suspect(
                row=int(rows[at]),
                path=str(paths[rows[at]]),
                label=str(classes[y[at]]),
                suggested=str(classes[guess[at]]),
                label_probability=float(own[at]),
                probability=float(best[at]),
                margin=float(margins[at]),
                content_hash=str(hashes[rows[at]]),
            )
            for at in suspect_rows[np.argsort(margins[suspect_rows], kind="stable")]
        ),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Chosen:
    """The best setting on the first fold, and its predictions there."""

    setting: dict[str, Any]
    params: dict[str, Any]
    predictions: HeldOutPredictions
    notes: set[str]


def _choose(
    recipe: Recipe,
    images: Images,
    part: tuple[NDArray[np.intp], NDArray[np.intp]],
    notes: WarningNotes,
    report: Callable[[int], Any],
) -> _Chosen:
    """Fit each setting on all but the first fold, and choose the one with the least loss there."""
    inside, held_out = images.some(part[0]), images.some(part[1])
    classes = _known_classes(inside.y)
    is_known = np.isin(held_out.y, classes)
    y = np.searchsorted(classes, held_out.y[is_known])
    least, best = np.inf, None
    prepared, rows = prepare(recipe, *inside.to_fit), held_out.to_predict
    solutions = solve(recipe, prepared, recipe.settings, notes, held_out=rows)
    for number, solution in enumerate(solutions, start=1):
        predictions = predict_held_out(
            solution, rows, classes, held_out.y, is_calibrated=recipe.is_calibrated
        )
        loss = 0.0
        if len(y) and predictions.has_own:
            loss = log_loss(predictions.probabilities()[is_known], y)
        elif len(y):
            # Errors: cross entropy calibrated on these same images is unreliable for few of them.
            loss = float((predictions.predicted[is_known] != y).mean())
        if loss < least:
            least, best = loss, (solution, predictions)
        report(number)
    assert best is not None
    solution, predictions = best
    return _Chosen(
        setting=solution.setting, params=solution.params, predictions=predictions, notes={*solution.notes}
    )


def _known_classes(labels: NDArray[np.str_]) -> NDArray[np.str_]:
    classes = np.unique(labels)
    if len(classes) < 2:
        raise HeadError("only one class is left outside a fold; use fewer folds, or label more images")
    return classes
