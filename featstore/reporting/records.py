"""The data of a report's page: images by number, and the lists that show them."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from featstore.reporting.embedding import Thumbnails
from featstore.reporting.findings import Findings
from featstore.reporting.label_findings import LabelFindings
from featstore.splits import SPLITS

if TYPE_CHECKING:
    from featstore.store.tables.table import FeatureTable

__all__ = ["page_data", "rows_of_lists", "shared_data", "shown_rows"]

_Alike: TypeAlias = Findings | LabelFindings

MAX_MISTAKES, MAX_SUSPECTS, MAX_GROUPS, MAX_OUTLIERS = 500, 500, 200, 120
# Whole numbers of the map's axes: finer than any screen.
_STEPS = 4095


def shown_rows(found: Findings, table: "FeatureTable", *, max_images: int) -> list[int]:
    """Return the rows in a report, those that its lists name first."""
    lists = [group for one in found.examples.values() for group in (one.best, one.worst, one.typical)]
    lists += [_mistakes(found)[:MAX_MISTAKES], [one.row for one in _suspects(found)]]
    return rows_of_lists(found, table, lists, max_images=max_images)


def rows_of_lists(
    found: _Alike, table: "FeatureTable", lists: Iterable[Sequence[int]], *, max_images: int
) -> list[int]:
    """Return the rows that lists of a report name, those alike, the scored ones, and others."""
    named: dict[int, None] = {}
    for rows in (
        *lists,
        *([image.row for image in group.images] for group in _groups(found)),
        _outliers(found),
        found.scored.tolist(),
    ):
        named.update(dict.fromkeys(int(row) for row in rows))
    if found.nearest is not None:
        named.update(dict.fromkeys(int(found.nearest[row]) for row in _outliers(found)))
    # As good as drawn at random, and always the same.
    for row in np.lexsort(np.asarray(table.content_hash_bytes).T[::-1]).tolist():
        if len(named) >= max_images:
            break
        named[row] = None
    return list(named)


def page_data(
    found: Findings, table: "FeatureTable", rows: list[int], thumbnails: Thumbnails
) -> dict[str, Any]:
    """Return what the page's program reads; images are numbered in the table's order."""
    suggested = {one.suggested for one in _suspects(found)}
    names = sorted({*found.labels.tolist(), *found.predicted.tolist(), *suggested} - {""})
    of_name = {name: place for place, name in enumerate(names)}
    data, at, number = shared_data(found, table, rows, thumbnails)

    def numbers(chosen: Iterable[int]) -> list[int]:
        return [number[row] for row in chosen if row in number]

    data["images"] |= {
        "label": [of_name.get(label, -1) for label in found.labels[at].tolist()],
        "predicted": [of_name[label] for label in found.predicted[at].tolist()],
        "p": _rounded(found.probability[at]),
        "pLabel": _rounded(found.label_probability[at]),
    }
    return data | {
        "labels": names,
        "examples": {
            str(of_name[label]): [numbers(one.best), numbers(one.worst), numbers(one.typical)]
            for label, one in found.examples.items()
            if label in of_name
        },
        "mistakes": numbers(_mistakes(found)),
        "suspects": [
            [
                number[one.row],
                of_name[one.suggested],
                round(one.label_probability, 4),
                round(one.probability, 4),
            ]
            for one in _suspects(found)
        ],
    }


def shared_data(
    found: _Alike, table: "FeatureTable", rows: list[int], thumbnails: Thumbnails
) -> tuple[dict[str, Any], NDArray[np.intp], dict[int, int]]:
    """Return what does not depend on labels, the rows in the table's order, and the number of each."""
    at = np.sort(np.asarray(rows, np.intp))
    number = {row: place for place, row in enumerate(at.tolist())}
    paths = table.relative_paths
    is_scored = np.zeros(len(table), np.bool_)
    is_scored[found.scored] = True
    data: dict[str, Any] = {
        "splits": list(SPLITS),
        "thumbnails": thumbnails.files,
        "images": {
            "path": [paths[row] for row in at.tolist()],
            "split": [SPLITS.index(split) for split in found.splits[at].tolist()],
            "fitted": found.is_fitted[at].astype(int).tolist(),
            "scored": is_scored[at].astype(int).tolist(),
            "x": _steps(found.projection.points[at, 0]),
            "y": _steps(-found.projection.points[at, 1]),
            "thumbnail": [thumbnails.of_row.get(row, -1) for row in at.tolist()],
        },
        "groups": [
            {
                "images": [[number[image.row], round(image.similarity, 3)] for image in group.images],
                "marks": [
                    *(["labels differ"] if group.has_label_conflict else []),
                    *(["spread over splits"] if group.straddles_splits else []),
                    *(["identical files"] if group.is_identical else []),
                ],
            }
            for group in _groups(found)
        ],
        "outliers": [],
    }
    if found.similarity is not None and found.nearest is not None:
        data["outliers"] = [
            [number[row], round(float(found.similarity[row]), 3), number[int(found.nearest[row])]]
            for row in _outliers(found)
        ]
    return data, at, number


def _mistakes(found: Findings) -> list[int]:
    rows = found.scored[found.predicted[found.scored] != found.labels[found.scored]]
    ranked: list[int] = rows[np.argsort(-found.probability[rows], kind="stable")].tolist()
    return ranked


def _suspects(found: Findings) -> list[Any]:
    return [] if found.suspects is None else list(found.suspects.suspects[:MAX_SUSPECTS])


def _groups(found: _Alike) -> list[Any]:
    return [] if found.duplicates is None else list(found.duplicates.groups[:MAX_GROUPS])


def _outliers(found: _Alike) -> list[int]:
    if found.similarity is None:
        return []
    # Those that could be compared with no other image are at -1.
    rows = np.flatnonzero(found.similarity > -1)
    ranked: list[int] = rows[np.argsort(found.similarity[rows], kind="stable")][:MAX_OUTLIERS].tolist()
    return ranked


def _rounded(values: NDArray[np.float64]) -> list[float | None]:
    return [None if np.isnan(value) else round(value, 4) for value in values.tolist()]


def _steps(values: NDArray[np.float32]) -> list[int]:
    low, spread = float(values.min()), float(np.ptp(values)) or 1.0
    steps: list[int] = np.rint((values - low) * (_STEPS / spread)).astype(int).tolist()
    return steps
