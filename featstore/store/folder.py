"""The folder layout of a store: its spaces, catalogs and heads."""

import os
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Literal

from featstore.backbones.spec import BackboneSpec
from featstore.errors import NotInStoreError, StoreError, StoreNotFoundError
from featstore.io.atomic import TEMPORARY_PREFIX, failure_reason
from featstore.io.storage.access import Entry
from featstore.io.storage.opening import absolute_place, file_exists, storage_of
from featstore.io.urls import is_url
from featstore.store.catalogs.catalog import Catalog, checked_name
from featstore.store.catalogs.file import read_catalog, write_catalog
from featstore.store.catalogs.moved import current_catalog
from featstore.store.catalogs.updating import update_catalog
from featstore.store.description import STORE_VERSION, read_json, write_json, write_space_description
from featstore.store.space import Space

__all__ = ["DESCRIPTION", "FOLDERS", "SHARDS", "STORE_FORMAT", "StoreFolder", "describe"]

STORE_FORMAT = "featstore-store"
DESCRIPTION = "featstore.json"
FOLDERS = ("spaces", "catalogs", "heads")
SHARDS = "shards"  # of reports, until they are collected
# A space is named after an architecture, which a user's own model file may name as it likes.
_SPACE_NAME = re.compile(r"[^./\\\x00-\x1f\x7f][^/\\\x00-\x1f\x7f]{0,199}")
_Progress = Callable[[int, int], None]


class StoreFolder:
    """The spaces, catalogs and heads of a store; the base of :class:`~featstore.FeatureStore`.

    Parameters
    ----------
    path, create, verify_reads
        As for :class:`~featstore.FeatureStore`.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        create: bool | Literal["later"] = False,
        verify_reads: bool = False,
    ) -> None:
        self.path = absolute_place(path)
        self._storage = storage_of(self.path)
        self._spaces: dict[str, Space] = {}
        self._verify_reads = verify_reads
        description = os.path.join(self.path, DESCRIPTION)
        try:
            names = [entry.name for entry in self._storage.entries(self.path)]
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
        if not names and not create and is_url(self.path):
            raise StoreNotFoundError(
                f"there is no store {self.path}; featstore extract makes one, "
                "FeatureStore(path, create=True) an empty one"
            )
        if DESCRIPTION not in names:
            if foreign := [name for name in names if not _is_ours(name)]:
                wanted = "name a store, or an empty or new folder" if create else "name a store"
                if file_exists(os.path.join(beside := f"{self.path}.fstore", DESCRIPTION)):
                    wanted += f", such as {beside}"
                raise StoreError(
                    f"{self.path} is a folder of other things ({sorted(foreign)[0]}, …) and not a store; "
                    f"{wanted}"
                )
            if not create:
                raise StoreNotFoundError(
                    f"the folder {self.path} is empty and holds no store; featstore extract makes one, "
                    "FeatureStore(path, create=True) an empty one"
                )
            self._check_can_be_made()
            if create != "later":
                self._create()
        self._is_awaited = create == "later" and DESCRIPTION not in names
        self.format_version: int = (
            STORE_VERSION
            if self._is_awaited
            else read_json(description, kind=STORE_FORMAT, version=STORE_VERSION)["format_version"]
        )

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__} {self.path}: {len(self.space_names)} spaces, "
            f"{len(self.catalog_names)} catalogs, {len(self.head_names)} heads>"
        )

    @property
    def space_names(self) -> tuple[str, ...]:
        """The spaces' names, sorted."""
        folder = os.path.join(self.path, "spaces")
        return tuple(
            entry.name
            for entry in self._entries("spaces")
            if entry.is_folder
            and _SPACE_NAME.fullmatch(entry.name)
            and file_exists(os.path.join(folder, entry.name, "space.json"))
        )

    @property
    def feature_space_names(self) -> tuple[str, ...]:
        """Names of the spaces, without those of the activation maps of a fine-tuning."""
        return tuple(name for name in self.space_names if not self._opened(name).holds_maps)

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
            Its name or the beginning of it; may be left out where there is only one, apart from the
            activation maps of a fine-tuning.

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
        names = self.space_names
        if name is None and len(names) > 1:
            names = self.feature_space_names or names
        return self._opened(self._chosen(name, names, "space"))

    def _opened(self, name: str) -> Space:
        known = self._spaces.get(name)
        if known is None or not known.is_current():
            folder = os.path.join(self.path, "spaces", name)
            known = self._spaces[name] = Space(folder, verify_reads=self._verify_reads)
        return known

    def create_space(
        self, spec: BackboneSpec, *, feature_dim: int, provenance: Mapping[str, Any] | None = None
    ) -> Space:
        """Open the space of a backbone's specification, creating it if needed.

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
            May be left out where there is only one, or only one whose source is still where it was, and
            that has all images of the others, with the same labels, groups and given splits.

        Raises
        ------
        NotInStoreError
            There is none of this name.
        StoreError
            It is damaged or cannot be read.
        """
        return read_catalog(self.catalog_path(self._catalog_name(name)))

    def catalog_path(self, name: str) -> str:
        """Return the path of a catalog of this name, whether or not it exists."""
        return os.path.join(self.path, "catalogs", checked_name(name, "catalog") + ".h5")

    def write_catalog(self, catalog: Catalog) -> None:
        """Write a catalog, replacing any of the same name; :meth:`update_catalog` changes an existing one.

        Raises
        ------
        StoreError
            It cannot be written.
        """
        self._make_folder("catalogs")
        write_catalog(self.catalog_path(catalog.name), catalog)

    def update_catalog(self, name: str, change: Callable[[Catalog | None], Catalog | None]) -> Catalog | None:
        """Change a catalog without losing concurrent changes.

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

    def head_path(self, name: str) -> str:
        """Return the path of a head of this name, whether or not it exists.

        Raises
        ------
        StoreError
            No head can have this name.
        """
        self._refuse_link("heads")
        return os.path.join(self.path, "heads", checked_name(name, "head") + ".head")

    @property
    def is_made(self) -> bool:
        """Whether it is there: one that is created later may not be."""
        return not self._is_awaited or file_exists(os.path.join(self.path, DESCRIPTION))

    def make(self) -> None:
        """Make the store now, if it was to be created later; raise StoreError if it cannot be made."""
        if not self.is_made:
            self._create()
        self._is_awaited = False

    def _check_can_be_made(self) -> None:
        try:
            self._storage.check_writable(self.path)
        except OSError as error:
            raise StoreError(f"cannot make the store {self.path}: {failure_reason(error)}") from error

    def _create(self) -> None:
        try:
            for folder in FOLDERS:
                self._storage.make_folder(os.path.join(self.path, folder))
        except OSError as error:
            raise StoreError(f"cannot make the store {self.path}: {failure_reason(error)}") from error
        describe(os.path.join(self.path, DESCRIPTION))

    def _make_folder(self, name: str) -> None:
        self.make()
        if not file_exists(os.path.join(self.path, DESCRIPTION)):
            raise StoreError(f"the store {self.path} has been removed since it was opened")
        self._refuse_link(name)
        try:
            self._storage.make_folder(os.path.join(self.path, name))
        except OSError as error:
            raise StoreError(f"cannot write into {self.path}: {failure_reason(error)}") from error

    def _refuse_link(self, name: str) -> None:
        """Raise StoreError if a folder of the store is a link."""
        if os.path.islink(os.path.join(self.path, name)):
            raise StoreError(
                f"{os.path.join(self.path, name)} is a link to somewhere else, which featstore never "
                "follows; put the folder itself in its place"
            )

    def _entries(self, folder: str) -> list[Entry]:
        self._refuse_link(folder)
        try:
            return self._storage.entries(os.path.join(self.path, folder))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StoreError(f"cannot read {self.path}: {failure_reason(error)}") from error

    def _names(self, folder: str, extension: str) -> tuple[str, ...]:
        stems = (
            os.path.splitext(entry.name)[0]
            for entry in self._entries(folder)
            if entry.name.endswith(extension) and entry.is_file
        )
        return tuple(stem for stem in stems if not stem.startswith(".") and _is_name(stem))

    def _catalog_name(self, name: str | None) -> str:
        names = self.catalog_names
        if name is None and len(names) > 1:
            # With one that cannot be read, it is for the caller to choose.
            with suppress(StoreError):
                name = current_catalog([read_catalog(self.catalog_path(one)) for one in names])
        return self._chosen(name, names, "catalog")

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
            asked = f"which {kind}? name one with --{kind}" if names else f"there is no {kind}"
        else:
            asked = f"several {kind}s begin with {name!r}" if matching else f"there is no {kind} {name!r}"
        raise NotInStoreError(f"{asked}; {there}")


def describe(path: str) -> None:
    """Write the description of a store."""
    write_json(path, {"format": STORE_FORMAT, "format_version": STORE_VERSION})


def _is_ours(name: str) -> bool:
    """Return whether a name may be left from an interrupted creation of a store."""
    return name in (*FOLDERS, SHARDS) or name.startswith(TEMPORARY_PREFIX)


def _is_name(stem: str) -> bool:
    try:
        return bool(checked_name(stem, "file"))
    except StoreError:
        return False
