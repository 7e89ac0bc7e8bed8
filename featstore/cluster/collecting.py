"""The catalog of a source that was extracted in shards."""

import logging
import os
import time
from collections import Counter
from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.errors import NotInStoreError
from featstore.flow.changes import catalog_name_for
from featstore.flow.extraction import ExtractionReport, check_some_used, known_catalog, make_report
from featstore.flow.ledger import Ledger
from featstore.flow.shard_choice import shard_number
from featstore.images.sources.opening import open_source
from featstore.store import Corrections, FeatureStore, read_corrections
from featstore.store.shard_reports import read_reports, remove_reports, reported_spaces, shards_of

__all__ = ["collect"]

_log = logging.getLogger(__name__)


def collect(
    store: str | os.PathLike[str] | FeatureStore,
    source: Any,
    *,
    space: str | None = None,
    catalog: str | None = None,
    train_list: str | os.PathLike[str] | None = None,
    validation_list: str | os.PathLike[str] | None = None,
    test_list: str | os.PathLike[str] | None = None,
    path_column: str | None = None,
    label_column: str | None = None,
    weight_column: str | None = None,
    label_columns: Sequence[str] = (),
    label_separator: str | None = None,
    target: str | None = None,
    image_root: str | os.PathLike[str] | None = None,
    suffix: str | None = None,
    corrections: Corrections | str | os.PathLike[str] | None = None,
) -> ExtractionReport:
    """Write the catalog of a source whose shards were extracted one by one, and compact the store.

    No image is opened: each shard has left a report of its images in the store. What no report knows is
    listed by shard; extract these shards again, and collect again. Once nothing is missing, the reports are
    removed.

    Parameters
    ----------
    store : path or FeatureStore
    source : path, iterable of path, or table
        As for :func:`featstore.extract`, on a file system where the files are those that the shards read.
    space : str, optional
        As for :meth:`FeatureStore.space`; by default all spaces of which shards have left reports.
    catalog : str, optional
        As the shards were given it; by default after the source.
    train_list, validation_list, test_list, path_column, label_column, weight_column, label_columns
        As for :func:`featstore.extract`.
    label_separator, target, image_root, suffix, corrections
        As for :func:`featstore.extract`.

    Returns
    -------
    ExtractionReport
        Its ``lacking`` counts the images of unfinished shards.

    Raises
    ------
    SourceError
        The source cannot be used.
    NotInStoreError
        No shard has left a report here.
    StoreError
        The store cannot be read or written.
    ExtractionError
        Every image failed.
    CorrectionsError
        The file of corrections cannot be used.

    Examples
    --------
    >>> import tempfile
    >>> import featstore
    >>> from featstore.images import write_digits
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store, n_images = f"{folder}/digits.fstore", write_digits(f"{folder}/digits", n_images=10)
    ...     for number in (1, 2):
    ...         _ = featstore.extract(f"{folder}/digits", store, backbone="scattering", shard=(number, 2))
    ...     report = featstore.collect(store, f"{folder}/digits")
    >>> report.images, report.reused, report.lacking
    (10, 10, {})
    """
    started = time.monotonic()
    if corrections is not None and not isinstance(corrections, Corrections):
        corrections = read_corrections(corrections)
    images = open_source(
        source,
        train_list=train_list,
        validation_list=validation_list,
        test_list=test_list,
        path_column=path_column,
        label_column=label_column,
        weight_column=weight_column,
        label_columns=label_columns,
        label_separator=label_separator,
        target=target,
        image_root=image_root,
        suffix=suffix,
    )
    if not isinstance(store, FeatureStore):
        store = FeatureStore(store)
    name = catalog or catalog_name_for(store, images)
    spaces = [store.space(one) for one in ([space] if space else _spaces(store, name))]

    def are_there(content_hash: NDArray[np.uint8]) -> NDArray[np.bool_]:
        found = [one.lookup(content_hash) >= 0 for one in spaces]
        return np.asarray(np.logical_and.reduce(found), np.bool_)

    known = known_catalog(store, name, images)
    ledger = Ledger(images, known, strict=False, corrections=corrections)
    reports: dict[str, list[str]] = {}
    for one in spaces:
        reports[one.name] = []
        for path, report in read_reports(store, one.name, name):
            ledger.recall_from(report, are_there, is_report=True)
            reports[one.name].append(path)
    ledger.recall(are_there, rehash=False)
    ledger.write_catalog(store, name, is_named=catalog is not None)
    lacking = _by_shard(ledger.lacking(), shards_of(chain.from_iterable(reports.values())))
    for name_of_space, paths in reports.items():
        store.compact(name_of_space)
        if not lacking:
            remove_reports(store, name_of_space, paths)
    finished = make_report(
        ledger,
        store,
        "+".join(reports),
        n_views=int(spaces[0].view.max(initial=0)) + 1,
        n_rows=0,
        seconds=time.monotonic() - started,
        lacking=lacking,
    )
    check_some_used(finished)
    return finished


def _spaces(store: FeatureStore, catalog: str) -> list[str]:
    """Return the spaces of the reports."""
    if spaces := reported_spaces(store, catalog):
        return spaces
    raise NotInStoreError(
        f"no shard of {catalog} has left a report in {store.path}: none has ended yet, all were collected "
        "before, or they were extracted under another --catalog; run featstore extract --shard 1/N and so on"
    )


def _by_shard(paths: list[str], n_shards: int) -> dict[str, int]:
    """Count images by shard."""
    counts = Counter(shard_number(path, n_shards) for path in paths)
    return {f"{number}/{n_shards}": counts[number] for number in sorted(counts)}
