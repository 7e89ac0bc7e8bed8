"""The table that notebooks hold: features, labels and splits of a catalog's images, row by row."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featstore.errors import NotInStoreError, SplitError, StoreError
from featstore.splits import SPLITS, SplitRule, assign_splits, group_keys
from featstore.store.grouping import join_groups

if TYPE_CHECKING:
    from featstore.backbones.spec import BackboneSpec
    from featstore.store.catalog import Catalog
    from featstore.store.segment import FeatureArray
    from featstore.store.space import Space

__all__ = ["FeatureTable", "build_table"]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Columns:
    """What the catalogs say; row i of each array is one image, and texts are objects (str or None)."""

    rows: NDArray[np.int64]
    content_hash: NDArray[np.uint8]
    paths: NDArray[np.object_]
    roots: NDArray[np.object_]
    labels: NDArray[np.object_]
    groups: NDArray[np.object_]
    near_groups: NDArray[np.object_]
    splits: NDArray[np.object_]

    def take(self, index: Any) -> "_Columns":
        return _Columns(**{name: getattr(self, name)[index] for name in self.__slots__})


class FeatureTable:
    """Images that have features in one space, in their catalog's order; made by :meth:`FeatureStore.table`.

    Nothing is read from the segments before ``X`` is asked for, and selecting rows costs no features. All
    arrays are read-only.

    Attributes
    ----------
    space_name, catalog_name : str
        Several catalogs are joined by ``+``.
    spec : BackboneSpec
    n_missing : int
        Images of the catalog that have no features in this space; they are not in the table.
    n_failed : int
        Images of the catalog that could not be used; they are not in the table.
    """

    def __init__(
        self, space: "Space", columns: _Columns, *, catalog_name: str, n_missing: int = 0, n_failed: int = 0
    ) -> None:
        self._space = space
        self._columns = columns
        self.space_name = space.name
        self.catalog_name = catalog_name
        self.spec: BackboneSpec = space.spec
        self.n_missing = n_missing
        self.n_failed = n_failed

    def __len__(self) -> int:
        return len(self._columns.rows)

    def __repr__(self) -> str:
        labels = f"{len(self.classes)} classes" if len(self.classes) else "no labels"
        return (
            f"<FeatureTable {self.catalog_name} in {self.space_name}: "
            f"{len(self):,} images x {self.feature_dim} {self.spec.dtype} features, {labels}>"
        )

    @property
    def feature_dim(self) -> int:
        """Number of features of an image."""
        return self._space.feature_dim

    @property
    def dtype(self) -> np.dtype[Any]:
        """The features' type, as stored."""
        return self._space.dtype

    @property
    def weights(self) -> str:
        """Where the backbone's weights came from: ``"imagenet"``, ``"closed-form"`` or a file's path."""
        return str(self._space.provenance.get("weights", ""))

    @property
    def provenance(self) -> dict[str, Any]:
        """What computed the space's first rows: versions, engine and device, as its description has them."""
        return dict(self._space.provenance)

    @property
    def fingerprint(self) -> str:
        """The specification's fingerprint, 64 hexadecimal digits."""
        return self.spec.fingerprint

    @cached_property
    def X(self) -> "FeatureArray":  # noqa: N802
        """The features, float32 or float16 of shape (n, feature_dim).

        A memory map of the segment where the rows are one run of it; otherwise gathered once and kept.
        """
        return _frozen(self._space.rows(self._columns.rows))

    @cached_property
    def y(self) -> NDArray[np.str_]:
        """The labels, str of shape (n,); ``""`` where there is none."""
        return _texts(self._columns.labels)

    @cached_property
    def classes(self) -> NDArray[np.str_]:
        """The labels that occur, sorted, str of shape (n_classes,)."""
        return _texts(np.array(sorted({label for label in self._columns.labels if label}), object))

    @property
    def has_labels(self) -> bool:
        """Whether there are images and every one has a label."""
        return len(self) > 0 and all(self._columns.labels)

    @cached_property
    def paths(self) -> NDArray[np.str_]:
        """The images' absolute paths, str of shape (n,)."""
        roots, paths = self._columns.roots.tolist(), self._columns.paths.tolist()
        return _texts(np.array([os.path.join(*pair) for pair in zip(roots, paths, strict=True)], object))

    @property
    def relative_paths(self) -> list[str]:
        """The images' paths as the catalog has them."""
        return list(self._columns.paths.tolist())

    @cached_property
    def content_hash(self) -> NDArray[np.str_]:
        """The content hashes as 64 hexadecimal digits, ``<U64`` of shape (n,)."""
        return _frozen(np.array([row.tobytes().hex() for row in self._columns.content_hash], "<U64"))

    @property
    def content_hash_bytes(self) -> NDArray[np.uint8]:
        """The content hashes, uint8 of shape (n, 32)."""
        return _frozen(self._columns.content_hash.view())

    @cached_property
    def groups(self) -> NDArray[np.str_]:
        """The groups, str of shape (n,); ``""`` where there is none.

        Near-duplicates that :meth:`FeatureStore.write_near_groups` has noted share one.
        """
        return _texts(self._columns.groups)

    @cached_property
    def given_splits(self) -> NDArray[np.str_]:
        """The splits that the catalog fixes, str of shape (n,); ``""`` where it leaves them to the rule."""
        return _texts(self._columns.splits)

    def splits(self, rule: SplitRule | None = None) -> NDArray[np.str_]:
        """Return each row's split.

        Parameters
        ----------
        rule : SplitRule, optional
            80/10/10 by content by default. Splits that the catalog fixes win over it.

        Returns
        -------
        ndarray of shape (n,), str
            ``"train"``, ``"validation"`` or ``"test"``.
        """
        return assign_splits(
            rule or SplitRule(),
            content_hash=self._columns.content_hash,
            groups=self._columns.groups.tolist(),
            paths=self._columns.paths.tolist(),
            given=self._columns.splits.tolist(),
        )

    def group_keys(self, rule: SplitRule) -> NDArray[np.str_]:
        """Return what a rule keeps together, as ``groups`` for :class:`~featstore.HashKFold`.

        Parameters
        ----------
        rule : SplitRule

        Returns
        -------
        ndarray of shape (n,), str
            The group, folder, match or name that the rule goes by; the content hash where it goes by
            content, or where the image has none of these.

        Raises
        ------
        SplitError
            No image has what the rule goes by.

        Examples
        --------
        >>> rule = SplitRule(by="pattern", group_pattern="plant[0-9]+")
        >>> folds = HashKFold(5).split(table.X, groups=table.group_keys(rule))  # doctest: +SKIP
        """
        if rule.by == "content":
            return self.content_hash
        return group_keys(
            rule,
            content_hash=self._columns.content_hash,
            groups=self._columns.groups.tolist(),
            paths=self._columns.paths.tolist(),
        )

    def split(self, name: str, rule: SplitRule | None = None) -> "FeatureTable":
        """Return the rows of one split.

        Parameters
        ----------
        name : {"train", "validation", "test"}
        rule : SplitRule, optional
            As for :meth:`splits`.

        Raises
        ------
        SplitError
            There is no such split.
        """
        if name not in SPLITS:
            raise SplitError(f"a split is one of {', '.join(SPLITS)}; found {name!r}")
        return self.select(self.splits(rule) == name)

    def select(self, index: Any) -> "FeatureTable":
        """Return some of the rows, without reading features.

        Parameters
        ----------
        index : array_like of int or of n bool, or slice
            As for NumPy arrays; rows come in the order that it gives.

        Returns
        -------
        FeatureTable
        """
        chosen = index if isinstance(index, slice) else np.asarray(index)
        if not isinstance(chosen, slice):
            chosen = chosen.astype(np.int64) if chosen.size == 0 and chosen.dtype != np.bool_ else chosen
            if chosen.ndim != 1 or chosen.dtype.kind not in "biu":
                raise StoreError(
                    "rows are selected by a slice, by integers or by a mask; "
                    f"found {chosen.dtype} of shape {chosen.shape}"
                )
            if chosen.dtype == np.bool_ and len(chosen) != len(self):
                raise StoreError(
                    f"a mask must have one entry for each of {len(self)} rows; found {len(chosen)}"
                )
        try:
            columns = self._columns.take(chosen)
        except IndexError as error:
            raise NotInStoreError(f"the table has {len(self)} rows: {error}") from error
        return FeatureTable(
            self._space,
            columns,
            catalog_name=self.catalog_name,
            n_missing=self.n_missing,
            n_failed=self.n_failed,
        )

    def to_frame(self, *, features: bool = False, rule: SplitRule | None = None) -> Any:
        """Return the table as a pandas data frame.

        Parameters
        ----------
        features : bool
            Whether to add the features, as columns ``feature_0``, ``feature_1``, …
        rule : SplitRule, optional
            As for :meth:`splits`.

        Returns
        -------
        pandas.DataFrame
            With the columns ``path`` (absolute), ``label``, ``group``, ``split`` and ``content_hash``.

        Raises
        ------
        ImportError
            pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise ImportError(
                'to_frame needs pandas, which is not installed; run: pip install "featstore[notebook]"'
            ) from error
        frame = pd.DataFrame(
            {
                "path": self.paths.tolist(),
                "label": self._columns.labels.tolist(),
                "group": self._columns.groups.tolist(),
                "split": self.splits(rule).tolist(),
                "content_hash": self.content_hash.tolist(),
            }
        )
        if not features:
            return frame
        names = [f"feature_{number}" for number in range(self.feature_dim)]
        return pd.concat([frame, pd.DataFrame(self.X, columns=names)], axis=1)


def build_table(space: "Space", catalogs: Sequence["Catalog"]) -> FeatureTable:
    """Join catalogs with the rows of a space; see :meth:`FeatureStore.table`."""
    parts, n_missing, n_failed = [], 0, 0
    for catalog in catalogs:
        columns = _Columns(
            rows=space.lookup(catalog.content_hash),
            content_hash=catalog.content_hash,
            paths=_objects(catalog.paths),
            roots=_objects([catalog.root] * len(catalog)),
            labels=_objects(catalog.labels),
            groups=_objects(catalog.groups),
            near_groups=_objects(catalog.near_groups),
            splits=_objects(catalog.splits),
        )
        usable, there = catalog.usable, columns.rows >= 0
        n_failed += int((~usable).sum())
        n_missing += int((usable & ~there).sum())
        parts.append(columns.take(usable & there))
    columns = parts[0]
    if len(parts) > 1:
        columns = _Columns(
            **{name: np.concatenate([getattr(part, name) for part in parts]) for name in _Columns.__slots__}
        )
        columns = columns.take(np.fromiter(_first_tellings(columns), np.int64))
    columns = replace(
        columns, groups=_objects(join_groups(columns.groups.tolist(), columns.near_groups.tolist()))
    )
    name = "+".join(catalog.name for catalog in catalogs)
    if len(columns.rows) == 0:
        raise NotInStoreError(
            f"no image of the catalog {name} has features in the space {space.name} "
            f"({n_missing:,} are missing, {n_failed:,} could not be used); "
            f"run featstore extract on its images with --backbone {space.spec.architecture}"
        )
    return FeatureTable(space, columns, catalog_name=name, n_missing=n_missing, n_failed=n_failed)


def _first_tellings(columns: _Columns) -> Iterator[int]:
    """Yield the rows whose file, content and label no earlier row has together."""
    seen = set()
    entries = zip(
        columns.roots.tolist(),
        columns.paths.tolist(),
        columns.labels.tolist(),
        (row.tobytes() for row in columns.content_hash),
        strict=True,
    )
    for number, (root, path, label, content) in enumerate(entries):
        telling = (os.path.normpath(os.path.join(root, path)), label, content)
        if telling not in seen:
            seen.add(telling)
            yield number


def _objects(values: Sequence[Any]) -> NDArray[np.object_]:
    column = np.empty(len(values), object)
    column[:] = values
    return column


def _texts(values: NDArray[np.object_]) -> NDArray[np.str_]:
    return _frozen(np.array([value or "" for value in values.tolist()], np.str_))


def _frozen(values: NDArray[Any]) -> NDArray[Any]:
    values.flags.writeable = False
    return values
