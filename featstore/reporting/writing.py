"""Report on a head as one HTML file."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from featstore.heads.head import Head
from featstore.reporting.budget import (
    SECTIONS,
    check_choices,
    check_report_path,
    shared_texts,
    written,
)
from featstore.reporting.charts import calibration_chart, curve_chart, loss_chart, sweep_chart
from featstore.reporting.embedding import Thumbnails
from featstore.reporting.findings import Findings, find
from featstore.reporting.page import render
from featstore.reporting.records import page_data, shown_rows

if TYPE_CHECKING:
    from featstore.scoring.curves import LearningCurve
    from featstore.store.tables.table import FeatureTable

__all__ = ["Report", "report"]

# Larger matrices are lists of the pairs of classes that are confused.
_MOST_CLASSES, _MOST_PAIRS = 40, 200


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a report holds.

    Parameters
    ----------
    path : str
        Absolute path of the file.
    n_bytes : int
        Its size.
    n_images : int
        Number of images on its map.
    n_thumbnails : int
        Number of them that have a thumbnail.
    thumbnail_px : int or None
        The thumbnails' longer side at most; None if there are none.
    unreadable : list of dict
        ``{"path", "reason"}`` of each image whose file could not be used for a thumbnail.
    left_out : dict of str to str
        The reason of each part that is left out: ``"suspects"``, ``"duplicates"``, ``"outliers"``.
    split : str
    n : int
        Number of images scored.
    top1 : float
        Accuracy, in [0, 1].
    top1_ci : tuple of float
        Its 95% interval.

    Examples
    --------
    >>> import featstore, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     made = featstore.report(
    ...         featstore.fit(table, head="ridge"), table, f"{folder}/report.html", images=False
    ...     )
    >>> made.n, made.n_thumbnails, sorted(made.left_out)
    (11, 0, [])
    """

    path: str
    n_bytes: int
    n_images: int
    n_thumbnails: int
    thumbnail_px: int | None
    unreadable: list[dict[str, str]]
    left_out: dict[str, str]
    split: str
    n: int
    top1: float
    top1_ci: tuple[float, float]

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values; the keys are stable."""
        return {
            "path": self.path,
            "bytes": self.n_bytes,
            "images": self.n_images,
            "thumbnails": self.n_thumbnails,
            "thumbnail_px": self.thumbnail_px,
            "unreadable": self.unreadable,
            "left_out": self.left_out,
            "split": self.split,
            "n": self.n,
            "top1": self.top1,
            "top1_ci": list(self.top1_ci),
        }


def report(
    head: Head,
    table: "FeatureTable",
    path: str | os.PathLike[str],
    *,
    split: str = "test",
    curve: "LearningCurve | None" = None,
    images: bool = True,
    suspects: bool = True,
    budget_mb: float = 15.0,
    max_images: int = 50_000,
    map_by: str = "pca",
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Write a report on a head as one HTML file, which opens in any browser without a network.

    It shows the scores, the sweep of parameters and the calibration; the confusion matrix, whose cells open
    their photos; each class with its surest, worst and most typical photos; mistakes by confidence; images
    whose labels are likely wrong; duplicates, and those spread over splits; images unlike all training
    images; and a map of all images by their features.

    Scores are those of :func:`featstore.evaluate`. Suspects are found by a head of the same kind with the
    same parameters (:func:`featstore.find_suspects`), duplicates by :func:`featstore.find_duplicates`; the
    similarity to training images is the same as for duplicates, and does not count copies.

    Parameters
    ----------
    head : Head
    table : FeatureTable
        A table of the head's space, of any catalog.
    path : path_like
        Ends in ``.html`` or ``.htm``.
    split : {"test", "validation", "train", "all"}
        Images to score on, as for :func:`featstore.evaluate`.
    curve : LearningCurve, optional
        A learning curve to show.
    images : bool
        Whether to embed thumbnails of the photos. Paths and labels are in the report either way.
    suspects : bool
        Whether to look for wrong labels, which takes ten fits.
    budget_mb : float
        Most megabytes (a million bytes each) that the file may have. Thumbnails are as large as fit; where
        not even small ones of all images do, those that the lists show come first.
    max_images : int
        Most images on the map: those that the lists show, and others as good as drawn at random.
    map_by : {"pca", "umap"}
        The map's axes: the first two principal components; or UMAP, in which images that look alike to the
        network form groups, and distances between groups mean little (``pip install "featstore[umap]"``).
    overwrite : bool
        Whether to replace an existing file.
    progress : callable, optional
        Called as ``progress(done, total)`` with numbers of thumbnails.

    Returns
    -------
    Report

    Raises
    ------
    FingerprintMismatchError, NotInStoreError, SplitError, HeadError
        As for :func:`featstore.evaluate`.
    OutputError
        The file exists, is an image of the table, or lies in a store.
    MissingExtraError
        UMAP is not installed.
    ReportError
        The path has another ending, there is no such map, or the report does not fit into the budget even
        without thumbnails.

    Examples
    --------
    >>> import featstore, os, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     head = featstore.fit(table, head="ridge")
    ...     made = featstore.report(head, table, f"{folder}/report.html", images=False)
    ...     made.n_images, made.n_bytes == os.path.getsize(made.path)
    (90, True)
    """
    target = check_report_path(path, overwrite=overwrite, inputs=table.paths.tolist())
    check_choices(budget_mb=budget_mb, max_images=max_images, map_by=map_by)
    n_examples = 3 if len(head.classes) <= _MOST_CLASSES else 1
    found = find(head, table, split=split, n_examples=n_examples, with_suspects=suspects, map_by=map_by)
    rows = shown_rows(found, table, max_images=max_images)
    texts = _texts(head, table, found, curve)

    def made(thumbnails: Thumbnails) -> str:
        data = page_data(found, table, rows, thumbnails)
        number_of = {label: number for number, label in enumerate(data["labels"])}
        return render(
            "report", **texts, data=data, number_of=number_of, n_shown=len(rows), thumbnails=thumbnails
        )

    n_bytes, thumbnails = written(
        target, made, table, rows, budget_mb=budget_mb, images=images, progress=progress
    )
    return Report(
        path=target,
        n_bytes=n_bytes,
        n_images=len(rows),
        n_thumbnails=len(thumbnails.of_row),
        thumbnail_px=thumbnails.size_px,
        unreadable=[
            {"path": str(table.paths[row]), "reason": reason} for row, reason in thumbnails.unreadable
        ],
        left_out=found.left_out,
        split=found.evaluation.split,
        n=found.evaluation.n,
        top1=found.evaluation.top1,
        top1_ci=found.evaluation.top1_ci,
    )


def _texts(
    head: Head, table: "FeatureTable", found: Findings, curve: "LearningCurve | None"
) -> dict[str, Any]:
    """Return the values of the template, without the photos."""
    evaluation = found.evaluation
    charts = [sweep_chart(head), loss_chart(head), curve_chart(curve) if curve else None]
    return {
        **shared_texts(head, table, found),
        "score": evaluation.top1,
        "sections": (
            ("overview", "Overview"),
            ("confusion", "Confusion"),
            ("classes", "Classes"),
            *SECTIONS,
        ),
        "colours": (
            ("label", "label"),
            ("predicted", "prediction"),
            ("split", "split"),
            ("right", "right or wrong"),
        ),
        "evaluation": evaluation,
        "curve": curve,
        "charts": [chart for chart in (*charts, calibration_chart(evaluation)) if chart is not None],
        "matrix": _matrix(evaluation),
        "pairs": _pairs(evaluation),
    }


def _matrix(evaluation: Any) -> list[list[tuple[int, int]]] | None:
    """Return the count of each cell and its shade, 0 to 9, by its share of the row; None if too large."""
    if len(evaluation.classes) > _MOST_CLASSES:
        return None
    return [
        [(count, -(-9 * count // sum(row)) if count else 0) for count in row] for row in evaluation.confusion
    ]


def _pairs(evaluation: Any) -> list[tuple[int, str, str, float]]:
    """Return the pairs of classes that are confused most: count, true, predicted, share of the true class."""
    names = [one["label"] for one in evaluation.classes]
    found = [
        (count, names[true], names[guess], count / sum(row))
        for true, row in enumerate(evaluation.confusion)
        for guess, count in enumerate(row)
        if count and true != guess
    ]
    return sorted(found, key=lambda pair: -pair[0])[:_MOST_PAIRS]
