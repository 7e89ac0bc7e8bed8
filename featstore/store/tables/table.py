"""Feature tables: the features, labels and splits of a catalog's images."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featstore.backbones.spec import JoinedSpec
from featstore.errors import NotInStoreError, SplitError, StoreError
from featstore.splits import SPLITS, SplitRule
from featstore.store.segments.sealed_rows import SealedRows
from featstore.store.tables.columns import Columns, checked_index, frozen
from featstore.store.tables.frame import table_frame
from featstore.store.tables.gathering import gathered_features
from featstore.store.tables.image_columns import ImageColumns
from featstore.store.tables.missing import check_views, common_views
from featstore.store.tables.neighbors import Neighbors, nearest_rows
from featstore.store.tables.split_assignment import SplitAssignment

if TYPE_CHECKING:
    from featstore.backbones.spec import BackboneSpec
    from featstore.store.segments.segment import FeatureArray
    from featstore.store.space import Space

__all__ = ["FeatureTable"]


class FeatureTable(ImageColumns):
    """Images that have features in a space, in their catalog's order; made by :meth:`FeatureStore.table`.

    Each row is view 0 of an image; :meth:`with_views` gives a row for each of several views. The features of
    several spaces are concatenated. Nothing is read from the segments before
    ``X`` is accessed, and selecting rows reads no features. All arrays are read-only.

    Attributes
    ----------
    space_name, catalog_name : str
        Several spaces, or catalogs, are joined by ``+``.
    spec : BackboneSpec or JoinedSpec
        The latter of several spaces.
    n_missing : int
        Images of the catalog that have no features in this space; they are not in the table.
    n_failed : int
        Images of the catalog that could not be used; they are not in the table.
    label_separator : str
        Not empty if images may have several labels (:attr:`label_sets`, instead of :attr:`y`).
    target_name : str
        Not empty if images have a number (:attr:`target`, instead of :attr:`y`): its column in the source.
    catalog_digests : mapping of str to str
        SHA-256 of each catalog's images by content, with labels or numbers, groups, given splits and weights:
        a head keeps it, and :meth:`FeatureStore.info` says whether the catalog has changed since.

    Examples
    --------
    >>> import tempfile
    >>> from featstore import FeatureStore, HashKFold, SplitRule, ViewRecipe, extract
    >>> from featstore.images import write_digits
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     source, path = f"{folder}/digits", f"{folder}/digits.fstore"
    ...     n_images = write_digits(source, n_images=10)
    ...     recipe = ViewRecipe(flip=True)
    ...     report = extract(source, store=path, backbone="scattering", n_views=2, views=recipe)
    ...     table = FeatureStore(path).table()
    ...     X, views = table.X, table.with_views(2)
    ...     X.shape, views.X.reshape(len(table), 2, -1).shape
    ((10, 1932), (10, 2, 1932))
    >>> table.y[:3].tolist(), table.select(table.y == "7").y.tolist()
    (['0', '1', '2'], ['7'])
    >>> folds = HashKFold(5).split(X, groups=table.group_keys(SplitRule(by="content")))
    """

    def __init__(
        self,
        spaces: "Sequence[Space]",
        columns: Columns,
        *,
        catalog_name: str,
        n_missing: int = 0,
        n_failed: int = 0,
        assignment: SplitAssignment | None = None,
        label_separator: str = "",
        target_name: str = "",
        catalog_digests: Mapping[str, str] | None = None,
    ) -> None:
        self._spaces = tuple(spaces)
        self._columns = columns
        self._assignment = assignment or SplitAssignment(columns, has_classes=not label_separator)
        self.label_separator = label_separator
        self.target_name = target_name
        self.catalog_digests: Mapping[str, str] = catalog_digests or {}
        self.spec: BackboneSpec | JoinedSpec = (
            spaces[0].spec if len(spaces) == 1 else JoinedSpec(tuple(space.spec for space in spaces))
        )
        self.space_name = "+".join(space.name for space in spaces)
        self.catalog_name = catalog_name
        self.n_missing = n_missing
        self.n_failed = n_failed

    def __repr__(self) -> str:
        labels = f"{len(self.classes)} classes" if len(self.classes) else self.target_name or "no labels"
        rows = "views of images" if self._columns.views.any() else "images"
        return (
            f"<FeatureTable {self.catalog_name} in {self.space_name}: "
            f"{len(self):,} {rows} x {self.feature_dim} {self.dtype.name} features, {labels}>"
        )

    @property
    def feature_dim(self) -> int:
        """Number of features of an image, over all spaces."""
        return sum(self.feature_dims)

    @property
    def feature_dims(self) -> tuple[int, ...]:
        """Number of features of each space, in the order of their columns."""
        return tuple(space.feature_dim for space in self._spaces)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The features' type: as stored; of several spaces, one that holds all of theirs."""
        return np.result_type(*(space.dtype for space in self._spaces))

    @property
    def weights(self) -> str | tuple[str, ...]:
        """Source of the backbone's weights: ``"imagenet"``, ``"closed-form"`` or a file's path.

        Of several spaces, one for each.
        """
        entries = tuple(str(space.provenance.get("weights", "")) for space in self._spaces)
        return entries[0] if len(entries) == 1 else entries

    @property
    def provenance(self) -> dict[str, Any]:
        """What computed the space's first rows: versions, engine and device, as its description has them.

        Of several spaces, such a dict for each, by the space's name.
        """
        entries = {space.name: dict(space.provenance) for space in self._spaces}
        return entries if len(entries) > 1 else entries[self.space_name]

    @property
    def spaces_that_saw_labels(self) -> tuple[str, ...]:
        """Names of the spaces whose network was fine-tuned in this store, on labels of images in it."""
        return tuple(space.name for space in self._spaces if space.saw_labels)

    @property
    def fingerprint(self) -> str:
        """The specification's fingerprint, 64 hexadecimal digits."""
        return self.spec.fingerprint

    @cached_property
    def X(self) -> "FeatureArray":  # noqa: N802
        """The features, float32 or float16 of shape (n, feature_dim).

        A memory map of the segment where the rows are one run of it; otherwise gathered once and kept.
        """
        return frozen(gathered_features(self._spaces, self._columns.rows))

    def sealed_rows(self, index: Any) -> SealedRows:
        """Return features of some rows as an object for other processes, which need no index."""
        return SealedRows.of(self._spaces, self._columns.rows[index])

    def neighbors(self, X: Any, *, k: int = 10) -> Neighbors:
        """Return the rows with the most similar features, by cosine: an exact search.

        The features are read once for 256 queries, in blocks and by all cores, and not held in memory. Of
        joined spaces, the similarity is the mean of their cosines. After :meth:`with_views` each view counts.

        Parameters
        ----------
        X : array_like of shape (n_queries, feature_dim)
            Such as ``table.X[:1]``: a row of the table finds itself first.
        k : int
            Number of rows for each query, at least 1; all rows, if there are fewer.

        Returns
        -------
        Neighbors
            ``rows`` and ``similarity``, the most similar first; 0 to features that are all zero.

        Raises
        ------
        SearchError
            ``X`` has another shape or is not finite, or ``k`` is below 1.
        """
        return nearest_rows(self._spaces, self._columns.rows, X, k=k)

    @cached_property
    def n_views(self) -> int:
        """Number of views, from 0 on, that every image of the table has."""
        return common_views(self._spaces, self._columns.content_hash)

    def with_views(self, n_views: int) -> "FeatureTable":
        """Return the same images with a row for each of their views 0 … ``n_views`` - 1.

        The views of an image are consecutive and share its label, group, path and content hash, so that
        splits and :class:`~featstore.HashKFold` keep them together.

        Parameters
        ----------
        n_views : int
            At least 1.

        Returns
        -------
        FeatureTable
            Of ``n_views`` times as many rows.

        Raises
        ------
        NotInStoreError
            An image lacks some of these views.
        StoreError
            ``n_views`` is below 1, or the table has views already.
        """
        if isinstance(n_views, bool) or not isinstance(n_views, int | np.integer) or n_views < 1:
            raise StoreError(f"n_views must be an integer of at least 1; found {n_views!r}")
        if self._columns.views.any():
            raise StoreError("the table has views already; take those of a table with a row for each image")
        if n_views == 1:
            return self
        repeated = np.repeat(np.arange(len(self)), n_views)
        columns = self._columns.take(repeated)
        views = np.tile(np.arange(n_views, dtype=np.uint16), len(self))
        rows = np.stack([space.lookup(columns.content_hash, views) for space in self._spaces], axis=1)
        for space, found in zip(self._spaces, rows.T, strict=True):
            check_views(space, found.reshape(len(self), n_views) >= 0)
        return self._with(replace(columns, rows=rows, views=views), self._assignment.take(repeated))

    def splits(self, rule: SplitRule | None = None) -> NDArray[np.str_]:
        """Return each row's split.

        Parameters
        ----------
        rule : SplitRule, optional
            80/10/10 by content by default. Splits that the catalog fixes win over it. Selected rows are in
            the splits that they have in the whole table: ``table.select(index).splits(rule)`` equals
            ``table.splits(rule)[index]``.

        Returns
        -------
        ndarray of shape (n,), str
            ``"train"``, ``"validation"`` or ``"test"``.
        """
        return self._assignment.splits(rule or SplitRule())

    def group_keys(self, rule: SplitRule) -> NDArray[np.str_]:
        """Return the key that a rule keeps together, as ``groups`` for :class:`~featstore.HashKFold`.

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
            No image of the whole table has what the rule goes by.
        """
        if rule.by == "content":
            return self.content_hash
        return self._assignment.group_keys(rule)

    def with_splits(self, splits: Sequence[str] | NDArray[np.str_]) -> "FeatureTable":
        """Return the same rows with other given splits; ``""`` leaves a row to the rule.

        They are a whole table of their own: a rule goes by these rows alone.

        Parameters
        ----------
        splits : sequence of n str
            ``"train"``, ``"validation"``, ``"test"`` or ``""``.

        Returns
        -------
        FeatureTable

        Raises
        ------
        SplitError
            One is none of these, or they are not one for each row.
        """
        given = np.asarray(splits, np.str_)
        if given.shape != (len(self),) or not {*given.tolist()} <= {"", *SPLITS}:
            raise SplitError(f"each of the {len(self)} rows has one of {', '.join(SPLITS)}, or an empty text")
        column = np.array([one or None for one in given.tolist()], object)
        return self._with(replace(self._columns, splits=column))

    def without_weights(self) -> "FeatureTable":
        """Return the same rows without weights: :func:`featstore.fit` then counts all images alike."""
        return self._with(replace(self._columns, weights=np.full(len(self), np.nan)), self._assignment)

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
            raise SplitError(f"a split must be one of {', '.join(SPLITS)}; found {name!r}")
        return self.select(self.splits(rule) == name)

    def select(self, index: Any) -> "FeatureTable":
        """Return some of the rows, without reading features; they stay in their splits.

        Parameters
        ----------
        index : array_like of int or of n bool, or slice
            As for NumPy arrays; rows come in the order that it gives.

        Returns
        -------
        FeatureTable
        """
        chosen = checked_index(index, len(self))
        try:
            return self._with(self._columns.take(chosen), self._assignment.take(chosen))
        except IndexError as error:
            raise NotInStoreError(f"the table has {len(self)} rows: {error}") from error

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
            With the columns ``path`` (absolute), ``label``, ``group``, ``split`` and ``content_hash``; of
            :meth:`with_views` also ``view``, and ``weight`` and ``target`` if the catalog has any.

        Raises
        ------
        MissingExtraError
            pandas is not installed.
        """
        return table_frame(
            self._columns,
            content_hash=self.content_hash,
            splits=self.splits(rule),
            features=self.X if features else None,
        )

    def _with(self, columns: Columns, assignment: SplitAssignment | None = None) -> "FeatureTable":
        return FeatureTable(
            self._spaces,
            columns,
            catalog_name=self.catalog_name,
            n_missing=self.n_missing,
            n_failed=self.n_failed,
            assignment=assignment,
            label_separator=self.label_separator,
            target_name=self.target_name,
            catalog_digests=self.catalog_digests,
        )
