"""Differences between a catalog and what its source holds now."""

import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import numpy as np

from featstore.flow.changes import parents
from featstore.flow.ledger import Ledger
from featstore.flow.loading import load_images
from featstore.images.sources.opening import open_source
from featstore.io.json_values import json_values
from featstore.store import Catalog, Corrections, FeatureStore, correct_catalog, read_corrections
from featstore.store.tables.columns import number_texts

__all__ = ["SourceDiff", "diff"]

_IMAGES_AHEAD = 64


@dataclass(frozen=True, kw_only=True)
class SourceDiff:
    """Differences between a catalog and a source.

    Images are matched by content first, and what is left by path. Each copy of an image counts.

    Attributes
    ----------
    store, catalog, source : str
        Absolute path of the store, name of the catalog, and absolute path of the source; ``""`` for a list in
        memory.
    images, images_before : int
        Images of the source, and of the catalog; those that cannot be read are included.
    unchanged : int
        Images with the same path, content and label.
    added, removed : tuple of str
        Paths that only the source or only the catalog has, with a content that is not in the other, or has
        fewer copies there.
    renamed : tuple of (str, str)
        Path in the source and path in the catalog of the same content.
    changed : tuple of str
        Paths whose content is another one.
    relabelled : tuple of (str, str or None, str or None)
        Path in the source, label in the catalog and label in the source of the same content. In a source of
        class folders such an image is among those renamed too.
    failures : tuple of (str, str)
        Path and reason of what cannot be read or is known not to be decodable.
    read : int
        Files that were opened, because size, times or inode differ from those in the catalog.
    seconds : float
        Wall time.

    Examples
    --------
    >>> import os, tempfile
    >>> import featstore
    >>> from featstore.images import write_digits
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     n_images = write_digits(f"{folder}/digits", n_images=10)
    ...     report = featstore.extract(
    ...         f"{folder}/digits", store=f"{folder}/digits.fstore", backbone="scattering"
    ...     )
    ...     os.remove(f"{folder}/digits/3/0003.png")
    ...     os.rename(f"{folder}/digits/1/0001.png", f"{folder}/digits/7/0001.png")
    ...     found = featstore.diff(f"{folder}/digits.fstore", "digits", f"{folder}/digits")
    >>> found.is_empty, found.unchanged, found.removed
    (False, 8, ('3/0003.png',))
    >>> found.renamed, found.relabelled
    ((('7/0001.png', '1/0001.png'),), (('7/0001.png', '1', '7'),))
    """

    store: str
    catalog: str
    source: str
    images: int
    images_before: int
    unchanged: int
    added: tuple[str, ...]
    removed: tuple[str, ...]
    renamed: tuple[tuple[str, str], ...]
    changed: tuple[str, ...]
    relabelled: tuple[tuple[str, str | None, str | None], ...]
    failures: tuple[tuple[str, str], ...]
    read: int
    seconds: float

    @property
    def is_empty(self) -> bool:
        """Whether nothing was added, removed, renamed, changed or relabelled."""
        return not (self.added or self.removed or self.renamed or self.changed or self.relabelled)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values, with objects for pairs, and ``is_empty``."""
        return {
            **json_values(self),
            "is_empty": self.is_empty,
            "renamed": [{"path": path, "before": before} for path, before in self.renamed],
            "relabelled": [
                {"path": path, "before": before, "label": label} for path, before, label in self.relabelled
            ],
            "failures": [{"path": path, "reason": reason} for path, reason in self.failures],
        }


def diff(
    store: str | os.PathLike[str] | FeatureStore,
    catalog: str,
    source: Any,
    *,
    path_column: str | None = None,
    label_column: str | None = None,
    label_columns: Sequence[str] = (),
    label_separator: str | None = None,
    target: str | None = None,
    image_root: str | os.PathLike[str] | None = None,
    suffix: str | None = None,
    corrections: Corrections | str | os.PathLike[str] | None = None,
    rehash: bool = False,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> SourceDiff:
    """Compare a source with the catalog that an earlier extraction has written; nothing is changed.

    Files that are unchanged since then (same path, size, times and inode) are not opened; others are read and
    hashed, and none is decoded.

    Parameters
    ----------
    store : path or FeatureStore
    catalog : str
        Name of the catalog.
    source : path, iterable of path, or table
        As for :func:`featstore.extract`: what the catalog describes, or another place, such as a copy of it.
    path_column, label_column, label_columns, label_separator, target, image_root, suffix, corrections
        As for :func:`featstore.extract`: as the catalog was written with. ``label_separator`` and ``target``
        are by default those of the catalog.
    rehash : bool
        Read every file.
    workers : int, optional
        Threads that read; by default one for each core.
    progress : callable, optional
        Called as ``progress(done, total)`` with numbers of images.

    Returns
    -------
    SourceDiff

    Raises
    ------
    SourceUnavailableError
        A server of images cannot be reached or refuses.
    SourceError
        The source cannot be used.
    NotInStoreError
        There is no such catalog.
    StoreError
        The store cannot be read.
    CorrectionsError
        The file of corrections cannot be used.

    Examples
    --------
    >>> import tempfile
    >>> import featstore
    >>> from featstore.images import write_digits
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store, digits = f"{folder}/digits.fstore", f"{folder}/digits"
    ...     n_images = write_digits(digits, n_images=10)
    ...     report = featstore.extract(digits, store=store, backbone="scattering")
    ...     n_images = write_digits(digits, n_images=12)
    ...     found = featstore.diff(store, "digits", digits)
    >>> found.added
    ('0/0010.png', '1/0011.png')
    """
    started = time.monotonic()
    if corrections is not None and not isinstance(corrections, Corrections):
        corrections = read_corrections(corrections)
    if not isinstance(store, FeatureStore):
        store = FeatureStore(store)
    known = store.catalog(catalog)
    if label_separator is None and not label_columns:
        label_separator = known.label_separator or None
    if target is None:
        target = known.target_name or None
    images = open_source(
        source,
        path_column=path_column,
        label_column=label_column,
        label_columns=label_columns,
        label_separator=label_separator,
        target=target,
        image_root=image_root,
        suffix=suffix,
    )
    ledger = Ledger(images, known, strict=False)
    ledger.recall(lambda content_hash: np.ones(len(content_hash), np.bool_), rehash=rehash)
    # Without a network that sees them, images are read and hashed.
    for image in load_images(ledger.items(), [], ahead=_IMAGES_AHEAD, workers=workers):
        ledger.settle(image)
        if progress is not None:
            progress(ledger.settled, ledger.n_images)
    current = ledger.settled_catalog(known.name)
    if corrections is not None:
        current, _ = correct_catalog(current, corrections)
    return SourceDiff(
        store=store.path,
        catalog=known.name,
        source=images.location,
        images=ledger.n_images,
        images_before=len(known),
        failures=tuple(ledger.failures()),
        read=ledger.read,
        seconds=time.monotonic() - started,
        **_differences(known, current),
    )


def _differences(before: Catalog, after: Catalog) -> dict[str, Any]:
    """Return the fields of a :class:`SourceDiff` that compare two catalogs."""
    before, after = (replace(one, paths=(*one.paths,), labels=(*one.labels,)) for one in (before, after))
    pairs = _same_contents(before, after)
    old = {*range(len(before))} - {was for was, _ in pairs}
    new = {*range(len(after))} - {now for _, now in pairs}
    was_at, is_at = ({catalog.paths[row] for row in rows} for catalog, rows in ((before, old), (after, new)))
    # What cannot be read now may well be what it was, as may all that is in such a folder.
    unread = {after.paths[row] for row in new if not after.content_hash[row].any()}
    renamed = {after.paths[now]: before.paths[was] for was, now in pairs}
    told, tells = _labels(before), _labels(after)
    relabelled = {after.paths[now]: (told[was], tells[now]) for was, now in pairs if told[was] != tells[now]}
    renamed = {path: earlier for path, earlier in renamed.items() if path != earlier}
    return {
        "unchanged": len(pairs) - len({*renamed, *relabelled}),
        "added": _sorted(is_at - was_at - unread),
        "removed": _sorted(path for path in was_at - is_at if unread.isdisjoint(parents(path))),
        "renamed": tuple((path, renamed[path]) for path in _sorted(renamed)),
        "changed": _sorted((was_at & is_at) - unread),
        "relabelled": tuple((path, *relabelled[path]) for path in _sorted(relabelled)),
    }


def _labels(catalog: Catalog) -> Sequence[str | None]:
    """Return the labels, or the numbers that images have instead, as texts."""
    if not catalog.target_name:
        return catalog.labels
    return [text or None for text in number_texts(np.asarray(catalog.targets).tolist())]


def _same_contents(before: Catalog, after: Catalog) -> list[tuple[int, int]]:
    """Return pairs of rows with the same content, of copies those with the same path first."""
    pairs = []
    earlier = _rows_by_content(before)
    for content, rows in _rows_by_content(after).items():
        by_path = defaultdict(list)
        for was in earlier.get(content, ()):
            by_path[before.paths[was]].append(was)
        others = []
        for row in rows:
            if same := by_path.get(after.paths[row]):
                pairs.append((same.pop(), row))
            else:
                others.append(row)
        pairs += zip(chain.from_iterable(by_path.values()), others, strict=False)
    return pairs


def _rows_by_content(catalog: Catalog) -> dict[bytes, list[int]]:
    """Return the rows of each content that is known, by path."""
    rows = defaultdict(list)
    is_known = np.asarray(catalog.content_hash.any(axis=1)).tolist()
    for row in sorted(range(len(catalog)), key=lambda row: os.fsencode(catalog.paths[row])):
        if is_known[row]:
            rows[catalog.content_hash[row].tobytes()].append(row)
    return rows


def _sorted(paths: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(paths, key=os.fsencode))
