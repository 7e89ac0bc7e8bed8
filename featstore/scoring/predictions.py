"""Predictions of a head for images of a table, and the units to resample them by."""

import shlex
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from featstore.errors import HeadError
from featstore.heads.data.blocks import rows_of_images
from featstore.heads.data.view_counts import check_images
from featstore.heads.head import Head
from featstore.heads.multilabel.head import MultiLabelHead
from featstore.messages import listed
from featstore.splits import SplitRule

if TYPE_CHECKING:
    from featstore.store.tables.table import FeatureTable

__all__ = ["check_labels_known", "label_probabilities", "predict_images", "resampling_units"]


def check_labels_known(head: Head, labels: NDArray[np.str_], *, name: str | None = None) -> None:
    """Raise HeadError if images have labels that a head does not know."""
    unknown = sorted(set(labels.tolist()) - set(head.classes.tolist()))
    if unknown:
        n_unknown = int(np.isin(labels, unknown).sum())
        called = name or head.name
        idle = sorted({*head.classes.tolist()} - {*labels.tolist()})
        # One class without images and one unknown label: probably the class was renamed.
        pair = f"{idle[0]}={unknown[0]}" if len(idle) == len(unknown) == 1 else "OLD=NEW"
        raise HeadError(
            f"{n_unknown} of {len(labels)} images have labels that the head {called} does not know: "
            f"{listed(unknown)}; if the catalog has renamed its classes, rename them with `featstore head "
            f"classes --rename {shlex.quote(pair)}`; otherwise fit a head on a catalog with these labels"
        )


def predict_images(
    head: Head, table: "FeatureTable", at: NDArray[np.intp]
) -> tuple[NDArray[np.str_], NDArray[np.float64]]:
    """Predict images, each by as many views as the head averages over, block by block."""
    check_images(table)
    rows = rows_of_images(table, at, n_views=head.test_views, name="the table")
    predicted: list[NDArray[np.str_]] = []
    probabilities: list[NDArray[np.float64]] = []
    for _, block in rows.image_blocks():
        labels, likely = head.predict_with_proba(block)
        predicted.append(labels)
        probabilities.append(likely)
    return np.concatenate(predicted), np.concatenate(probabilities)


def label_probabilities(
    head: MultiLabelHead, table: "FeatureTable", at: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Return the probability of each label of some images, by as many views as the head averages over."""
    check_images(table)
    rows = rows_of_images(table, at, n_views=head.test_views, name="the table")
    return np.concatenate([head.predict_proba(block) for _, block in rows.image_blocks()])


def resampling_units(
    table: "FeatureTable", rows: NDArray[np.intp], rule: SplitRule
) -> tuple[str, NDArray[np.intp]]:
    """Return what is resampled, ``"image"`` or what the rule splits by, and each image's unit."""
    # Copies of a file add no information, and ten images of one patient less than ten patients.
    keys = np.asarray(table.group_keys(rule))[rows]
    return "image" if rule.by == "content" else rule.by, np.unique(keys, return_inverse=True)[1]
