"""A store: features by content hash, catalogs and heads in one folder that only grows."""

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from featstore.backbones.spec import BackboneSpec
from featstore.errors import NotInStoreError, StoreError, StoreNotFoundError
from featstore.splits import SplitRule
from featstore.store.atomic import TEMPORARY_PREFIX, failure_reason, make_folders, remove_stale
from featstore.store.catalog import Catalog, checked_name, read_catalog, write_catalog
from featstore.store.compaction import CompactReport, compact_space
from featstore.store.description import STORE_VERSION, read_json, write_json, write_space_description
from featstore.store.grouping import name_near_groups
from featstore.store.merging import MergeReport, merge_stores
from featstore.store.packing import pack_table
from featstore.store.repairing import RepairReport, mend_description, repair_store
from featstore.store.reports import describe_store
from featstore.store.space import Space
from featstore.store.table import FeatureTable, build_table
from featstore.store.updating import update_catalog
from featstore.store.verification import VerifyReport, verify_store

__all__ = ["FeatureStore"]

_FORMAT = "featstore-store"
_FOLDERS = ("spaces", "catalogs", "heads")
# A space is named after an architecture, which a user's own model file may name as it likes.
_SPACE_NAME = re.compile(r"[^./\\\x00-\x1f\x7f][^/\\\x00-\x1f\x7f]{0,199}")
_Progress = Callable[[int, int], None]


class FeatureStore:
    """A folder of features, catalogs and heads.

    Opening one reads a small JSON file; TensorFlow is never imported.

    Parameters
    ----------
    path : path
        The store's folder.
    create : bool
        Make the store where there is none: the folder is missing or empty.
    repair : bool
        Where ``featstore.json`` is damaged, set it aside and write it anew, as :meth:`repair` does with what
        else is damaged.
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
        self.path = os.path.abspath(os.fsdecode(path))
        self._spaces: dict[str, Space] = {}
        self._verify_reads = verify_reads
        description = os.path.join(self.path, "featstore.json")
        try:
            names = os.listdir(self.path)
        except FileNotFoundError:
            names = []
            if not create:
                raise StoreNotFoundError(
                    f"there is no store {self.path}; featstore extract makes one, "
                    "FeatureStore(path, create=True) an empty one"
                ) from None
        except NotADirectoryError as error:
            raise StoreError(f"{self.path} is a file; a store is a folder") from error
        except OSError as error:
            raise StoreError(f"cannot read {self.path}: {failure_reason(error)}") from error
        if "featstore.json" not in names:
            if foreign := [name for name in names if not _is_ours(name)]:
                raise StoreError(
                    f"{self.path} is a folder of other things ({sorted(foreign)[0]}, …) and not a store; "
                    "name a store, or an empty or new folder"
                )
            if not create:
                raise StoreNotFoundError(
                    f"the folder {self.path} is empty and holds no store; featstore extract makes one, "
                    "FeatureStore(path, create=True) an empty one"
                )
            self._create(description)
        if repair:
            mend_description(description, lambda: _describe(description), kind=_FORMAT, version=STORE_VERSION)
        self.format_version: int = read_json(description, kind=_FORMAT, version=STORE_VERSION)[
            "format_version"
        ]

    def __repr__(self) -> str:
        return (
            f"<FeatureStore {self.path}: {len(self.space_names)} spaces, "
            f"{len(self.catalog_names)} catalogs, {len(self.head_names)} heads>"
        )

    @property
    def space_names(self) -> tuple[str, ...]:
        """The spaces' names, sorted."""
        folder = os.path.join(self.path, "spaces")
        return tuple(
            entry.name
            for entry in self._entries("spaces")
            if entry.is_dir(follow_symlinks=False)
            and _SPACE_NAME.fullmatch(entry.name)
            and os.path.lexists(os.path.join(folder, entry.name, "space.json"))
        )

    @property
    def catalog_names(self) -> tuple[str, ...]:
        """The catalogs' names, sorted."""
        return self._names("catalogs", ".h5")

    @property
    def head_names(self) -> tuple[str, ...]:
        """The heads' names, sorted."""
        return self._names("heads", ".head")

    def space(self, name: str | None = None) -> Space:
        """Open a space.

        Parameters
        ----------
        name : str, optional
            Its name or the beginning of it; may be left out where there is only one.

        Returns
        -------
        Space

        Raises
        ------
        NotInStoreError
            There is none of this name, or several begin so.
        StoreError
            It is damaged or cannot be read.
        """
        name = self._chosen(name, self.space_names, "space")
        known = self._spaces.get(name)
        if known is None or not known.is_current():
            folder = os.path.join(self.path, "spaces", name)
            known = self._spaces[name] = Space(folder, verify_reads=self._verify_reads)
        return known

    def create_space(
        self, spec: BackboneSpec, *, feature_dim: int, provenance: Mapping[str, Any] | None = None
    ) -> Space:
        """Open the space of a backbone's specification; it is made where there is none.

        Parameters
        ----------
        spec : BackboneSpec
        feature_dim : int
            Number of features of an image.
        provenance : mapping, optional
            What computes the features, as JSON values; kept where the space is made.

        Returns
        -------
        Space

        Raises
        ------
        StoreError
            The space has rows of another length, or cannot be written.
        """
        if not _SPACE_NAME.fullmatch(spec.name):
            raise StoreError(
                f"{spec.name!r} cannot be the name of a space: the architecture must have at most 180 "
                "characters, none of them a slash or control character, and not begin with a dot"
            )
        if spec.name not in self.space_names:
            self._make_folder("spaces")
            folder = os.path.join(self.path, "spaces", spec.name)
            write_space_description(folder, spec, feature_dim=feature_dim, provenance=provenance)
        space = self.space(spec.name)
        if space.feature_dim != feature_dim:
            raise StoreError(
                f"the space {space.name} has rows of {space.feature_dim} features; "
                f"a backbone of the same specification came with {feature_dim}"
            )
        return space

    def catalog(self, name: str | None = None) -> Catalog:
        """Read a catalog.

        Parameters
        ----------
        name : str, optional
            May be left out where there is only one.

        Raises
        ------
        NotInStoreError
            There is none of this name.
        StoreError
            It is damaged or cannot be read.
        """
        return read_catalog(self.catalog_path(self._chosen(name, self.catalog_names, "catalog")))

    def catalog_path(self, name: str) -> str:
        """Return where a catalog of this name is, or would be."""
        return os.path.join(self.path, "catalogs", checked_name(name, "catalog") + ".h5")

    def write_catalog(self, catalog: Catalog) -> None:
        """Write a catalog, replacing the one of the same name; :meth:`update_catalog` changes what is there.

        Raises
        ------
        StoreError
            It cannot be written.
        """
        self._make_folder("catalogs")
        write_catalog(self.catalog_path(catalog.name), catalog)

    def update_catalog(self, name: str, change: Callable[[Catalog | None], Catalog | None]) -> Catalog | None:
        """Change a catalog without losing what other processes write meanwhile.

        Parameters
        ----------
        name : str
        change : callable
            Given the catalog of this name, or None where there is none, returns the one to write in its
            place; None writes nothing. It is called again, with what is there by then, where another process
            has written the catalog before this one could.

        Returns
        -------
        Catalog or None
            What is there now.

        Raises
        ------
        StoreError
            The catalog cannot be read or written, or others write it all the time.
        """
        self._make_folder("catalogs")
        return update_catalog(self.catalog_path(name), change)

    def write_near_groups(
        self, content_groups: Iterable[Sequence[str]], catalog: str | Sequence[str] | None = None
    ) -> int:
        """Note which images are near-duplicates, so that ``SplitRule(by="group")`` keeps them together.

        They replace those noted before. The user's own groups stay as they are: images that share either are
        in one group of the table. A later extraction keeps what is noted here, by content; images that are
        new to the catalog are in no such group until they have been compared.

        Parameters
        ----------
        content_groups : iterable of sequence of str
            The content hashes in each group, such as ``find_duplicates(table).content_groups``; each in one
            group at most. None at all takes away what was noted before. A group that was there before keeps
            its name, and so its split.
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
        names = [self._chosen(name, self.catalog_names, "catalog") for name in wanted]
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

    def head_path(self, name: str) -> str:
        """Return where a head of this name is, or would be.

        Raises
        ------
        StoreError
            No head can have this name.
        """
        self._refuse_link("heads")
        path = os.path.join(self.path, "heads", checked_name(name, "head") + ".head")
        # Archives and git drop empty folders; a store that cannot be written has no use for one.
        with suppress(OSError):
            os.makedirs(os.path.dirname(path), exist_ok=True)
        return path

    def table(
        self, space: str | Sequence[str] | None = None, catalog: str | Sequence[str] | None = None
    ) -> FeatureTable:
        """Join a catalog's images with their features.

        Parameters
        ----------
        space : str or sequence of str, optional
            As for :meth:`space`. Of several, an image's features are put one after the other in this order,
            by its content hash.
        catalog : str or sequence of str, optional
            One or more catalogs; may be left out where there is only one. Of several, a file with the same
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
        """Describe the store as JSON values.

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

            Classes, splits and duplicates count the images that could be used, dealt by the default
            :class:`~featstore.splits.SplitRule` where the catalog does not fix their split.

        Raises
        ------
        StoreError
            A file is damaged or cannot be read.
        """
        return describe_store(self)

    def verify(self, progress: _Progress | None = None) -> VerifyReport:
        """Read everything and check it: every row's checksum, every file's format, every fingerprint.

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
        """Set damaged files aside, keep the rows of them that are good, and say what to extract again.

        Damaged files go to the store's folder ``damaged``; nothing is deleted. Of a segment that can be
        opened, the rows that agree with their checksums are sealed anew. A space's description is written
        anew after one of its segments.

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
        """Copy into this store what another one has; the other stays as it is.

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
        for folder in _FOLDERS:
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
        """Fold small segments into big ones, and remove temporary files that are older than a day.

        Parameters
        ----------
        space : str, optional
            By default every space.
        min_segments : int
            Leave a space alone where it has fewer.
        full : bool
            Fold whatever fits into 4 GiB. By default only what is worth its cost: ten new rows never rewrite
            gigabytes (see :func:`featstore.store.compaction.plan_compaction`).
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
        places = [self.path, *(os.path.join(self.path, folder) for folder in _FOLDERS)]
        places += [entry.path for entry in self._entries("spaces") if entry.is_dir(follow_symlinks=False)]
        return report + CompactReport(leftovers_removed=sum(map(remove_stale, places)))

    def pack(
        self,
        path: str | os.PathLike[str],
        space: str | None = None,
        catalog: str | Sequence[str] | None = None,
        *,
        rule: SplitRule | None = None,
        overwrite: bool = False,
    ) -> int:
        """Write one space and catalog as a single plain HDF5 file; of several views, view 0.

        Parameters
        ----------
        path : path
            The file.
        space, catalog : str, optional
            As for :meth:`table`.
        rule : SplitRule, optional
            Fills in the ``split`` column where the catalog does not fix it.
        overwrite : bool
            Whether an existing file may be replaced.

        Returns
        -------
        int
            Number of rows: one for each image with features, in the catalog's order, in the datasets
            ``features``, ``content_hash``, ``path``, ``label``, ``split`` and ``group``.

        Raises
        ------
        OutputError
            The file exists, is one of the images or lies in a store.
        StoreError
            It cannot be written.
        """
        return pack_table(path, self.table(space, catalog), rule=rule, overwrite=overwrite)

    def _create(self, description: str) -> None:
        try:
            for folder in _FOLDERS:
                make_folders(os.path.join(self.path, folder))
        except OSError as error:
            raise StoreError(f"cannot make the store {self.path}: {failure_reason(error)}") from error
        _describe(description)

    def _make_folder(self, name: str) -> None:
        if not os.path.lexists(os.path.join(self.path, "featstore.json")):
            raise StoreError(f"the store {self.path} has been removed since it was opened")
        self._refuse_link(name)
        try:
            make_folders(os.path.join(self.path, name))
        except OSError as error:
            raise StoreError(f"cannot write into {self.path}: {failure_reason(error)}") from error

    def _refuse_link(self, name: str) -> None:
        """Refuse a folder of the store that leads out of it."""
        if os.path.islink(os.path.join(self.path, name)):
            raise StoreError(
                f"{os.path.join(self.path, name)} is a link to somewhere else, which featstore never "
                "follows; put the folder itself in its place"
            )

    def _entries(self, folder: str) -> list["os.DirEntry[str]"]:
        self._refuse_link(folder)
        try:
            with os.scandir(os.path.join(self.path, folder)) as entries:
                return sorted(entries, key=lambda entry: entry.name)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StoreError(f"cannot read {self.path}: {failure_reason(error)}") from error

    def _names(self, folder: str, extension: str) -> tuple[str, ...]:
        stems = (
            os.path.splitext(entry.name)[0]
            for entry in self._entries(folder)
            if entry.name.endswith(extension) and entry.is_file(follow_symlinks=False)
        )
        return tuple(stem for stem in stems if not stem.startswith(".") and _is_name(stem))

    def _chosen(self, name: str | None, names: tuple[str, ...], kind: str) -> str:
        if name is None:
            matching = names
        elif name in names:
            return name
        else:
            matching = tuple(found for found in names if kind == "space" and found.startswith(name))
        if len(matching) == 1:
            return matching[0]
        there = (
            f"{self.path} has: {', '.join(names)}"
            if names
            else f"{self.path} has none; run featstore extract"
        )
        if name is None:
            asked = f"which {kind}? name one" if names else f"there is no {kind}"
        else:
            asked = f"several {kind}s begin with {name!r}" if matching else f"there is no {kind} {name!r}"
        raise NotInStoreError(f"{asked}; {there}")


def _describe(path: str) -> None:
    write_json(path, {"format": _FORMAT, "format_version": STORE_VERSION})


def _is_ours(name: str) -> bool:
    """Say whether a name may be left of a store's creation that was cut short."""
    return name in _FOLDERS or name.startswith(TEMPORARY_PREFIX)


def _is_name(stem: str) -> bool:
    try:
        return bool(checked_name(stem, "file"))
    except StoreError:
        return False
