"""Feature extraction: each view of a distinct content passes the backbone once."""

import contextlib
import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from featstore.backbones import Backbone, load_backbone
from featstore.errors import ExtractionError
from featstore.flow.changes import catalog_name_for, check_same_source, warn_of_lost_splits
from featstore.flow.ledger import Ledger
from featstore.flow.sealing import Sealer, store_features, uninterrupted
from featstore.images.sources.label_doubts import label_doubts
from featstore.images.sources.opening import Source, open_source
from featstore.images.views import checked_n_views
from featstore.io.json_values import json_values
from featstore.store import Catalog, FeatureStore

if TYPE_CHECKING:
    import keras

__all__ = ["ExtractionInterrupted", "ExtractionReport", "extract"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ExtractionReport:
    """Result of an extraction.

    Attributes
    ----------
    store : str
        Absolute path of the store.
    space, catalog : str
        Where the features and the labels are in it.
    images : int
        Files of the source, the failed ones included.
    views : int
        Number of views of each image: 1 for the image itself only.
    extracted : int
        Images that passed the backbone, with all the views that they lacked.
    extracted_views : int
        Views that passed the backbone, those of images that an interruption left unfinished included.
    reused : int
        Images whose features were all there already, or came from another file with the same content.
    failed : int
        Images without features.
    failures : tuple of (str, str)
        Path and reason of each failed image.
    ignored : int
        Files of the source that are no images, by their names or their first bytes.
    ignored_endings : dict of str to int
        How many of them have each ending, in lower case; ``""`` for none.
    skipped : dict of str to int
        How many folders of each name, hidden or of other programs, and files of what other kind were skipped.
    empty_classes : tuple of str
        Class folders without an image, and classes of which every image failed.
    unlabelled : int
        Images without a label beside others that have one.
    read : int
        Files that were opened.
    given_splits : dict of str to int
        How many files the source gives to ``"train"``, ``"validation"`` and ``"test"``, and under ``"rule"``
        how many it leaves to the split rule.
    gone : tuple of str
        Paths of images that the catalog had, and whose content is nowhere in the source any more.
    emptied_classes : dict of str to int
        How many images each class had in the catalog that has none now.
    moved_from : str or None
        Where the source was that the catalog described before, where that is another place.
    seconds, images_per_second : float
        Wall time, and images processed in it.

    Examples
    --------
    >>> import tempfile
    >>> from featstore.images import write_digits
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     n_images = write_digits(f"{folder}/digits", n_images=10)
    ...     report = extract(f"{folder}/digits", store=f"{folder}/digits.fstore", backbone="scattering")
    >>> report.extracted, report.failures
    (10, ())
    """

    store: str
    space: str
    catalog: str
    images: int
    views: int
    extracted: int
    extracted_views: int
    reused: int
    failed: int
    failures: tuple[tuple[str, str], ...]
    ignored: int
    read: int
    given_splits: dict[str, int]
    gone: tuple[str, ...]
    emptied_classes: dict[str, int]
    moved_from: str | None
    seconds: float
    images_per_second: float
    ignored_endings: dict[str, int] = field(default_factory=dict)
    skipped: dict[str, int] = field(default_factory=dict)
    empty_classes: tuple[str, ...] = ()
    unlabelled: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values, each failure as ``{"path", "reason"}``."""
        failures = [{"path": path, "reason": reason} for path, reason in self.failures]
        return {**json_values(self), "failures": failures}


class ExtractionInterrupted(KeyboardInterrupt):
    """Ctrl-C during an extraction; raised after everything done so far was stored.

    Attributes
    ----------
    report : ExtractionReport
        What had been done. The same call goes on from there.
    """

    def __init__(self, report: ExtractionReport) -> None:
        super().__init__("extraction interrupted")
        self.report = report


def extract(
    source: Any,
    store: str | os.PathLike[str] | FeatureStore | None = None,
    *,
    backbone: "str | os.PathLike[str] | keras.Model | Backbone" = "mobilenet_v2",
    n_views: int = 1,
    catalog: str | None = None,
    train_list: str | os.PathLike[str] | None = None,
    validation_list: str | os.PathLike[str] | None = None,
    test_list: str | os.PathLike[str] | None = None,
    strict: bool = False,
    rehash: bool = False,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    **backbone_options: Any,
) -> ExtractionReport:
    """Extract the features of all images of a source into a store.

    Images whose content is in the store's space already cost no forward pass; files that are unchanged since
    the last time (same path, size, times and inode) are not even opened. Of several views those that are
    there cost none either, and an image is read and decoded once for all that it lacks.

    Parameters
    ----------
    source : path, iterable of path, or table
        A folder of class folders, a flat folder, a folder whose folders ``train``, ``test``, … hold class
        folders, a CSV or TSV with the columns ``path`` and, optionally, ``label``, ``group`` and ``split``,
        or TFRecord shards: their folder, a pattern such as ``"train-*"``, or a list of them. Or a list
        of paths, which have no labels, or a table with these columns, such as a pandas DataFrame: its
        relative paths start from the current folder, and its catalog is called ``"images"`` by default.
    store : path or FeatureStore, optional
        Made where it does not exist. By default ``NAME.fstore`` in the current folder, after the source.
    backbone : str, path, keras.Model or Backbone
        Name of a known backbone, path of a ``.keras`` model, a Keras model, or what
        :func:`featstore.load_backbone` returned.
    n_views : int
        Number of views of each image, 0 to ``n_views - 1``, that the store will have. View 0 is the image
        itself; the others are drawn by the backbone option ``views``, a :class:`~featstore.ViewRecipe`.
    catalog : str, optional
        Name for this source's paths and labels in the store; by default after the source. Where there is none
        of that name, and one whose source is gone has most of its images here, that one follows its images.
    train_list, validation_list, test_list : path, optional
        Text files with one image of the source a line, such as ``apple_pie/1005649``: its path in the source,
        with or without its extension. The images get these splits; those in no list are left to the split
        rule, and so is every image when a later call gives no lists.
    strict : bool
        Stop at the first image that cannot be decoded instead of recording its reason and going on.
    rehash : bool
        Read every file again, including those whose size, times and inode are unchanged. Images whose
        content is the same cost no forward pass.
    workers : int, optional
        Threads that read and decode; by default one for each core.
    progress : callable, optional
        Called as ``progress(done, total)`` with numbers of images.
    **backbone_options
        As for :func:`featstore.load_backbone`: ``weights``, ``layer``, ``pooling``, ``image_size``,
        ``resize``, ``dtype``, ``precision``, ``preprocess``, ``alpha``, ``views``, ``engine``,
        ``devices``, ``trust_model``, ``imports``.

    Returns
    -------
    ExtractionReport

    Raises
    ------
    SourceError
        The source cannot be used, a list does not fit it, or its catalog's name is taken by another source.
    BackboneError
        The backbone cannot be built.
    ViewError
        ``n_views`` does not go with the recipe: more than 1 needs one, and one needs more than 1.
    StoreError
        The store cannot be opened or written.
    ExtractionError
        Every image failed, or one did and ``strict`` is true.
    ExtractionInterrupted
        Ctrl-C; what was done is sealed.

    Examples
    --------
    >>> import tempfile
    >>> from featstore import ViewRecipe, extract
    >>> from featstore.images import write_digits
    >>> recipe = ViewRecipe(flip=True, random_crop=10)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store = f"{folder}/digits.fstore"
    ...     n_images = write_digits(f"{folder}/digits", n_images=10)
    ...     report = extract(
    ...         f"{folder}/digits", store=store, backbone="scattering", n_views=2, views=recipe
    ...     )
    >>> report.extracted_views
    20
    """
    started = time.monotonic()
    loaded: Any = backbone if hasattr(backbone, "spec") else None
    recipe = backbone_options.get("views") if loaded is None else loaded.spec.views
    n_views = checked_n_views(n_views, recipe)
    images = open_source(source, train_list=train_list, validation_list=validation_list, test_list=test_list)
    for sentence in images.doubts():
        _log.warning("%s", sentence)
    if not os.path.isdir(images.location):
        for doubt in label_doubts(record.label for record in images.records):
            _log.warning("%s", doubt)
    if loaded is None:
        network = load_backbone(backbone, **backbone_options)
    elif backbone_options:
        raise TypeError(f"a loaded backbone takes no further options: {', '.join(sorted(backbone_options))}")
    else:
        network = loaded
    made = False
    if not isinstance(store, FeatureStore):
        path = f"{images.name}.fstore" if store is None else store
        made = not os.path.lexists(path)
        store = FeatureStore(path, create=True)
    name = catalog or catalog_name_for(store, images)
    known = _known_catalog(store, name, images)
    ledger = Ledger(images, known, strict=strict)
    sealer = Sealer(store, network, n_views=n_views)
    ledger.recall(sealer.are_there, rehash=rehash)

    def finish() -> None:
        sealer.close()
        ledger.write_catalog(store, name, is_named=catalog is not None)

    def report() -> ExtractionReport:
        return _report(ledger, sealer, store, network.spec.name, time.monotonic() - started)

    try:
        try:
            _note_progress(ledger, progress)
            # Closed at an error here, so that nothing is read or computed any more.
            with contextlib.closing(
                store_features(ledger.items(), network, sealer, workers=workers)
            ) as groups:
                for group in groups:
                    for image in group.images:
                        ledger.settle(image)
                    _note_progress(ledger, progress)
        finally:
            uninterrupted(finish)
        if ledger.extracted:
            sealer.compact()
    except KeyboardInterrupt as interruption:
        raise ExtractionInterrupted(report()) from interruption
    finally:
        if made and not store.space_names:
            _remove_empty(store, name)
    finished = report()
    if finished.failed == finished.images:
        path, reason = finished.failures[0]
        raise ExtractionError(
            f"none of the {finished.images:,} images could be used; the first, {path}: {reason}. "
            "Check that the files are whole and are images."
        )
    return finished


def _note_progress(ledger: Ledger, progress: Callable[[int, int], None] | None) -> None:
    if progress is not None:
        progress(ledger.settled, ledger.n_images)


def _report(
    ledger: Ledger, sealer: Sealer, store: FeatureStore, space: str, seconds: float
) -> ExtractionReport:
    source, changes, failures = ledger.source, ledger.changes, tuple(ledger.failures())
    return ExtractionReport(
        store=store.path,
        space=space,
        catalog=ledger.catalog_name,
        images=ledger.n_images,
        views=sealer.n_views,
        extracted=ledger.extracted,
        extracted_views=sealer.n_rows,
        reused=ledger.reused,
        failed=len(failures),
        failures=failures,
        ignored=source.ignored,
        read=ledger.read,
        given_splits=source.given_splits(),
        gone=changes.gone,
        emptied_classes=changes.emptied_classes,
        moved_from=changes.moved_from,
        seconds=seconds,
        images_per_second=(ledger.extracted + ledger.reused + len(failures)) / seconds,
        ignored_endings=dict(source.ignored_endings),
        skipped=dict(source.skipped),
        empty_classes=_empty_classes(source, {path for path, _ in failures}),
        unlabelled=source.unlabelled,
    )


def _empty_classes(source: Source, failed: set[str]) -> tuple[str, ...]:
    labels = {record.label for record in source.records if record.label}
    full = {record.label for record in source.records if record.path not in failed}
    return (*source.empty_folders, *sorted(labels - full))


def _remove_empty(store: FeatureStore, catalog: str) -> None:
    """Remove a store that this run created and left empty."""
    # Only empty folders are removed: rows that another process writes meanwhile stay.
    with contextlib.suppress(OSError):
        os.rmdir(os.path.join(store.path, "spaces"))
        if catalog in store.catalog_names:
            os.unlink(store.catalog_path(catalog))
        for folder in ("catalogs", "heads"):
            os.rmdir(os.path.join(store.path, folder))
        os.unlink(os.path.join(store.path, "featstore.json"))
        os.rmdir(store.path)


def _known_catalog(store: FeatureStore, name: str, images: Source) -> Catalog | None:
    """Return the catalog that an earlier run wrote for this source, if any."""
    if name not in store.catalog_names:
        return None
    known = store.catalog(name)
    check_same_source(known, images)
    warn_of_lost_splits(known, images)
    return known
