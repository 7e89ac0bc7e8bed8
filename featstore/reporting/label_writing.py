"""Report on a head that gives several labels as one HTML file."""

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from featstore.heads.multilabel.head import MultiLabelHead
from featstore.reporting.budget import SECTIONS, check_choices, check_report_path, shared_texts, written
from featstore.reporting.charts import curve_chart, label_curve, loss_chart, map_chart
from featstore.reporting.embedding import Thumbnails
from featstore.reporting.label_findings import LabelFindings, find_labels
from featstore.reporting.label_records import label_page_data, shown_label_rows
from featstore.reporting.page import render

if TYPE_CHECKING:
    from featstore.scoring.multilabel.curves import LabelCurve
    from featstore.store.tables.table import FeatureTable

__all__ = ["LabelReport", "report_labels"]

_MANY_CLASSES = 40


@dataclass(frozen=True, kw_only=True)
class LabelReport:
    """What a report on a head that gives several labels holds.

    Parameters
    ----------
    path, n_bytes, n_images, n_thumbnails, thumbnail_px, unreadable, left_out, split, n
        As for :class:`featstore.Report`.
    map : float
        Mean average precision, in [0, 1].
    map_ci : tuple of float
        Its 95% interval.

    Examples
    --------
    >>> import featstore, tempfile
    >>> head = featstore.fit_labels(several, head="ridge")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     made = featstore.report_labels(head, several, f"{folder}/report.html", images=False)
    >>> made.n, made.n_thumbnails, sorted(made.left_out)
    (25, 0, ['duplicates', 'outliers'])
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
    map: float
    map_ci: tuple[float, float]

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values; the keys are stable."""
        values = asdict(self) | {"map_ci": list(self.map_ci)}
        for name in ("bytes", "images", "thumbnails"):
            values[name] = values.pop(f"n_{name}")
        return values


def report_labels(
    head: MultiLabelHead,
    table: "FeatureTable",
    path: str | os.PathLike[str],
    *,
    split: str = "test",
    curve: "LabelCurve | None" = None,
    images: bool = True,
    suspects: bool = True,
    budget_mb: float = 15.0,
    max_images: int = 50_000,
    map_by: str = "pca",
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> LabelReport:
    """Write a report on a head that gives several labels as one HTML file, which needs no network.

    It shows the scores and the sweep of parameters; each label with its precision-recall curve, its average
    precision, its threshold, and its surest, missed and extra photos; mistakes, as labels that are missed or
    extra; labels that are probably missing or wrong (:func:`featstore.find_label_suspects`, by a head of the
    same kind with the same parameters); duplicates; images unlike all training images; and a map of all.

    Parameters
    ----------
    head : MultiLabelHead
    table : FeatureTable
        A table of the head's space, of any catalog with several labels an image.
    path : path_like
        Ends in ``.html`` or ``.htm``.
    split : {"test", "validation", "train", "all"}
        Images to score on, as for :func:`featstore.evaluate_labels`.
    curve : LabelCurve, optional
        A learning curve to show.
    images, suspects, budget_mb, max_images, map_by, overwrite, progress
        As for :func:`featstore.report`.

    Returns
    -------
    LabelReport

    Raises
    ------
    FingerprintMismatchError, NotInStoreError, SplitError, HeadError
        As for :func:`featstore.evaluate_labels`.
    OutputError, MissingExtraError, ReportError
        As for :func:`featstore.report`.

    Examples
    --------
    >>> import featstore, os, tempfile
    >>> head = featstore.fit_labels(several, head="ridge")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     made = featstore.report_labels(head, several, f"{folder}/report.html", images=False)
    ...     made.n_images, made.n_bytes == os.path.getsize(made.path)
    (200, True)
    """
    target = check_report_path(path, overwrite=overwrite, inputs=table.paths.tolist())
    check_choices(budget_mb=budget_mb, max_images=max_images, map_by=map_by)
    n_examples = 2 if len(head.classes) <= _MANY_CLASSES else 1
    found = find_labels(
        head, table, split=split, n_examples=n_examples, with_suspects=suspects, map_by=map_by
    )
    rows = shown_label_rows(found, table, max_images=max_images)
    texts = _texts(head, table, found, curve)

    def made(thumbnails: Thumbnails) -> str:
        data = label_page_data(found, table, rows, thumbnails)
        number_of = {label: number for number, label in enumerate(data["labels"])}
        return render(
            "labels", **texts, data=data, number_of=number_of, n_shown=len(rows), thumbnails=thumbnails
        )

    n_bytes, thumbnails = written(
        target, made, table, rows, budget_mb=budget_mb, images=images, progress=progress
    )
    return LabelReport(
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
        map=found.evaluation.map,
        map_ci=found.evaluation.map_ci,
    )


def _texts(
    head: MultiLabelHead, table: "FeatureTable", found: LabelFindings, curve: "LabelCurve | None"
) -> dict[str, Any]:
    """Return the values of the template, without the photos."""
    evaluation = found.evaluation
    charts = [map_chart(head), loss_chart(head), curve_chart(curve) if curve else None]
    values = evaluation.to_dict()
    has = found.has[found.scored]
    of_label = [("right", "right or wrong"), ("split", "split")]
    of_label += [(f"with {at}", f"with {label}") for at, label in enumerate(head.classes.tolist())]
    return {
        **shared_texts(head, table, found),
        "score": evaluation.map,
        "sections": (("overview", "Overview"), ("classes", "Labels"), *SECTIONS),
        "colours": of_label,
        "evaluation": evaluation,
        "is_optimistic": bool(found.is_fitted[found.scored].any()),
        # Guesses find images of a label as often as they are.
        "chance": float(has.mean(axis=0)[has.any(axis=0)].mean()),
        "curve": curve,
        "charts": [chart for chart in charts if chart is not None],
        "curves": [
            label_curve(one, of_one) for one, of_one in zip(values["classes"], values["curves"], strict=True)
        ],
    }
