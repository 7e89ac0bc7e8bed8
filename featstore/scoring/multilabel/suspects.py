"""Detection of labels that are probably missing or wrong, of images that may have several."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from featstore.heads.data.view_counts import check_images, checked_views
from featstore.heads.fit_warnings import each_warning_once
from featstore.heads.multilabel.choosing import choose_out_of_fold
from featstore.heads.multilabel.folds import label_divisions
from featstore.heads.multilabel.images import LabelImages, learnable_labels
from featstore.heads.multilabel.scores import average_precisions
from featstore.heads.multilabel.solving import label_recipe
from featstore.io.json_values import json_values
from featstore.notebook_table import html_table, percent
from featstore.store.tables.grouping import join_groups

if TYPE_CHECKING:
    from featstore.store.tables.table import FeatureTable

__all__ = ["LabelSuspect", "LabelSuspects", "find_label_suspects"]


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelSuspect:
    """A label of an image, or one that it lacks, that contradicts a head which was not trained on the image.

    Parameters
    ----------
    row : int
        Row in the table.
    path : str
        Absolute path.
    label : str
    kind : {"missing", "wrong"}
        Whether the image lacks the label, which is probable, or has it, which is improbable.
    probability : float
        Probability of the label, in [0, 1].
    labels : tuple of str
        All labels of the image in the catalog.
    content_hash : str
        SHA-256 of the file's content, 64 hexadecimal digits.

    Examples
    --------
    >>> import featstore
    >>> found = featstore.find_label_suspects(several, head="ridge", params={"alpha": 10}, folds=3)
    >>> all((one.label in one.labels) == (one.kind == "wrong") for one in found.suspects)
    True
    """

    row: int
    path: str
    label: str
    kind: str
    probability: float
    labels: tuple[str, ...]
    content_hash: str


@dataclass(frozen=True, kw_only=True)
class LabelSuspects:
    """Result of :func:`find_label_suspects`.

    Parameters
    ----------
    head : str
    params : dict
        Parameters of the classifiers, fixed or chosen.
    folds : int
    n_images : int
        Number of images that were predicted.
    n_unjudged : int
        Number of images that could not be, because all with one of their labels are in one fold.
    map : float
        Mean over labels of their average precision on the predicted images, in [0, 1].
    classes : list of dict
        ``{"label", "n", "average_precision", "missing", "wrong"}`` for each label: number of predicted images
        with it, and numbers of suspects.
    suspects : tuple of LabelSuspect
        The most suspect first.

    Examples
    --------
    >>> import featstore
    >>> found = featstore.find_label_suspects(several, head="ridge", params={"alpha": 10}, folds=3)
    >>> found.head, found.folds, found.n_images
    ('ridge', 3, 200)
    """

    head: str
    params: dict[str, Any]
    folds: int
    n_images: int
    n_unjudged: int
    map: float
    classes: list[dict[str, Any]]
    suspects: tuple[LabelSuspect, ...]

    def _repr_html_(self) -> str:
        return html_table(
            f"{len(self.suspects):,} suspects among the labels of {self.n_images:,} images",
            ("label", "probably", "p(label)", "image", "labels"),
            [
                (one.label, one.kind, percent(one.probability), one.path, ", ".join(one.labels))
                for one in self.suspects
            ],
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values; the keys are stable."""
        return json_values(self)


def find_label_suspects(
    table: "FeatureTable",
    *,
    head: str = "logistic",
    params: Mapping[str, Any] | None = None,
    class_weight: str | None = None,
    views: Mapping[str, int] | None = None,
    folds: int = 10,
    progress: Callable[[int, int], None] | None = None,
) -> LabelSuspects:
    """Rank the labels that images probably lack, or have wrongly.

    Images are assigned to folds, groups and copies together and each label spread evenly; each fold is
    predicted by a head fitted on the others. A label is a suspect if its probability is above 0.5 and the
    image lacks it, or below and the image has it. Suspects are ranked by the probability of what the catalog
    says, the lowest first: the self-confidence of each label (Thyagarajan, Snorrason, Northcutt & Mueller,
    Identifying incorrect annotations in multi-label classification data, 2022). A suspect is not a proven
    error: many are hard images with the correct labels.

    The head's parameters, and sigmoids that make probabilities of its scores, are those with the least cross
    entropy over all folds together. No image is used to fit the classifiers that predict it.

    Parameters
    ----------
    table : FeatureTable
        Images whose labels are not known are left out.
    head, params, class_weight, views
        As for :func:`featstore.fit_labels`.
    folds : int
        Number of folds, at least 2.
    progress : callable, optional
        Called as ``progress(done, total)`` with numbers of fits.

    Returns
    -------
    LabelSuspects

    Raises
    ------
    HeadError
        As for :func:`featstore.fit_labels`.
    SplitError
        There are fewer than two folds, or fewer groups of images than folds.

    Examples
    --------
    >>> import featstore
    >>> found = featstore.find_label_suspects(several, head="ridge", params={"alpha": 10}, folds=3)
    >>> found.n_images, found.map > 0.9
    (200, True)
    """
    check_images(table)
    recipe = label_recipe(head, None if params is None else dict(params), class_weight, 0)
    classes, has = learnable_labels(table, np.flatnonzero(table.is_labelled))
    images = LabelImages.of(table, has, checked_views(views))
    hashes = np.asarray(table.content_hash)[images.at]
    groups = np.asarray(table.groups)[images.at].tolist()
    # Copies of a file may be in different groups.
    joined = join_groups([group or None for group in groups], hashes.tolist())
    keys = [key or content for key, content in zip(joined, hashes.tolist(), strict=True)]
    divisions = label_divisions(keys, images.has, folds=folds, salt="").divisions
    with each_warning_once():
        choice = choose_out_of_fold(
            recipe, images, divisions, None if progress is None else lambda done, of, _: progress(done, of)
        )
    rows, has, probabilities = choice.held_out, images.has[choice.held_out], choice.probabilities
    confidence = np.where(has, probabilities, 1 - probabilities)
    suspects = np.argwhere(confidence < 0.5)
    suspects = suspects[np.argsort(confidence[tuple(suspects.T)], kind="stable")]
    precisions = average_precisions(has, probabilities)[0]
    is_suspect, paths = confidence < 0.5, table.paths
    return LabelSuspects(
        head=recipe.name,
        params=recipe.fixed | choice.setting,
        folds=folds,
        n_images=len(rows),
        n_unjudged=len(images) - len(rows),
        map=float(np.nanmean(precisions)),
        classes=[
            {
                "label": label,
                "n": int(has[:, at].sum()),
                "average_precision": None if np.isnan(precisions[at]) else float(precisions[at]),
                "missing": int((is_suspect & ~has)[:, at].sum()),
                "wrong": int((is_suspect & has)[:, at].sum()),
            }
            for at, label in enumerate(classes.tolist())
        ],
        suspects=tuple(
            LabelSuspect(
                row=int(images.at[rows[at]]),
                path=str(paths[images.at[rows[at]]]),
                label=str(classes[number]),
                kind="wrong" if has[at, number] else "missing",
                probability=float(probabilities[at, number]),
                labels=tuple(classes[has[at]].tolist()),
                content_hash=str(hashes[rows[at]]),
            )
            for at, number in suspects.tolist()
        ),
    )
