"""What catalogs say about the rows of a feature table."""

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from featstore.errors import SeveralLabelsError, TargetError
from featstore.label_sets import label_matrix
from featstore.store.tables.columns import Columns, frozen, number_texts, texts

__all__ = ["ImageColumns"]


class ImageColumns:
    """The part of a :class:`featstore.FeatureTable` that comes from catalogs, as read-only arrays."""

    _columns: Columns
    catalog_name: str
    label_separator: str
    target_name: str

    def __len__(self) -> int:
        return len(self._columns)

    @property
    def views(self) -> NDArray[np.uint16]:
        """View number of each row, uint16 of shape (n,): zeros, except after :meth:`with_views`."""
        return frozen(self._columns.views.view())

    @cached_property
    def y(self) -> NDArray[np.str_]:
        """The labels, str of shape (n,); ``""`` where there is none.

        Raises :class:`~featstore.errors.SeveralLabelsError` if images may have several labels, and
        :class:`~featstore.errors.TargetError` if they have numbers.
        """
        if self.target_name:
            raise TargetError(
                f"images of the catalog {self.catalog_name} have a number, {self.target_name}, and this "
                "takes labels. fit (knn, rbf, ridge), evaluate, compare, predict, export, similar, "
                "duplicates and pack take numbers; for the rest, extract a list of labels as another catalog"
            )
        if self.label_separator:
            raise SeveralLabelsError(
                f"images of the catalog {self.catalog_name} may have several labels, and this takes one "
                "label an image. fit (logistic, ridge, svm, rbf), evaluate, compare, report, curve, "
                "suspects, next, predict, serve, export, similar, duplicates and pack take several; for the "
                "rest, extract a list of one label each as another catalog"
            )
        return texts(self._columns.labels)

    @property
    def label_texts(self) -> NDArray[np.str_]:
        """The labels as the catalog has them, several of an image joined, or numbers, str of shape (n,)."""
        if self.target_name:
            return frozen(np.array(number_texts(self._columns.targets), np.str_))
        return texts(self._columns.labels)

    @property
    def target(self) -> NDArray[np.float64]:
        """The number of each image, float64 of shape (n,); NaN where it is not known.

        Raises :class:`~featstore.errors.TargetError` if images have labels.
        """
        if not self.target_name:
            raise TargetError(
                f"images of the catalog {self.catalog_name} have labels and no number to predict: extract "
                "their list with --target COLUMN as another catalog"
            )
        return frozen(self._columns.targets.view())

    @cached_property
    def label_sets(self) -> NDArray[np.bool_]:
        """Which image has which of :attr:`classes`, bool of shape (n, n_classes)."""
        return frozen(self._label_matrix[1])

    @cached_property
    def is_labelled(self) -> NDArray[np.bool_]:
        """Whether the labels, or the number, of each image are known, bool of shape (n,)."""
        if self.target_name:
            return frozen(~np.isnan(self._columns.targets))
        return frozen(self._columns.labels != None)  # noqa: E711

    @cached_property
    def _label_matrix(self) -> tuple[NDArray[np.str_], NDArray[np.bool_]]:
        if self.label_separator:
            return label_matrix(self._columns.labels.tolist(), self.label_separator)
        return self.classes, self.y[:, None] == self.classes

    @cached_property
    def sample_weight(self) -> NDArray[np.float64] | None:
        """How much each image counts in a fit, float64 of shape (n,), above 0; None if nothing is said.

        1 for images of joined catalogs that say nothing.
        """
        weights = self._columns.weights
        return None if np.isnan(weights).all() else frozen(np.where(np.isnan(weights), 1.0, weights))

    @cached_property
    def classes(self) -> NDArray[np.str_]:
        """The labels that occur, sorted, str of shape (n_classes,)."""
        if self.label_separator:
            return frozen(self._label_matrix[0])
        return texts(np.array(sorted({label for label in self._columns.labels if label}), object))

    @property
    def has_labels(self) -> bool:
        """Whether there are images and every one has a label."""
        return len(self) > 0 and all(self._columns.labels)

    @cached_property
    def paths(self) -> NDArray[np.str_]:
        """The images' absolute paths, str of shape (n,)."""
        return texts(np.array(self._columns.file_paths(slice(None)), object))

    @property
    def relative_paths(self) -> list[str]:
        """The images' paths as the catalog has them."""
        return list(self._columns.paths.tolist())

    @cached_property
    def content_hash(self) -> NDArray[np.str_]:
        """The content hashes as 64 hexadecimal digits, ``<U64`` of shape (n,)."""
        return frozen(np.array([row.tobytes().hex() for row in self._columns.content_hash], "<U64"))

    @property
    def content_hash_bytes(self) -> NDArray[np.uint8]:
        """The content hashes, uint8 of shape (n, 32)."""
        return frozen(self._columns.content_hash.view())

    @cached_property
    def groups(self) -> NDArray[np.str_]:
        """The groups, str of shape (n,); ``""`` where there is none.

        Near-duplicates that :meth:`FeatureStore.write_near_groups` has noted share one.
        """
        return texts(self._columns.groups)

    @cached_property
    def given_splits(self) -> NDArray[np.str_]:
        """The splits that the catalog fixes, str of shape (n,); ``""`` where the rule decides."""
        return texts(self._columns.splits)
