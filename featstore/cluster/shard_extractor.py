"""A callable that extracts batches of paths, as a step in the pipelines of other engines."""

import hashlib
import os
import secrets
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from featstore.backbones import Backbone, load_backbone
from featstore.backbones.several import refuse_options
from featstore.errors import SourceError
from featstore.flow.ledger import Ledger
from featstore.flow.sealing import Sealer
from featstore.flow.shard import Shard, ShardJob, run_shard
from featstore.images.sources.lists.listed_files import ListedFiles
from featstore.images.sources.objects import with_stamps
from featstore.images.sources.records import ImageRecord, Records, Source
from featstore.images.views import checked_n_views
from featstore.io.urls import is_url
from featstore.store import FeatureStore
from featstore.store.catalogs.catalog import checked_name
from featstore.store.segments.keys import ContentFilter
from featstore.store.shard_reports import write_report

if TYPE_CHECKING:
    import keras

__all__ = ["ShardExtractor"]

# Of the extractor that this process was sent last: its network, opened once, and what its space had then.
_opened: dict[str, tuple[Backbone, ContentFilter]] = {}


class ShardExtractor:
    """Extracts batches of images into a store, as a step in a pipeline of Ray Data, Spark, Dask or the like.

    It is picklable, and takes its converted network along: a process builds none and opens it once. A batch
    may be run again anywhere; it writes nothing twice. Each leaves a report of its images in the store, of
    which :func:`featstore.collect` writes the catalog at the end.

    Parameters
    ----------
    root : path
        Folder or URL that relative paths start from: of a folder source, the folder; of a list, the list's.
    store : path
        Made where it does not exist. All processes see it and the images under the same paths.
    catalog : str
        Name of the catalog to come, to be given to :func:`featstore.collect`.
    backbone, **backbone_options
        As for :func:`featstore.extract`; ``threads`` is best the number of processors of a task.
    n_views, workers
        As for :func:`featstore.extract`.

    Raises
    ------
    SourceError
        ``root`` is no folder.
    BackboneError
        The backbone cannot be built.
    StoreError
        The store cannot be opened or made, or ``catalog`` is no name.

    Examples
    --------
    >>> import os, pickle, tempfile
    >>> import featstore
    >>> from featstore.images import write_digits
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     root, store = f"{folder}/digits", f"{folder}/digits.fstore"
    ...     _ = write_digits(root, n_images=10)
    ...     extractor = featstore.ShardExtractor(root, store, catalog="digits", backbone="scattering")
    ...     paths = [record.path for record in featstore.images.open_source(root).records]
    ...     for batch in (paths[:5], paths[5:]):
    ...         results = pickle.loads(pickle.dumps(extractor))(batch)
    ...     report = featstore.collect(store, root)
    >>> results[0]["path"], results[0]["reason"], report.reused
    ('5/0005.png', '', 10)
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        store: str | os.PathLike[str],
        *,
        catalog: str,
        backbone: "str | os.PathLike[str] | keras.Model | Backbone" = "mobilenet_v2",
        n_views: int = 1,
        workers: int | None = None,
        **backbone_options: Any,
    ) -> None:
        given = os.fsdecode(root)
        self.root = given if is_url(given) else os.path.abspath(given)
        if not is_url(given) and not os.path.isdir(self.root):
            raise SourceError(f"root must be the folder that paths start from; there is none at {self.root}")
        self.catalog = checked_name(catalog, "catalog")
        loaded: Any = backbone if hasattr(backbone, "spec") else load_backbone(backbone, **backbone_options)
        if loaded is backbone:
            refuse_options(backbone_options)
        self.backbone = loaded
        self.n_views = checked_n_views(n_views, loaded.spec.views)
        self.workers = workers
        self.store = FeatureStore(store, create=True).path
        self._id = secrets.token_hex(16)

    def __call__(self, batch: Any) -> Any:
        """Extract some images; return what became of each, in order, as a batch of the same kind.

        ``batch`` is an iterable of paths, or columns of which ``path`` is used: a mapping or a DataFrame.
        Returned are ``path``, ``content_hash`` (64 hexadecimal digits, or ``""``) and ``reason`` (``""``
        where all went well).
        """
        is_frame = hasattr(batch, "columns") and hasattr(batch, "loc")
        given = batch["path"] if is_frame or isinstance(batch, Mapping) else batch
        columns = self._extract([str(path) for path in given])
        if is_frame:
            return type(batch)(columns)
        if isinstance(batch, Mapping):
            return {name: np.array(values, np.str_) for name, values in columns.items()}
        return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]

    def _extract(self, paths: list[str]) -> dict[str, list[str]]:
        """Extract images and leave a report of them; return columns."""
        network, present = self._open()
        source, names = self._source(dict.fromkeys(paths))
        ledger = Ledger(source, None, strict=False)
        job = ShardJob(
            root=self.root,
            store=self.store,
            network=network,
            n_views=self.n_views,
            present=present,
            workers=self.workers or network.threads,
        )
        shard = Shard(numbers=np.arange(len(source.records)), records=[*source.records])
        result = run_shard(job, shard.records)
        ledger.settle_shard(shard, result)
        part = hashlib.sha256("\0".join(paths).encode("utf-8", "surrogateescape")).hexdigest()[:32]
        store = FeatureStore(self.store)
        report = ledger.settled_catalog(self.catalog)
        write_report(store, network.spec.name, report, part)
        hashes = {
            path: content.tobytes().hex() if content.any() else ""
            for path, content in zip(report.paths, report.content_hash, strict=True)
        }
        reasons = dict(zip(report.paths, report.reasons, strict=True))
        return {
            "path": paths,
            "content_hash": [hashes[names[path]] for path in paths],
            "reason": [reasons[names[path]] or "" for path in paths],
        }

    def _source(self, paths: Iterable[str]) -> tuple[Source, dict[str, str]]:
        """Return the images of a batch as a source, each file once, and their paths there."""
        files = ListedFiles(self.root)
        names: dict[str, str] = {}
        records: dict[str, ImageRecord] = {}
        failures: dict[str, str] = {}
        for given in paths:
            path, found = files.look_up(given)
            names[given] = path
            if isinstance(found, str):
                failures[path] = found
            else:
                records[path] = ImageRecord(path=path, stamp=found)
        known, missing = Records(records.values()), [*failures.items()]
        if known.lack_stamps:
            known, lacking = with_stamps(known, self.root)
            missing += lacking
        source = Source(
            name=self.catalog,
            root=self.root,
            location="",
            records=known,
            failures=missing,
            ignored=0,
        )
        return source, names

    def _open(self) -> tuple[Backbone, ContentFilter]:
        """Return the network and the filter of this process."""
        if self._id not in _opened:
            sealer = Sealer(FeatureStore(self.store), self.backbone, n_views=self.n_views)
            _opened.clear()
            _opened[self._id] = self.backbone, sealer.present()
        return _opened[self._id]
