"""The upkeep of a store: verification, repair, compaction, removal."""

import os
from collections.abc import Callable, Sequence

from featstore.store.folder import FOLDERS, StoreFolder
from featstore.store.maintenance.compact import CompactReport, compact_space
from featstore.store.maintenance.remove import RemovalReport, remove_from_store
from featstore.store.maintenance.repair import RepairReport, repair_store
from featstore.store.maintenance.verify import VerifyReport, verify_store

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
