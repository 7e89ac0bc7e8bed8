"""The upkeep of a store: verification, repair, compaction, removal."""

import os
from collections.abc import Callable, Sequence

from featstore.store.folder import FOLDERS, StoreFolder
from featstore.store.maintenance.compact import CompactReport, compact_space
from featstore.store.maintenance.forget import ForgetReport, forget_images
from featstore.store.maintenance.remove import RemovalReport, remove_from_store
from featstore.store.maintenance.repair import RepairReport, repair_store
from featstore.store.maintenance.traces import TraceReport, find_traces
from featstore.store.maintenance.verify import VerifyReport, verify_store
from featstore.store.named_images import named_images

__all__ = ["MaintainedStore"]

_Progress = Callable[[int, int], None]


class MaintainedStore(StoreFolder):
    """A store as what is kept whole, small and free of what nobody needs."""

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
        places += [entry.path for entry in self._entries("spaces") if entry.is_folder]
        return report + CompactReport(leftovers_removed=sum(map(self._storage.clean, places)))

    def remove(
        self,
        *,
        spaces: Sequence[str] = (),
        catalogs: Sequence[str] = (),
        heads: Sequence[str] = (),
        dry_run: bool = False,
    ) -> RemovalReport:
        """Remove spaces, catalogs and heads for good.

        After an interruption the store is whole; what is left, perhaps a space with fewer rows, is removed
        by another call. Features of a catalog stay when it is removed, and a catalog when its features are.
        Do not remove a space while an extraction writes into it.

        Parameters
        ----------
        spaces, catalogs, heads : sequence of str
            Their names; of a space, its beginning does.
        dry_run : bool
            Remove nothing, and report what would be removed.

        Returns
        -------
        RemovalReport

        Raises
        ------
        NotInStoreError
            There is none of a name, or nothing is named; nothing has been removed then.
        StoreError
            A file cannot be removed.

        Examples
        --------
        >>> import tempfile
        >>> from featstore import FeatureStore, extract
        >>> from featstore.images import write_digits
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     n_images = write_digits(f"{folder}/digits", n_images=10)
        ...     report = extract(
        ...         f"{folder}/digits", store=f"{folder}/digits.fstore", backbone="scattering"
        ...     )
        ...     store = FeatureStore(f"{folder}/digits.fstore")
        ...     found = store.remove(spaces=["scattering"], dry_run=True)
        ...     removed = store.remove(catalogs=["digits"])
        >>> found.consequences[0][:57]
        '10 images of the catalog digits will have no features: ex'
        >>> removed.catalogs, removed.removed
        (('digits',), True)
        """
        report = remove_from_store(
            self,
            spaces=[self._chosen(name, self.space_names, "space") for name in spaces],
            catalogs=[self._chosen(name, self.catalog_names, "catalog") for name in catalogs],
            heads=[self._chosen(name, self.head_names, "head") for name in heads],
            dry_run=dry_run,
        )
        if report.removed:
            for name in report.spaces:
                self._spaces.pop(name, None)
        return report

    def forget(
        self, images: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], *, dry_run: bool = False
    ) -> ForgetReport:
        """Remove images, and all that tells of them, from the store for good.

        Their rows go from all spaces, of all views, activation maps of a fine-tuning included: segments are
        written anew without them. They go from catalogs and reports of shards, from the lists of the images
        that heads were fitted on, and from the copies of objects on this machine. Heads that hold features
        of them are removed whole; so is what is set aside, left over or kept for readers, since not all of
        it can be searched. After an interruption the same call does the rest. Nothing outside of the store
        is touched: not the photos, nor corrections, reports, exports and packed files made from it.

        Parameters
        ----------
        images : path, or sequence of path
            Files, whose content counts and what the catalogs know of these paths; or content hashes of 64
            hexadecimal digits.
        dry_run : bool
            Remove nothing, and report what would be removed.

        Returns
        -------
        ForgetReport

        Raises
        ------
        NotInStoreError
            No file can be read, and none is in a catalog.
        DamagedError
            A file of the store is damaged: repair the store first.
        StoreError
            Another process is writing into the store, or a file cannot be written.

        Examples
        --------
        >>> import tempfile
        >>> from featstore import FeatureStore, extract
        >>> from featstore.images import write_digits
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     n_images = write_digits(f"{folder}/digits", n_images=10)
        ...     report = extract(
        ...         f"{folder}/digits", store=f"{folder}/digits.fstore", backbone="scattering"
        ...     )
        ...     store = FeatureStore(f"{folder}/digits.fstore")
        ...     forgotten = store.forget(store.table().content_hash[3])
        ...     traces = store.find_traces(forgotten.content_hashes).traces
        >>> forgotten.catalogs, [*forgotten.spaces.values()], traces
        ({'digits': 1}, [1], ())
        """
        report = forget_images(self, _listed(images), dry_run=dry_run)
        if report.removed:
            self._spaces.clear()
        return report

    def find_traces(
        self,
        images: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        progress: _Progress | None = None,
    ) -> TraceReport:
        """Search every byte of the store, whatever the file, for what tells of images.

        That is the content hash or its first eight bytes, in any form; heads that hold features of images
        which they do not know count too. Features themselves are not recognised: they stand beside the hash.

        Parameters
        ----------
        images : path, or sequence of path
            As for :meth:`forget`.
        progress : callable, optional
            Called as ``progress(done, total)`` with numbers of bytes.

        Returns
        -------
        TraceReport

        Raises
        ------
        NotInStoreError
            A file can neither be read nor is in a catalog.
        DamagedError
            A catalog or head is damaged, so that it cannot be searched.
        StoreError
            A file cannot be read.
        """
        return find_traces(self, named_images(self, _listed(images), all_known=True).contents, progress)


def _listed(
    images: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
) -> list[str | os.PathLike[str]]:
    return [images] if isinstance(images, str | os.PathLike) else [*images]
