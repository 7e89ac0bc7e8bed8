"""The data of a report's page on images with several labels."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from featstore.reporting.embedding import Thumbnails
from featstore.reporting.label_findings import LabelFindings
from featstore.reporting.records import MAX_MISTAKES, MAX_SUSPECTS, rows_of_lists, shared_data

if TYPE_CHECKING:
    from featstore.store.tables.table import FeatureTable

__all__ = ["label_page_data", "shown_label_rows"]


def shown_label_rows(found: LabelFindings, table: "FeatureTable", *, max_images: int) -> list[int]:
    """Return the rows in a report, those that its lists name first."""
    lists = [group for one in found.examples.values() for group in (one.best, one.missed, one.extra)]
    lists += [_mistakes(found)[:MAX_MISTAKES], [one.row for one in _suspects(found)]]
    return rows_of_lists(found, table, lists, max_images=max_images)


def label_page_data(
    found: LabelFindings, table: "FeatureTable", rows: list[int], thumbnails: Thumbnails
) -> dict[str, Any]:
    """Return what the page's program reads; images are numbered in the table's order."""
    names = list(found.examples)
    of_name = {name: place for place, name in enumerate(names)}
    data, at, number = shared_data(found, table, rows, thumbnails)

    def numbers(chosen: Iterable[int]) -> list[int]:
        return [number[row] for row in chosen if row in number]

    is_known = found.is_labelled[at].tolist()
    data["images"] |= {
        "sets": [
            np.flatnonzero(one).tolist() if known else None
            for one, known in zip(found.has[at], is_known, strict=True)
        ],
        "given": [np.flatnonzero(one).tolist() for one in found.given[at]],
        # Of labels that an image has or is given, by their numbers.
        "p": [
            {str(one): round(float(p[one]), 4) for one in np.flatnonzero(shown).tolist()}
            for p, shown in zip(found.probabilities[at], (found.has | found.given)[at], strict=True)
        ],
    }
    return data | {
        "labels": names,
        "examples": {
            str(of_name[label]): [numbers(one.best), numbers(one.missed), numbers(one.extra)]
            for label, one in found.examples.items()
        },
        "mistakes": numbers(_mistakes(found)),
        "suspects": [
            [number[one.row], of_name[one.label], one.kind, round(one.probability, 4)]
            for one in _suspects(found)
        ],
    }


def _mistakes(found: LabelFindings) -> list[int]:
    """Return the scored rows with a wrong label, by the probability of what is not so, the surest first."""
    has, given, p = (one[found.scored] for one in (found.has, found.given, found.probabilities))
    wrong = np.where(has != given, np.where(has, 1 - p, p), -1).max(axis=1)
    order = np.argsort(-wrong, kind="stable")
    ranked: list[int] = found.scored[order[wrong[order] >= 0]].tolist()
    return ranked


def _suspects(found: LabelFindings) -> list[Any]:
    return [] if found.suspects is None else list(found.suspects.suspects[:MAX_SUSPECTS])
