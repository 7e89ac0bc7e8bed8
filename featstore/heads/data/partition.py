"""Assignment of labelled images to train, validation and test, with checks of the result."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featstore.errors import HeadError, SplitError
from featstore.heads.fit_warnings import warn
from featstore.messages import listed
from featstore.splits import SPLITS, SplitRule

if TYPE_CHECKING:
    from featstore.store.tables.table import FeatureTable

__all__ = [
    "checked_classes",
    "counted_names",
    "ignoring_weights",
    "report_leaks",
    "row_groups",
    "split_rows",
    "without_small_classes",
]

_Rows = dict[str, NDArray[np.intp]]

_logger = logging.getLogger(__name__)

_SHOWN = 3


def without_small_classes(labels: NDArray[np.str_], min_images: int | None) -> NDArray[np.str_]:
    """Return the labels with those of fewer than ``min_images`` images replaced by ``""``."""
    if min_images is None:
        return labels
    if isinstance(min_images, bool) or not isinstance(min_images, int | np.integer) or min_images < 1:
        raise HeadError(f"min_images must be an integer of at least 1; found {min_images!r}")
    classes, codes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    is_small = (counts < min_images) & (classes != "")
    if not is_small.any():
        return labels
    n_small, small = int(is_small.sum()), listed(counted_names(classes[is_small], counts[is_small]))
    if (n_left := int((classes != "").sum()) - n_small) < 2:
        which = "only one class has" if n_left else "no class has"
        raise HeadError(
            f"{which} at least {min_images} images; a head needs two: give a smaller min_images "
            f"(--min-images), or add images of {small}"
        )
    what = "classes" if n_small > 1 else "class"
    text = f"{n_small} {what} with fewer than %d images {'are' if n_small > 1 else 'is'} left out: %s"
    warn(_logger, text, min_images, small)
    return np.where(is_small[codes], "", labels)


def ignoring_weights(table: "FeatureTable", what: str) -> "FeatureTable":
    """Return a table without weights of images, with a warning if it has any."""
    if table.sample_weight is None:
        return table
    warn(_logger, "%s counts all images alike: the weights of the catalog are for fit alone", what)
    return table.without_weights()


def split_rows(
    table: "FeatureTable", labels: NDArray[np.str_], rule: SplitRule, *, chooses: bool
) -> tuple[SplitRule, _Rows]:
    """Split the labelled images by a rule; return the rule that was used and the rows of each split."""
    # If parameters are to be chosen and the given splits have no validation images, the rule's share of those
    # given to train is taken, and the returned rule has validation_from_train.
    given = np.where(labels == "", "", np.asarray(table.given_splits))
    rows = _rows_by_split(table, labels, rule)
    if chooses and not len(rows["validation"]) and (given == "train").any():
        wider = replace(rule, validation_from_train=True)
        wider_rows = _rows_by_split(table, labels, wider)
        if n_taken := len(wider_rows["validation"]):
            rule, rows = wider, wider_rows
            warn(
                _logger,
                "no image is given to validation, which is needed to choose parameters: using %d of the %d "
                "images given to train",
                n_taken,
                (given == "train").sum(),
            )
    for split in ("validation", "test"):
        n_given = int((given == split).sum())
        n_more = len(rows[split]) - n_given
        if n_given and n_more:
            warn(
                _logger,
                "%d of the %d images in %s have no given split and are there by the rule; use --%s 0 to keep "
                "them out",
                n_more,
                len(rows[split]),
                split,
                split,
            )
    _check_groups(table, labels, rule, rows)
    return rule, rows


def _rows_by_split(table: "FeatureTable", labels: NDArray[np.str_], rule: SplitRule) -> _Rows:
    splits = np.asarray(table.splits(rule))
    return {split: np.flatnonzero((labels != "") & (splits == split)) for split in SPLITS}


def _check_groups(table: "FeatureTable", labels: NDArray[np.str_], rule: SplitRule, rows: _Rows) -> None:
    """Refuse groups that given splits tear apart, and warn of groups that the rule ignores."""
    by_content = rule.by == "content"
    keys = np.asarray(table.groups if by_content else table.group_keys(rule))
    grouped = (keys != "") & (labels != "")
    if not by_content:
        grouped &= keys != np.asarray(table.content_hash)
    n_labelled, n_grouped = int((labels != "").sum()), int(grouped.sum())
    if n_grouped < n_labelled and not by_content:
        warn(
            _logger,
            "%d of %d images have no %s: they are split by content",
            n_labelled - n_grouped,
            n_labelled,
            "match for the pattern" if rule.by == "pattern" else rule.by,
        )
    if not grouped.any():
        return
    names, numbers = np.unique(keys, return_inverse=True)
    counts = np.zeros((len(names), len(SPLITS)), dtype=np.intp)
    for column, split in enumerate(SPLITS):
        at = rows[split][grouped[rows[split]]]
        counts[:, column] = np.bincount(numbers[at], minlength=len(names))
    torn = np.flatnonzero((counts > 0).sum(axis=1) > 1)
    if not len(torn):
        return
    n_groups = int((counts > 0).any(axis=1).sum())
    if by_content:
        warn(
            _logger,
            "%d of the catalog's %d groups have images in more than one split; use --split-by group to keep "
            "each together",
            len(torn),
            n_groups,
        )
        return
    shown = [f"{str(names[at])!r} ({_counts(counts[at])})" for at in torn]
    raise SplitError(
        f"{len(torn)} of {n_groups} groups by {rule.by} have images in more than one split, because the "
        f"catalog gives their images different splits: {listed(shown, most=_SHOWN)}; correct the given "
        "splits, or use them as they are with --split-by content"
    )


def row_groups(table: "FeatureTable", rule: SplitRule) -> NDArray[Any]:
    """Return each image's group: content hashes, uint8 of shape (n, 32), or str of shape (n,)."""
    return np.asarray(table.content_hash_bytes if rule.by == "content" else table.group_keys(rule))


def _counts(counts: NDArray[np.intp]) -> str:
    return ", ".join(f"{n} in {split}" for n, split in zip(counts, SPLITS, strict=True) if n)


def checked_classes(
    table: "FeatureTable", labels: NDArray[np.str_], rows: Mapping[str, NDArray[np.intp]], rule: SplitRule
) -> NDArray[np.str_]:
    """Return the classes; raise if there are fewer than two, or one is missing from train."""
    catalog = table.catalog_name
    classes, totals = np.unique(labels[labels != ""], return_counts=True)
    if not len(classes):
        raise HeadError(
            f"the catalog {catalog} has no labels ({len(labels)} images); "
            "extract from class folders, or from a CSV with a label column"
        )
    if len(classes) == 1:
        raise HeadError(
            f"the catalog {catalog} has only one class, {classes[0]} ({totals[0]} images); "
            "a head needs at least 2"
        )
    missing = {split: np.isin(classes, labels[at], invert=True) for split, at in rows.items()}
    if missing["train"].any():
        absent = missing["train"]
        named = [f"{c} ({n} in all)" for c, n in zip(classes[absent], totals[absent], strict=True)]
        given = np.asarray(table.given_splits)[np.isin(labels, classes[absent])]
        if (given != "").all():
            remedy = "the catalog gives all of them other splits: correct its lists or its column split"
        else:
            remedy = "add images, make --test and --validation smaller, or try another --salt"
            if rule.by == "retrain":
                remedy = "add images, or make --test and --validation smaller"
            elif rule.by != "content":
                remedy += f"; the split is by {rule.by}, which may keep a whole class together"
        raise SplitError(f"no image is in train for {listed(named)}; {remedy}")
    problems = []
    for split in ("validation", "test"):
        if not len(rows[split]):
            problems.append(f"no labelled image is in {split}")
        elif missing[split].any():
            absent = missing[split]
            problems.append(
                f"no image is in {split} for {listed(counted_names(classes[absent], totals[absent]))}"
            )
    if problems:
        if any(missing[split].any() and len(rows[split]) for split in ("validation", "test")):
            problems.append("use --min-images to leave out small classes")
        warn(_logger, "%s", "; ".join(problems))
    return classes


def counted_names(classes: NDArray[np.str_], counts: NDArray[np.intp]) -> list[str]:
    """Return each class with its number of images, as ``roses (3)``."""
    return [f"{name} ({n})" for name, n in zip(classes.tolist(), counts.tolist(), strict=True)]


def report_leaks(
    table: "FeatureTable", labels: NDArray[np.str_], rows: Mapping[str, NDArray[np.intp]]
) -> tuple[int, int]:
    """Return the number of contents in more than one split, and with more than one label."""
    used = np.concatenate([rows[split] for split in SPLITS])
    split_of = np.repeat(np.arange(len(SPLITS)), [len(rows[split]) for split in SPLITS])
    hashes = np.ascontiguousarray(np.asarray(table.content_hash_bytes)[used])
    _, content = np.unique(hashes.view("V32").ravel(), return_inverse=True)
    leaks = _n_mixed(content, split_of)
    if leaks:
        warn(
            _logger,
            "%d images have identical copies in more than one split: copies of images that the head is "
            "fitted on are not scored",
            leaks,
        )
    conflicts = _n_mixed(content, np.unique(labels[used], return_inverse=True)[1])
    if conflicts:
        warn(_logger, "%d images have identical copies with another label", conflicts)
    return leaks, conflicts


def _n_mixed(content: NDArray[np.intp], mark: NDArray[np.intp]) -> int:
    """Count the contents with more than one mark."""
    n_marks = int(mark.max()) + 1
    return int((np.bincount(np.unique(content * n_marks + mark) // n_marks) > 1).sum())
