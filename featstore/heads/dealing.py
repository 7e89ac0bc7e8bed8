"""Which images a head is fitted, chosen and tested on, and what is wrong with that division."""

import logging
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featstore.errors import HeadError, SplitError
from featstore.splits import SPLITS, SplitRule

if TYPE_CHECKING:
    from featstore.store.table import FeatureTable

__all__ = ["checked_classes", "kept_together", "report_leaks", "rows_by_split"]

_logger = logging.getLogger(__name__)


def rows_by_split(
    table: "FeatureTable", labels: NDArray[np.str_], rule: SplitRule
) -> dict[str, NDArray[np.intp]]:
    """Return the rows of each split's labelled images."""
    splits = np.asarray(table.splits(rule))
    return {split: np.flatnonzero((labels != "") & (splits == split)) for split in SPLITS}


def kept_together(table: "FeatureTable", rule: SplitRule) -> NDArray[Any]:
    """Return what the rule keeps each image together with: the groups of folds.

    Returns
    -------
    ndarray of shape (n, 32), uint8, or of shape (n,), str
        The content hashes, or texts.
    """
    if rule.by == "filename":
        return np.array([os.path.basename(path) for path in table.paths], np.str_)
    if rule.by == "group":
        groups = np.asarray(table.groups)
        return np.where(groups == "", np.asarray(table.content_hash), groups)
    return np.asarray(table.content_hash_bytes)


def checked_classes(
    table: "FeatureTable", labels: NDArray[np.str_], rows: Mapping[str, NDArray[np.intp]]
) -> NDArray[np.str_]:
    """Return the classes, sorted, or say why no head can tell them apart.

    Raises
    ------
    HeadError
        There are no labels, or one class only.
    SplitError
        A class is missing from train.
    """
    catalog = table.catalog_name
    classes, totals = np.unique(labels[labels != ""], return_counts=True)
    if not len(classes):
        raise HeadError(
            f"the catalog {catalog} has no labels ({len(labels)} images); "
            "extract from class folders, or from a CSV with a label column"
        )
    if len(classes) == 1:
        raise HeadError(
            f"the catalog {catalog} has one class only, {classes[0]} ({totals[0]} images); "
            "a head needs at least 2"
        )
    missing = {split: np.isin(classes, labels[at], invert=True) for split, at in rows.items()}
    if missing["train"].any():
        absent = missing["train"]
        named = [f"{c} ({n} in all)" for c, n in zip(classes[absent], totals[absent], strict=True)]
        raise SplitError(
            f"no image is in train for {_listed(named)}; "
            "add images, make --test and --validation smaller, or try another --salt"
        )
    for split in ("validation", "test"):
        if not len(rows[split]):
            _logger.warning("no labelled image is in %s", split)
        elif missing[split].any():
            _logger.warning("no image is in %s for %s", split, _listed(classes[missing[split]].tolist()))
    return classes


def _listed(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def report_leaks(
    table: "FeatureTable", labels: NDArray[np.str_], rows: Mapping[str, NDArray[np.intp]]
) -> tuple[int, int]:
    """Return how many contents are in more than one split, and how many have more than one label."""
    used = np.concatenate([rows[split] for split in SPLITS])
    split_of = np.repeat(np.arange(len(SPLITS)), [len(rows[split]) for split in SPLITS])
    hashes = np.ascontiguousarray(np.asarray(table.content_hash_bytes)[used])
    _, content = np.unique(hashes.view("V32").ravel(), return_inverse=True)
    leaks = _n_mixed(content, split_of)
    if leaks:
        _logger.warning(
            "%d images occur in more than one split under the same bytes: scores on them are too good", leaks
        )
    conflicts = _n_mixed(content, np.unique(labels[used], return_inverse=True)[1])
    if conflicts:
        _logger.warning("%d images occur with more than one label under the same bytes", conflicts)
    return leaks, conflicts


def _n_mixed(content: NDArray[np.intp], mark: NDArray[np.intp]) -> int:
    """Count the contents that carry more than one mark."""
    n_marks = int(mark.max()) + 1
    return int((np.bincount(np.unique(content * n_marks + mark) // n_marks) > 1).sum())
