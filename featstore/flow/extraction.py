"""Feature extraction: each view of a distinct content passes the backbone once."""

import contextlib
import logging
import os
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import TYPE_CHECKING, Any

from featstore.backbones import Backbone
from featstore.backbones.joint import joint_backbones
from featstore.backbones.several import load_backbones, refuse_options
from featstore.errors import ExtractionError
from featstore.flow.changes import catalog_name_for, check_same_source, warn_of_lost_splits
from featstore.flow.elsewhere import Elsewhere
from featstore.flow.ledger import Ledger
from featstore.flow.sealing import JointSealer, close_all, in_all_spaces, store_features, uninterrupted
from featstore.flow.shard import Executor, ShardJob
from featstore.flow.shard_choice import ShardChoice
from featstore.images.sources.lists.label_doubts import label_doubts, separator_doubts
from featstore.images.sources.opening import Source, open_source
from featstore.images.views import checked_n_views
from featstore.io.json_values import json_values
from featstore.io.urls import is_url
from featstore.store import Catalog, Corrections, FeatureStore
from featstore.store.catalogs.catalog import checked_name
from featstore.store.segments.keys import ContentFilter
from featstore.store.shard_reports import read_report, write_report

if TYPE_CHECKING:
    import keras

__all__ = [
    "ExtractionInterrupted",
    "ExtractionReport",
    "check_some_used",
    "known_catalog",
    "make_report",
    "run_extraction",
]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ExtractionReport:
    """Result of an extraction.

    Attributes
    ----------
    store : str
        Absolute path of the store.
    space, catalog : str
        Where the features and the labels are in it; the names of several spaces with ``+`` between them.
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
    nodes : dict of str to float
        Images per second by node of a cluster; empty for an extraction in this process.
    lacking : dict of str to int
        After :func:`featstore.collect`, how many images of each shard, such as ``"3/16"``, have no report.
    corrections : dict
        What corrections of labels have done: the fields of :class:`CorrectionEffect`; empty without them.

    Examples
    --------
    >>> import tempfile
    >>> from featstore.images import write_digits
    >>> from featstore import extract
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
    nodes: dict[str, float] = field(default_factory=dict)
    lacking: dict[str, int] = field(default_factory=dict)
    corrections: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values, each failure as ``{"path", "reason"}``."""
        failures = [{"path": path, "reason": reason} for path, reason in self.failures]
        return {**json_values(self), "failures": failures}


class ExtractionInterrupted(KeyboardInterrupt):
    """Ctrl-C during an extraction; raised after everything done so far was stored.

    Attributes
    ----------
    report : ExtractionReport
        What had been done. The same call resumes from there.
    """

    def __init__(self, report: ExtractionReport) -> None:
        super().__init__("extraction interrupted")
        self.report = report


def run_extraction(
    source: Any,
    store: str | os.PathLike[str] | FeatureStore | None = None,
    *,
    backbone: "str | os.PathLike[str] | keras.Model | Backbone | Sequence[Backbone]" = "mobilenet_v2",
    n_views: int = 1,
    catalog: str | None = None,
    source_options: Mapping[str, Any] | None = None,
    strict: bool = False,
    rehash: bool = False,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    shard: ShardChoice | None = None,
    executor: Executor | None = None,
    corrections: Corrections | None = None,
    **backbone_options: Any,
) -> ExtractionReport:
    """Extract the features of a source here, or by an executor; see :func:`featstore.extract`."""
    started = time.monotonic()
    loaded = _loaded(backbone)
    recipe = loaded[0].spec.views if loaded else backbone_options.get("views")
    n_views = checked_n_views(n_views, recipe)
    images = open_source(source, **source_options or {})
    for sentence in images.doubts():
        _log.warning("%s", sentence)
    if not (is_url(images.location) or os.path.isdir(images.location)):
        for doubt in _label_doubts(images, source_options or {}):
            _log.warning("%s", doubt)
    if loaded:
        refuse_options(backbone_options)
    networks = loaded or load_backbones(backbone, **backbone_options)
    network, space = networks[0], "+".join(one.spec.name for one in networks)
    if not isinstance(store, FeatureStore):
        store = FeatureStore(f"{images.name}.fstore" if store is None else store, create="later")
    name = checked_name(catalog, "catalog") if catalog else catalog_name_for(store, images)
    known = known_catalog(store, name, images)
    if shard is not None:
        images = shard.of(images)
    ledger = Ledger(images, known, strict=strict, corrections=corrections)
    joints = [JointSealer(store, joint, n_views=n_views) for joint, _ in joint_backbones(networks)]
    sealers = [part for joint in joints for part in joint.parts]
    are_there = in_all_spaces(sealers)
    ledger.recall(are_there, rehash=rehash)
    if shard is not None and (before := read_report(store, network.spec.name, name, str(shard))):
        ledger.recall_from(before, are_there, rehash=rehash)

    elsewhere = None
    if executor is not None:
        job = ShardJob(
            root=images.root,
            store=store.path,
            network=network,
            others=tuple(networks[1:]),
            n_views=n_views,
            present=reduce(ContentFilter.common, [sealer.present() for sealer in sealers]),
            workers=workers or network.threads,
        )
        elsewhere = Elsewhere(job, executor)

    def finish() -> None:
        close_all(sealers)
        unseen = [] if elsewhere is None else elsewhere.unseen(ledger, store)
        ledger.catalog_name = name
        if shard is not None:
            settled = ledger.settled_catalog(name)
            for one in networks:
                write_report(store, one.spec.name, settled, str(shard))
        elif store.is_made:
            # One that is not has no row: an empty store is not left behind.
            ledger.write_catalog(store, name, is_named=catalog is not None)
        if unseen:
            raise _unseen_error(unseen, store)

    def report() -> ExtractionReport:
        seconds = time.monotonic() - started
        return make_report(
            ledger,
            store,
            space,
            n_views=n_views,
            n_rows=max(sealer.n_rows for sealer in sealers) if elsewhere is None else elsewhere.n_rows,
            seconds=seconds,
            nodes={} if elsewhere is None else elsewhere.images_per_second(seconds),
        )

    try:
        try:
            _note_progress(ledger, progress)
            steps = (
                _run_here(ledger, joints, workers or network.threads)
                if elsewhere is None
                else elsewhere.run(ledger, store)
            )
            # Closed at an error here, so that nothing is read or computed any more.
            with contextlib.closing(steps):
                for _ in steps:
                    _note_progress(ledger, progress)
        finally:
            uninterrupted(finish)
        if ledger.extracted and shard is None:
            for sealer in sealers:
                sealer.compact()
    except KeyboardInterrupt as interruption:
        raise ExtractionInterrupted(report()) from interruption
    finished = report()
    if shard is None:
        check_some_used(finished)
    return finished


def _label_doubts(images: Source, source_options: Mapping[str, Any]) -> list[str]:
    if images.target:
        return []
    if not images.label_separator:
        return label_doubts(images.label_counts())
    if source_options.get("label_columns"):
        return []
    return separator_doubts(images.records, images.label_separator)


def _loaded(backbone: Any) -> list[Backbone]:
    """Return the backbones that the caller has loaded; none for a name."""
    given = list(backbone) if isinstance(backbone, list | tuple) else [backbone]
    if not given or not all(hasattr(one, "spec") for one in given):
        if isinstance(backbone, list | tuple):
            raise TypeError("several backbones are given as load_backbone returns them; found other things")
        return []
    if len({one.spec.views for one in given}) > 1:
        raise ExtractionError("the backbones have different recipes of views; load them with the same views=")
    return given


def check_some_used(report: ExtractionReport) -> None:
    """Raise ExtractionError if every image failed."""
    if report.failed == report.images:
        path, reason = report.failures[0]
        raise ExtractionError(
            f"none of the {report.images:,} images could be used; the first, {path}: {reason}. "
            "Check that the files are whole and are images."
        )


def _run_here(
    ledger: Ledger, sealers: Sequence[JointSealer], workers: int | None
) -> Generator[None, None, None]:
    """Run what is not settled through the networks, and settle it."""
    with contextlib.closing(store_features(ledger.items(), sealers, workers=workers)) as groups:
        for group in groups:
            for image in group.images:
                ledger.settle(image)
            yield


def _unseen_error(paths: list[str], store: FeatureStore) -> ExtractionError:
    return ExtractionError(
        f"the features of {len(paths):,} images, the first {paths[0]}, were sealed by other machines and are "
        f"not in {store.path} as this machine sees it: put the store on a file system that all of them "
        "share, or in a bucket, and run this again"
    )


def _note_progress(ledger: Ledger, progress: Callable[[int, int], None] | None) -> None:
    if progress is not None:
        progress(ledger.settled, ledger.n_images)


def make_report(
    ledger: Ledger,
    store: FeatureStore,
    space: str,
    *,
    n_views: int,
    n_rows: int,
    seconds: float,
    nodes: dict[str, float] | None = None,
    lacking: dict[str, int] | None = None,
) -> ExtractionReport:
    """Return the report of what a ledger has settled."""
    source, changes, failures = ledger.source, ledger.changes, tuple(ledger.failures())
    return ExtractionReport(
        store=store.path,
        space=space,
        catalog=ledger.catalog_name,
        images=ledger.n_images,
        views=n_views,
        extracted=ledger.extracted,
        extracted_views=n_rows,
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
        nodes=nodes or {},
        lacking=lacking or {},
        corrections=ledger.corrections,
    )


def _empty_classes(source: Source, failed: set[str]) -> tuple[str, ...]:
    if source.label_separator or source.target:
        return tuple(source.empty_folders)
    counts = source.label_counts()
    if failed:
        counts = {**counts}
        for record in source.records:
            if record.path in failed:
                counts[record.label] -= 1
    return (*source.empty_folders, *sorted(label for label, count in counts.items() if label and not count))


def known_catalog(store: FeatureStore, name: str, images: Source) -> Catalog | None:
    """Return the catalog that an earlier run wrote for this source, if any."""
    if name not in store.catalog_names:
        return None
    known = store.catalog(name)
    check_same_source(known, images)
    warn_of_lost_splits(known, images)
    return known
