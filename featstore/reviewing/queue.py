"""The images of a table that are worth a look, by what speaks against them."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from featstore.duplicates.finding import find_duplicates
from featstore.duplicates.likeness import fit_likeness
from featstore.errors import HeadError, SearchError, SplitError
from featstore.heads.head import Head
from featstore.io.json_values import json_values
from featstore.labelling.choosing import next_to_label
from featstore.reporting.evidence import likely_suspects, nearest_training, predict_all
from featstore.scoring.near_duplicates import cannot_compare

if TYPE_CHECKING:
    from featstore.store.tables.table import FeatureTable

__all__ = ["KINDS", "ReviewItem", "ReviewQueue", "review_queue"]

KINDS = ("suspect", "duplicate", "unlabelled", "unsure", "outlier")


@dataclass(frozen=True, kw_only=True, slots=True)
class ReviewItem:
    """An image to look at.

    Parameters
    ----------
    row : int
        Row in the table; of copies, the first.
    path : str
        As the catalog has it.
    content_hash : str
        SHA-256 of the file's content, 64 hexadecimal digits.
    labels : tuple of str
        Its label; of copies with several all of them, and none of an unlabelled image.
    kinds : tuple of {"suspect", "duplicate", "unlabelled", "unsure", "outlier"}
        Why it is in the queue, the most important first.
    suggested : str
        The most probable label: of a suspect by heads that were not fitted on it, of others by the head.
    probability : float
        Of that label, in [0, 1].
    label_probability : float or None
        Of its own label; None where it has none, several, or one that the head does not know.
    other : int or None
        The row of another image to compare it with: of a duplicate one with another label, of an outlier the
        most similar training image.
    similarity : float or None
        To that image.

    Examples
    --------
    >>> import featstore
    >>> queue = featstore.review_queue(featstore.fit(table, head="ridge"), table, most=5)
    >>> item = queue.items[-1]
    >>> item.kinds, item.labels, item.other is not None
    (('outlier',), ('roses',), True)
    """

    row: int
    path: str
    content_hash: str
    labels: tuple[str, ...]
    kinds: tuple[str, ...]
    suggested: str
    probability: float
    label_probability: float | None = None
    other: int | None = None
    similarity: float | None = None


@dataclass(frozen=True, kw_only=True)
class ReviewQueue:
    """Result of :func:`review_queue`.

    Parameters
    ----------
    items : tuple of ReviewItem
        Suspects first, the most suspect of them at the top; each image once.
    left_out : dict of str to str
        The reason of each kind that was not looked for.

    Examples
    --------
    >>> import featstore
    >>> queue = featstore.review_queue(featstore.fit(table, head="ridge"), table, most=5)
    >>> len({item.content_hash for item in queue.items}) == len(queue.items), queue.left_out
    (True, {})
    """

    items: tuple[ReviewItem, ...]
    left_out: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values; the keys are stable."""
        return json_values(self)


@dataclass(kw_only=True, slots=True)
class _Noted:
    """What is known of an image so far."""

    row: int
    kinds: list[str] = field(default_factory=list)
    suggested: str | None = None
    probability: float | None = None
    label_probability: float | None = None
    other: int | None = None
    similarity: float | None = None


def review_queue(head: Head, table: "FeatureTable", *, most: int = 100) -> ReviewQueue:
    """List the images whose labels are worth a look.

    These are, in this order: suspects (:func:`featstore.find_suspects`); copies and near-duplicates with
    different labels (:func:`featstore.find_duplicates`); unlabelled images that are worth a label
    (:func:`featstore.next_to_label`); images whose prediction is least sure; and images unlike all training
    images.

    Whoever corrects test images because the head got them wrong makes its later scores too good: judge a head
    on test images that were all looked at, or on none.

    Parameters
    ----------
    head : Head
    table : FeatureTable
        A table of the head's space, of any catalog.
    most : int
        Most images of each kind, at least 1.

    Returns
    -------
    ReviewQueue

    Raises
    ------
    FingerprintMismatchError
        The table is of another space.
    SearchError
        ``most`` is below 1.

    Examples
    --------
    >>> import featstore
    >>> queue = featstore.review_queue(featstore.fit(table, head="ridge"), table, most=5)
    >>> [item.kinds[0] for item in queue.items].count("unsure")
    5
    """
    if most < 1:
        raise SearchError(f"the number of images of each kind must be at least 1; found {most}")
    head.check_fingerprint(table.fingerprint, spec=table.spec)
    hashes = table.content_hash.tolist()
    labels = head.labels_of(table)
    predicted, probability, label_probability = predict_all(head, table, labels)
    noted: dict[str, _Noted] = {}
    left_out: dict[str, str] = {}

    def note(row: int, kind: str, **told: Any) -> None:
        one = noted.setdefault(hashes[row], _Noted(row=row))
        if kind not in one.kinds:
            one.kinds.append(kind)
        for name, value in told.items():
            if getattr(one, name) is None:
                setattr(one, name, value)

    try:
        for suspect in likely_suspects(head, table).suspects[:most]:
            told = (suspect.suggested, suspect.probability, suspect.label_probability)
            note(
                suspect.row,
                "suspect",
                **dict(zip(("suggested", "probability", "label_probability"), told, strict=True)),
            )
    except (HeadError, SplitError) as error:
        left_out["suspect"] = str(error)
    _note_duplicates(head, table, note, left_out, most)
    try:
        for chosen in next_to_label(table, most).images if (labels == "").any() else ():
            note(chosen.row, "unlabelled")
    except (HeadError, SearchError) as error:
        left_out["unlabelled"] = str(error)
    for row in _firsts(np.argsort(probability, kind="stable").tolist(), hashes, most):
        note(row, "unsure")
    _note_outliers(head, table, note, left_out, most)
    of_content: dict[str, dict[str, None]] = {content: {} for content in noted}
    for content, label in zip(hashes, table.y.tolist(), strict=True):
        if content in of_content and label:
            of_content[content][label] = None
    paths = table.relative_paths
    items = []
    for content, one in noted.items():
        own: float | None = float(label_probability[one.row])
        if one.suggested is None:
            one.suggested, one.probability = str(predicted[one.row]), float(probability[one.row])
            one.label_probability = None if own is None or np.isnan(own) else own
        items.append(
            ReviewItem(
                row=one.row,
                path=paths[one.row],
                content_hash=content,
                labels=tuple(of_content[content]),
                kinds=tuple(one.kinds),
                suggested=one.suggested,
                probability=float(one.probability or 0),
                label_probability=one.label_probability if len(of_content[content]) == 1 else None,
                other=one.other,
                similarity=one.similarity,
            )
        )
    items.sort(key=lambda item: KINDS.index(item.kinds[0]))
    return ReviewQueue(items=tuple(items), left_out=left_out)


def _note_duplicates(
    head: Head, table: "FeatureTable", note: Any, left_out: dict[str, str], most: int
) -> None:
    if reason := cannot_compare(len(table), max(1, len(table) // 2), table.feature_dim):
        left_out["duplicate"] = reason
        return
    groups = find_duplicates(table, rule=head.split_rule, max_pairs=0).groups
    for group in [group for group in groups if group.has_label_conflict][:most]:
        for image in group.images:
            others = [
                other
                for other in group.images
                if other.content_hash != image.content_hash and other.label != image.label
            ]
            if others:
                note(image.row, "duplicate", other=others[0].row, similarity=image.similarity)
            else:
                note(image.row, "duplicate")


def _note_outliers(head: Head, table: "FeatureTable", note: Any, left_out: dict[str, str], most: int) -> None:
    train = np.flatnonzero(head.was_fitted_on(table))
    if not len(train):
        left_out["outlier"] = "the head was fitted on none of these images"
        return
    if reason := cannot_compare(len(table), len(train), table.feature_dim):
        left_out["outlier"] = reason
        return
    likeness = fit_likeness(table.X, np.asarray(table.content_hash_bytes))
    similarity, nearest = nearest_training(table, train, likeness)
    # Those that could be compared with no other image are at -1.
    rows = np.flatnonzero(similarity > -1)
    order = rows[np.argsort(similarity[rows], kind="stable")].tolist()
    for row in _firsts(order, table.content_hash.tolist(), most):
        note(row, "outlier", other=int(nearest[row]), similarity=float(similarity[row]))


def _firsts(rows: Iterable[int], hashes: list[str], most: int) -> list[int]:
    """Return the first rows of different contents."""
    found: dict[str, int] = {}
    for row in rows:
        if len(found) == most:
            break
        found.setdefault(hashes[row], row)
    return list(found.values())
