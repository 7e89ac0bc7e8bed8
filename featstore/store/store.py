"""The feature store: features by content hash, catalogs and heads in one folder."""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from featstore.errors import NotInStoreError, StoreError
from featstore.io.atomic import remove_stale
from featstore.splits import SplitRule
from featstore.store.catalog import Catalog
from featstore.store.description import STORE_VERSION
from featstore.store.folder import DESCRIPTION, FOLDERS, STORE_FORMAT, StoreFolder, describe
from featstore.store.grouping import name_near_groups
from featstore.store.joining import build_table
from featstore.store.maintenance.compact import CompactReport, compact_space
from featstore.store.maintenance.merge import MergeReport, merge_stores
from featstore.store.maintenance.repair import RepairReport, mend_description, repair_store
from featstore.store.maintenance.verify import VerifyReport, verify_store
from featstore.store.packing import pack_table
from featstore.store.reports import describe_store
from featstore.store.table import FeatureTable

__all__ = ["FeatureStore"]

_Progress = Callable[[int, int], None]


class FeatureStore(StoreFolder):
    """A folder of features, catalogs and heads.

    Opening one reads a small JSON file; TensorFlow is never imported.

    Parameters
    ----------
    path : path
        The store's folder.
    create : bool
        Make the store if the folder is missing or empty.
    repair : bool
        If ``featstore.json`` is damaged, set it aside and rewrite it, as :meth:`repair` does for all else.
    verify_reads : bool
        Compare every row with its checksum whenever features are read, and raise :class:`DamagedError` rather
        than give out a wrong one.

    Attributes
    ----------
    path : str
        Absolute.
    format_version : int

    Raises
    ------
    StoreNotFoundError
        There is no store at this path, and ``create`` is false.
    FormatVersionError
        A newer version of featstore wrote it.
    StoreError
        The path is that of a file, of a folder with other things in it, or cannot be read or written.

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
        create: bool = False,
        repair: bool = False,
        verify_reads: bool = False,
    ) -> None:
        description = os.path.join(os.path.abspath(os.fsdecode(path)), DESCRIPTION)
        if repair and os.path.lexists(description):
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
        return build_table(
            [self.space(name) for name in spaces or [None]], [self.catalog(name) for name in names]
        )

    def info(self) -> dict[str, Any]:
        """Return a description of the store as JSON values.

        Returns
        -------
        dict
            ``path``, ``format_version`` and

            - ``spaces``: for each ``name``, ``architecture``, ``feature_dim``, ``dtype``, ``rows``,
              ``images`` and ``views`` (how many different ones), ``segments``, ``bytes``, ``fingerprint``,
              ``spec`` (with the recipe of the views, where there is one), ``provenance``;
            - ``catalogs``: for each ``name``, ``location``, ``images``, ``failed``, ``labeled``, ``classes``
              (``label``, ``images``, ``train``, ``validation``, ``test``), ``splits`` (``train``,
              ``validation``, ``test``), ``given_splits`` (the same and ``rule``: images left to the rule),
              ``duplicates`` (``content_hash``, ``paths``), ``label_conflicts``
              (``content_hash``, ``labels``: paths by label), ``spaces`` (images with features, by space) and
              ``complete`` (images with every view that any image has, by space);
            - ``heads``: for each ``name``, ``path``, ``bytes``.

            Classes, splits and duplicates count the images that could be used, split by the default
            :class:`~featstore.splits.SplitRule` where the catalog does not fix their split.

        Raises
        ------
        StoreError
            A file is damaged or cannot be read.
        """
        return describe_store(self)

    def verify(self, progress: _Progress | None = None) -> VerifyReport:
        """Verify all checksums, formats and fingerprints in the store.

        Parameters
        ----------
        progress : callable, optional
            Called as ``progress(done, total)`` with numbers of rows.

        Returns
        -------
        VerifyReport
            Damage is reported in it, not raised.
        """
        return verify_store(self, progress)

    def repair(self, progress: _Progress | None = None) -> RepairReport:
        """Set damaged files aside, keep their good rows, and report what to extract again.

        Damaged files are moved to the store's folder ``damaged``; nothing is deleted. The rows of a readable
        segment that match their checksums are written to a new one. A space's description is restored from
        one of its segments.

        Parameters
        ----------
        progress : callable, optional
            As for :meth:`verify`.

        Returns
        -------
        RepairReport

        Raises
        ------
        StoreError
            A file cannot be moved or written.
        """
        return repair_store(self, progress)

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
        for folder in FOLDERS:
            self._make_folder(folder)
        return merge_stores(self, source, on_conflict=on_conflict, progress=progress)

    def compact(
        self,
        space: str | None = None,
        *,
        min_segments: int = 2,
        full: bool = False,
        progress: _Progress | None = None,
    ) -> CompactReport:
        """Merge small segments into larger ones, and remove temporary files older than a day.

        Parameters
        ----------
        space : str, optional
            By default every space.
        min_segments : int
            Leave a space alone where it has fewer.
        full : bool
            Fold whatever fits into 4 GiB. By default only what is worth its cost: ten new rows never rewrite
            gigabytes (see :func:`featstore.store.maintenance.compact.plan_compaction`).
        progress : callable, optional
            Called as ``progress(done, total)`` with numbers of rows, for each space.

        Returns
        -------
        CompactReport

        Raises
        ------
        DamagedError
            A row does not agree with its checksum; its segments are left as they are.
        StoreError
            A file cannot be written.
        """
        names = self.space_names if space is None else (self._chosen(space, self.space_names, "space"),)
        report = CompactReport()
        for name in names:
            report += compact_space(self.space(name), min_segments=min_segments, full=full, progress=progress)
        places = [self.path, *(os.path.join(self.path, folder) for folder in FOLDERS)]
        places += [entry.path for entry in self._entries("spaces") if entry.is_dir(follow_symlinks=False)]
        return report + CompactReport(leftovers_removed=sum(map(remove_stale, places)))

    def pack(
        self,
        path: str | os.PathLike[str],
        space: str | None = None,
        catalog: str | Sequence[str] | None = None,
        *,
        format: str = "h5",  # noqa: A002
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
        format : {"h5", "tfrecord"}
            ``"h5"`` is a single plain HDF5 file with the datasets ``features``, ``content_hash``, ``path``,
            ``label``, ``split`` and ``group``, in the catalog's order. ``"tfrecord"`` is a folder of shards
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
            It cannot be written; or the format is unknown, or ``shards`` is below 1.
        """
        table = self.table(space, catalog)
        if format == "h5":
            if shards != 1:
                raise StoreError(f"an HDF5 file has no shards; found shards={shards}, for format='tfrecord'")
            return pack_table(path, table, rule=rule, overwrite=overwrite)
        if format != "tfrecord":
            raise StoreError(f"format must be 'h5' or 'tfrecord'; found {format!r}")
        if shards < 1:
            raise StoreError(f"shards must be at least 1; found {shards}")
        # Which imports Pillow; a store that is only opened needs no images.
        from featstore.store.packing_tfrecord import pack_shards

        return pack_shards(path, table, n_shards=shards, rule=rule, overwrite=overwrite, progress=progress)
