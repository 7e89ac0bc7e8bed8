"""The feature store: features by content hash, catalogs and heads in one folder."""

import logging
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, Literal

from featstore.errors import NotInStoreError
from featstore.io.storage.opening import absolute_place, file_exists
from featstore.messages import count
from featstore.splits import SplitRule
from featstore.store.catalogs.catalog import Catalog
from featstore.store.description import STORE_VERSION
from featstore.store.folder import DESCRIPTION, STORE_FORMAT, describe
from featstore.store.maintained import MaintainedStore
from featstore.store.maintenance.merge import MergeReport, check_merge, merge_stores
from featstore.store.maintenance.repair import mend_description
from featstore.store.packing.packing import pack_table
from featstore.store.summary import describe_store
from featstore.store.tables.grouping import name_near_groups
from featstore.store.tables.joining import build_table
from featstore.store.tables.table import FeatureTable

__all__ = ["FeatureStore"]

_Progress = Callable[[int, int], None]


_log = logging.getLogger(__name__)


class FeatureStore(MaintainedStore):
    """Features, catalogs and heads, in a folder or in a bucket.

    Opening one reads a small JSON file; TensorFlow is never imported.

    Parameters
    ----------
    path : path
        The store's folder, or the URL of one in a bucket: ``"s3://bucket/flowers.fstore"``, ``"gs://…"`` or
        ``"az://…"`` (``pip install "featstore[objects]"``). What is read from a bucket is copied into the
        cache folder (``$FEATSTORE_CACHE``) and mapped there, at most 20 GB (``$FEATSTORE_CACHE_GB``).
    create : bool or "later"
        Make the store if the folder is missing or empty; ``"later"`` makes it with the first thing that is
        written into it, so that a program that fails before leaves no empty store behind.
    repair : bool
        If ``featstore.json`` is damaged, set it aside and rewrite it, as :meth:`repair` does for all else.
    verify_reads : bool
        Compare every row with its checksum whenever features are read, and raise :class:`DamagedError` rather
        than give out a wrong one.

    Attributes
    ----------
    path : str
        Absolute, or the URL.
    format_version : int

    Raises
    ------
    StoreNotFoundError
        There is no store at this path, and ``create`` is false.
    FormatVersionError
        A newer version of featstore wrote it.
    StoreError
        The path is that of a file, of a folder with other things in it, or cannot be read or written.
    MissingExtraError
        A bucket needs obstore, which is not installed.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store = FeatureStore(f"{folder}/flowers.fstore", create=True)
    ...     store.space_names, store.catalog_names
    ((), ())
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        create: bool | Literal["later"] = False,
        repair: bool = False,
        verify_reads: bool = False,
    ) -> None:
        description = os.path.join(absolute_place(path), DESCRIPTION)
        if repair and file_exists(description):
            mend_description(
                description, lambda: describe(description), kind=STORE_FORMAT, version=STORE_VERSION
            )
        super().__init__(path, create=create, verify_reads=verify_reads)

    def write_near_groups(
        self, content_groups: Iterable[Sequence[str]], catalog: str | Sequence[str] | None = None
    ) -> int:
        """Record which images are near-duplicates, so that ``SplitRule(by="group")`` keeps them together.

        They replace the earlier near-duplicate groups. The user's own groups are kept: images that share
        either are in one group of the table. A later extraction keeps these groups, by content; images that
        are new to the catalog are in none until they have been compared.

        Parameters
        ----------
        content_groups : iterable of sequence of str
            The content hashes in each group, such as ``find_duplicates(table).content_groups``; each in one
            group at most. An empty iterable removes all such groups. An existing group keeps its name, and so
            its split.
        catalog : str or sequence of str, optional
            As for :meth:`table`.

        Returns
        -------
        int
            Images in such groups, over all the catalogs.

        Raises
        ------
        NotInStoreError
            There is no such catalog.
        StoreError
            A content hash is none or in two groups, or a catalog cannot be written.
        """
        wanted = [catalog] if isinstance(catalog, str) or catalog is None else list(catalog)
        names = [self._catalog_name(name) for name in wanted]
        groups = [list(group) for group in content_groups]
        n_images = 0
        for name in names:

            def regroup(current: Catalog | None, name: str = name) -> Catalog:
                catalogs = [self.catalog(other) if other != name else current for other in names]
                if current is None:
                    raise NotInStoreError(f"the catalog {name} of {self.path} has been removed meanwhile")
                named = name_near_groups(groups, [known for known in catalogs if known is not None])
                near_groups = [named.get(content.tobytes()) for content in current.content_hash]
                return replace(current, near_groups=near_groups)

            if (written := self.update_catalog(name, regroup)) is not None:
                n_images += len(written) - written.near_groups.count(None)
        return n_images

    def table(
        self, space: str | Sequence[str] | None = None, catalog: str | Sequence[str] | None = None
    ) -> FeatureTable:
        """Join a catalog's images with their features.

        Parameters
        ----------
        space : str or sequence of str, optional
            As for :meth:`space`. The features of several spaces are concatenated in this order, by content
            hash.
        catalog : str or sequence of str, optional
            One or more catalogs; may be left out as for :meth:`catalog`. Of several, a file with the same
            content and label is taken once.

        Returns
        -------
        FeatureTable
            One row for each image that has features in the space, in the catalog's order.

        Raises
        ------
        NotInStoreError
            There is no such space or catalog, or none of the images has features in the space, or some have
            features in one of several spaces and not in another.
        BackboneError
            A space is named twice.
        StoreError
            A file is damaged or cannot be read.
        """
        spaces: list[str | None] = [space] if isinstance(space, str) or space is None else [*space]
        names = [catalog] if isinstance(catalog, str) or catalog is None else list(catalog)
        if not names:
            raise NotInStoreError(
                f"no catalog was named; {self.path} has: {', '.join(self.catalog_names) or 'none'}"
            )
        catalogs = [self.catalog(name) for name in names]
        for found in catalogs:
            if found.unread:
                _log.warning(
                    "extraction was interrupted: the catalog %s lacks %s of its source; run it again",
                    found.name,
                    count(int(found.unread), "image"),
                )
        return build_table([self.space(name) for name in spaces or [None]], catalogs)

    def info(self) -> dict[str, Any]:
        """Return a description of the store as JSON values.

        Returns
        -------
        dict
            ``path``, ``format_version`` and

            - ``spaces``: for each ``name``, ``architecture``, ``feature_dim``, ``dtype``, ``rows``,
              ``images`` and ``views`` (how many different ones), ``segments``, ``bytes``, ``fingerprint``,
              ``spec`` (with the recipe of the views, where there is one), ``provenance``;
            - ``catalogs``: for each ``name``, ``location``, ``images``, ``failed``, ``unread`` (images that
              an interrupted extraction has not come to), ``labeled``, ``classes`` (``label``, ``images``,
              ``train``, ``validation``, ``test``), ``splits`` (``train``, ``validation``, ``test``),
              ``given_splits`` (the same and ``rule``: images left to the rule), ``duplicates``
              (``content_hash``, ``paths``), ``label_conflicts`` (``content_hash``, ``labels``: paths by
              label, or by number), ``target`` (of numbers: ``name``, ``smallest``, ``mean`` and ``largest``;
              else None), ``spaces`` (images with features, by space), ``complete`` (images with every view
              that any image has, by space) and ``digest`` (of the images by content, with labels or numbers,
              groups, given splits and weights);
            - ``heads``: for each ``name``, ``path``, ``bytes``, ``catalogs`` (by name ``"unchanged"`` or
              ``"changed"`` since the fit, ``"missing"`` from the store, or ``"unknown"`` for heads that do
              not know), ``up_to_date`` (None if unknown).

            Classes, splits and duplicates count the images that could be used, split by the default
            :class:`~featstore.splits.SplitRule` where the catalog does not fix their split.

        Raises
        ------
        StoreError
            A file is damaged or cannot be read.
        """
        return describe_store(self)

    def merge(
        self,
        other: "FeatureStore | str | os.PathLike[str]",
        *,
        on_conflict: str = "error",
        progress: _Progress | None = None,
    ) -> MergeReport:
        """Copy the contents of another store into this one; the other is unchanged.

        Parameters
        ----------
        other : FeatureStore or path
        on_conflict : {"error", "keep", "replace"}
            What to do where both have a catalog or a head of the same name with different contents: copy
            nothing at all and raise; keep this store's; replace it by the other's.
        progress : callable, optional
            Called as ``progress(done, total)`` with numbers of bytes.

        Returns
        -------
        MergeReport

        Raises
        ------
        DamagedError
            A file of the other store is damaged. Files are opened and checked before anything is copied; a
            damaged row is found as its segment is copied, and that segment then left out.
        StoreError
            There is a conflict, or a file cannot be written.
        """
        source = other if isinstance(other, FeatureStore) else FeatureStore(other)
        return merge_stores(self, source, on_conflict=on_conflict, progress=progress)

    def check_merge(
        self, others: "Iterable[FeatureStore | str | os.PathLike[str]]", *, on_conflict: str = "error"
    ) -> None:
        """Check whether several stores can be merged into this one, before the first of them is.

        Parameters
        ----------
        others : iterable of FeatureStore or path
        on_conflict : {"error", "keep", "replace"}
            As for :meth:`merge`.

        Raises
        ------
        StoreError
            One of them is this store; or two of all these stores have a catalog or a head of the same name
            with different contents, and ``on_conflict`` is ``"error"``.
        """
        sources = [other if isinstance(other, FeatureStore) else FeatureStore(other) for other in others]
        check_merge(self, sources, on_conflict=on_conflict)

    def pack(
        self,
        path: str | os.PathLike[str],
        space: str | None = None,
        catalog: str | Sequence[str] | None = None,
        *,
        format: str | None = None,  # noqa: A002
        shards: int = 1,
        rule: SplitRule | None = None,
        overwrite: bool = False,
        progress: _Progress | None = None,
    ) -> int:
        """Write one space and catalog for other programs; of several views, view 0.

        Parameters
        ----------
        path : path
            The file, or the folder of the shards.
        space, catalog : str, optional
            As for :meth:`table`.
        format : {"h5", "parquet", "npz", "tfrecord"}, optional
            Default: by the path's ending, ``.h5`` or ``.hdf5``, ``.parquet`` or ``.npz``; with a format, an
            ending of another one is refused. One file in the catalog's order with ``features``,
            ``content_hash``, ``path``, ``label``, ``split`` and ``group``: a plain HDF5 file; a Parquet file,
            whose features are fixed-size lists and whose hashes are hexadecimal;
            or arrays for ``numpy.load``. ``"tfrecord"`` is a folder of shards
            as Inception's ``build_image_data.py`` writes them, ``train-00000-of-00008`` and so on: the images
            themselves, their classes (from 1 on; 0 is the background) and the features, in the order of
            their content hashes.
        shards : int
            With ``"tfrecord"``, number of shards of the largest split; those of the others are as large.
        rule : SplitRule, optional
            Assigns the splits that the catalog does not fix.
        overwrite : bool
            Whether an existing file, or a folder of shards that was packed, may be replaced.
        progress : callable, optional
            With ``"tfrecord"``, called as ``progress(done, total)`` with numbers of images.

        Returns
        -------
        int
            Number of images: those of the catalog that have features.

        Raises
        ------
        OutputError
            The file or folder exists, is one of the images or lies in a store; or, with ``"tfrecord"``, an
            image is not at its path or has changed.
        StoreError
            It cannot be written; or the format is unknown, or has no ``shards``.
        MissingExtraError
            ``"parquet"`` needs pyarrow, which is not installed.
        """
        return pack_table(
            path,
            self.table(space, catalog),
            format=format,
            shards=shards,
            rule=rule,
            overwrite=overwrite,
            progress=progress,
        )
