"""What all reports share: checks, texts, and a page that fits into a budget."""

import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from featstore.errors import ReportError
from featstore.extras import check_extra
from featstore.heads.head import Head
from featstore.heads.multilabel.head import MultiLabelHead
from featstore.io.atomic import write_text
from featstore.io.outputs import check_output
from featstore.reporting.embedding import Thumbnails, embed
from featstore.reporting.findings import Findings
from featstore.reporting.label_findings import LabelFindings
from featstore.reporting.projection import MAPS
from featstore.reporting.records import MAX_GROUPS, MAX_MISTAKES, MAX_OUTLIERS, MAX_SUSPECTS
from featstore.version import __version__

if TYPE_CHECKING:
    from featstore.store.tables.table import FeatureTable

__all__ = ["SECTIONS", "check_choices", "check_report_path", "shared_texts", "written"]

SECTIONS = (
    ("mistakes", "Mistakes"),
    ("suspects", "Suspects"),
    ("duplicates", "Duplicates"),
    ("outliers", "Outliers"),
    ("map", "Map"),
)

_MEGABYTE = 10**6
# Of each image with a thumbnail: its number, in place of -1.
_BYTES_A_NUMBER = 6


def check_choices(*, budget_mb: float, max_images: int, map_by: str) -> None:
    """Raise ReportError, or MissingExtraError, for what no report can be made with."""
    if not budget_mb > 0:
        raise ReportError(f"budget_mb must be a number above 0; found {budget_mb}")
    if max_images < 1:
        raise ReportError(f"max_images must be at least 1; found {max_images}")
    if map_by not in MAPS:
        raise ReportError(f"map_by must be one of {', '.join(MAPS)}; found {map_by!r}")
    if map_by == "umap":
        check_extra("umap", "a map by UMAP", "umap")


def check_report_path(
    path: str | os.PathLike[str], *, overwrite: bool = False, inputs: Iterable[str] = ()
) -> str:
    """Raise ReportError or OutputError if a report cannot be written to a path."""
    if os.path.splitext(os.fspath(path))[1].lower() not in (".html", ".htm"):
        raise ReportError(f"a report ends in .html or .htm; found {os.path.basename(os.fspath(path))}")
    return check_output(path, overwrite=overwrite, inputs=inputs)


def shared_texts(
    head: Head | MultiLabelHead, table: "FeatureTable", found: Findings | LabelFindings
) -> dict[str, Any]:
    """Return the values that the templates of all reports take."""
    duplicates = found.duplicates
    groups = () if duplicates is None else duplicates.groups
    return {
        "head": head,
        "table": table,
        "suspects": found.suspects,
        "duplicates": duplicates,
        "n_straddling": sum(group.straddles_splits for group in groups),
        "n_conflicts": sum(group.has_label_conflict for group in groups),
        "left_out": found.left_out,
        "shares": found.projection.shares,
        "most": {
            "mistakes": MAX_MISTAKES,
            "suspects": MAX_SUSPECTS,
            "groups": MAX_GROUPS,
            "outliers": MAX_OUTLIERS,
        },
        "version": __version__,
    }


def written(
    target: str,
    made: Callable[[Thumbnails], str],
    table: "FeatureTable",
    rows: list[int],
    *,
    budget_mb: float,
    images: bool,
    progress: Callable[[int, int], None] | None,
) -> tuple[int, Thumbnails]:
    """Write a page with as many thumbnails as fit; return its bytes, and the thumbnails."""
    thumbnails = Thumbnails()
    budget, page = int(budget_mb * _MEGABYTE), made(thumbnails)
    n_left = budget - len(page.encode()) - _BYTES_A_NUMBER * len(rows)
    if n_left < 0:
        needed = (len(page.encode()) + _BYTES_A_NUMBER * len(rows)) / _MEGABYTE
        raise ReportError(
            f"the report has {needed:.1f} MB even without photos, more than {budget_mb:g} MB: raise "
            "the budget, or show fewer images on the map"
        )
    if images:
        thumbnails = embed(table, rows, n_bytes=n_left, progress=progress or (lambda done, total: None))
        page = made(thumbnails)
    write_text(target, page)
    return len(page.encode()), thumbnails
