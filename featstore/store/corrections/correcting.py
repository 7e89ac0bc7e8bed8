"""Tables and catalogs with corrected labels."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from featstore.class_names import look_alike_warning
from featstore.errors import CorrectionsError, SeveralLabelsError, TargetError
from featstore.store.corrections.corrections import (
    DUPLICATE,
    EXCLUDED,
    CorrectionEffect,
    Corrections,
    apply_corrections,
)

if TYPE_CHECKING:
    from featstore.store.catalogs.catalog import Catalog
    from featstore.store.tables.table import FeatureTable

__all__ = ["correct_catalog", "correct_labels", "correction_effect", "is_correction"]

_log = logging.getLogger(__name__)


def correct_labels(table: "FeatureTable", corrections: Corrections) -> "FeatureTable":
    """Return a table with corrected labels, without the images that corrections leave out.

    Images are recognised by their content. All stay in their splits, so that scores before and after are of
    the same test images; whoever scores by corrected labels should have corrected them without regard to the
    head's predictions on test.

    Parameters
    ----------
    table : FeatureTable
    corrections : Corrections
        Such as :func:`featstore.read_corrections` returns.

    Returns
    -------
    FeatureTable

    Raises
    ------
    CorrectionsError
        None of the corrections is of an image of the table, or they leave out all of them.

    Examples
    --------
    >>> import featstore
    >>> one = featstore.Correction(content_hash=table.content_hash[1], decision="exclude")
    >>> len(table), len(featstore.correct_labels(table, featstore.Corrections((one,))))
    (90, 89)
    """
    check_one_label(table.label_separator, str(table.catalog_name), target=table.target_name)
    labels, reasons, effect = _applied(table, corrections)
    wanted = {
        content for content, one in corrections.current.items() if one.decision in ("accept", "relabel")
    }
    if wanted:
        check_matches(effect, corrections, table.catalog_name)
    _warn(effect, corrections, labels)
    is_kept = np.array([reason is None for reason in reasons], np.bool_)
    if not is_kept.any():
        raise CorrectionsError(f"{corrections.path} leaves out every image of {table.catalog_name}")
    column = np.empty(len(labels), object)
    column[:] = labels
    corrected = table._with(replace(table._columns, labels=column), table._assignment)
    return corrected if is_kept.all() else corrected.select(is_kept)


def correction_effect(table: "FeatureTable", corrections: Corrections) -> CorrectionEffect:
    """Return what corrections do to a table.

    Parameters
    ----------
    table : FeatureTable
    corrections : Corrections

    Returns
    -------
    CorrectionEffect

    Examples
    --------
    >>> import featstore
    >>> one = featstore.Correction(content_hash="0" * 64, decision="exclude")
    >>> featstore.correction_effect(table, featstore.Corrections((one,))).unmatched
    1
    """
    return _applied(table, corrections)[2]


def correct_catalog(
    catalog: "Catalog", corrections: Corrections, *, is_complete: bool = True
) -> tuple["Catalog", CorrectionEffect]:
    """Return a catalog with corrected labels; images that are left out have that as their reason."""
    check_one_label(catalog.label_separator, f"the catalog {catalog.name}", target=catalog.target_name)
    hashes = [row.tobytes().hex() for row in catalog.content_hash]
    labels, reasons, effect = apply_corrections(corrections, hashes, catalog.labels)
    if is_complete:
        check_matches(effect, corrections, catalog.name)
    _warn(effect, corrections, labels)
    told = [before or now for before, now in zip(catalog.reasons, reasons, strict=True)]
    return replace(catalog, labels=labels, reasons=told), effect


def is_correction(reason: str | None) -> bool:
    """Return whether an image is left out by a correction, and not since it cannot be used."""
    return reason is not None and reason.startswith((EXCLUDED, DUPLICATE))


def check_matches(effect: CorrectionEffect, corrections: Corrections, catalog: str) -> None:
    """Raise CorrectionsError if there are corrections, and none is of an image of a catalog."""
    if corrections.current and effect.unmatched == len(corrections.current):
        raise CorrectionsError(
            f"none of the {len(corrections.current):,} corrections in {corrections.path} is of an image of "
            f"the catalog {catalog}: give the file that was made for these photos"
        )


def check_one_label(separator: str, catalog: str, *, target: str = "") -> None:
    """Raise SeveralLabelsError or TargetError if images may have what corrections cannot name."""
    if target:
        raise TargetError(
            f"images of {catalog} have a number, {target}, and a correction names a label: leave out the "
            "corrections, and correct the numbers in the list that they come from"
        )
    if separator:
        raise SeveralLabelsError(
            f"images of {catalog} may have several labels, and a correction names one: leave out the "
            "corrections, and correct the labels in the list or folders that they come from"
        )


def _applied(
    table: "FeatureTable", corrections: Corrections
) -> tuple[list[str | None], list[str | None], CorrectionEffect]:
    labels: list[str | None] = table._columns.labels.tolist()
    return apply_corrections(corrections, table.content_hash.tolist(), labels)


def _warn(effect: CorrectionEffect, corrections: Corrections, labels: Sequence[str | None]) -> None:
    for sentence in effect.doubts(corrections.path):
        _log.warning("%s", sentence)
    if effect.new_labels and (doubt := look_alike_warning({label for label in labels if label})):
        _log.warning("%s", doubt)
