"""Search for exact and near-duplicate images in a table."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featstore.duplicates.likeness import fit_likeness
from featstore.duplicates.search import ClosePairs, close_pairs
from featstore.errors import DuplicatesError
from featstore.notebook_table import html_table
from featstore.splits import SplitRule

if TYPE_CHECKING:
    from featstore.store.tables.table import FeatureTable

__all__ = [
    "THRESHOLD",
    "DuplicateGroup",
    "DuplicateImage",
    "DuplicatePair",
    "Duplicates",
    "checked_threshold",
    "find_duplicates",
]

# On 1,250 photos of flowers with MobileNetV2, all 7 pairs above it are the same scene, and of 1,250 planted
# copies (re-encoded, smaller, cropped, mirrored, brighter) 97% lie above it.
THRESHOLD = 0.75


@dataclass(frozen=True, kw_only=True, slots=True)
class DuplicateImage:
    """An image in a group of duplicates.

    Parameters
    ----------
    row : int
        Row in the table.
    path : str
        Absolute path.
    label : str
        Empty if the image has none.
    split : {"train", "validation", "test"}
    content_hash : str
        SHA-256 of the file's content, 64 hexadecimal digits; equal files have equal hashes.
    similarity : float
        Similarity to the most similar image of the group, in (0, 1]; 1 for identical files.

    Examples
    --------
    >>> import featstore
    >>> [group] = featstore.find_duplicates(table).groups
    >>> [(image.row, image.label) for image in group.images]
    [(0, 'daisy'), (89, 'daisy')]
    """

    row: int
    path: str
    label: str
    split: str
    content_hash: str
    similarity: float


@dataclass(frozen=True, kw_only=True, slots=True)
class DuplicatePair:
    """Two nearly identical images with different content hashes.

    Parameters
    ----------
    similarity : float
        In (0, 1].
    rows : tuple of int
        Rows in the table; for several identical files, the first.
    paths : tuple of str
        Absolute paths.

    Examples
    --------
    >>> import featstore
    >>> pair = featstore.find_duplicates(table, threshold=0.1).pairs[0]
    >>> len(pair.rows), 0.1 <= pair.similarity <= 1
    (2, True)
    """

    similarity: float
    rows: tuple[int, int]
    paths: tuple[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class DuplicateGroup:
    """Images connected by duplicate pairs: each is similar to another one, though not to all.

    Parameters
    ----------
    images : tuple of DuplicateImage
        In the table's order; at least two.
    similarity : float
        Similarity of the most similar pair, in (0, 1].

    Examples
    --------
    >>> import featstore
    >>> [group] = featstore.find_duplicates(table).groups
    >>> group.is_identical, group.has_label_conflict, round(group.similarity, 3)
    (True, False, 1.0)
    """

    images: tuple[DuplicateImage, ...]
    similarity: float

    @property
    def labels(self) -> tuple[str, ...]:
        """Distinct labels, sorted."""
        return tuple(sorted({image.label for image in self.images} - {""}))

    @property
    def splits(self) -> tuple[str, ...]:
        """Distinct splits, sorted."""
        return tuple(sorted({image.split for image in self.images}))

    @property
    def has_label_conflict(self) -> bool:
        """Whether the images have different labels."""
        return len(self.labels) > 1

    @property
    def straddles_splits(self) -> bool:
        """Whether the images lie in different splits."""
        return len(self.splits) > 1

    @property
    def is_identical(self) -> bool:
        """Whether all files are identical."""
        return len({image.content_hash for image in self.images}) == 1

    def to_dict(self) -> dict[str, Any]:
        """Return the group as JSON values; the keys are stable."""
        return {
            "similarity": self.similarity,
            "identical": self.is_identical,
            "label_conflict": self.has_label_conflict,
            "straddles_splits": self.straddles_splits,
            "labels": list(self.labels),
            "splits": list(self.splits),
            "images": [asdict(image) for image in self.images],
        }


@dataclass(frozen=True, kw_only=True)
class Duplicates:
    """Result of :func:`find_duplicates`.

    Parameters
    ----------
    threshold : float
        Smallest similarity of a pair.
    n_images : int
        Number of images compared.
    n_copies : int
        Number of images identical to an earlier one.
    n_pairs : int
        Number of pairs of different contents at or above the threshold, listed or not.
    pairs : tuple of DuplicatePair
        The most similar pairs, in decreasing similarity.
    groups : tuple of DuplicateGroup
        All groups, whether their pairs are listed or not: first those with conflicting labels, then those
        that straddle splits, then the others; each in decreasing similarity.

    Examples
    --------
    >>> import featstore
    >>> found = featstore.find_duplicates(table)
    >>> found.threshold, found.n_copies, len(found.groups)
    (0.75, 1, 1)
    """

    threshold: float
    n_images: int
    n_copies: int
    n_pairs: int
    pairs: tuple[DuplicatePair, ...]
    groups: tuple[DuplicateGroup, ...]

    @property
    def n_pairs_cut(self) -> int:
        """Number of pairs that are not listed; their images are still in the groups."""
        return self.n_pairs - len(self.pairs)

    @property
    def content_groups(self) -> tuple[tuple[str, ...], ...]:
        """Content hashes of each group with several, as :meth:`FeatureStore.write_near_groups` takes them."""
        found = (tuple(sorted({image.content_hash for image in group.images})) for group in self.groups)
        return tuple(contents for contents in found if len(contents) > 1)

    def _repr_html_(self) -> str:
        return html_table(
            f"{len(self.groups):,} groups of duplicates among {self.n_images:,} images",
            ("group", "label", "split", "image", "similarity"),
            [
                (number, image.label, image.split, image.path, image.similarity)
                for number, group in enumerate(self.groups, start=1)
                for image in group.images
            ],
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the result as JSON values; the keys are stable."""
        return {
            "threshold": self.threshold,
            "n_images": self.n_images,
            "n_copies": self.n_copies,
            "n_pairs": self.n_pairs,
            "n_pairs_cut": self.n_pairs_cut,
            "pairs": [
                {"similarity": pair.similarity, "rows": list(pair.rows), "paths": list(pair.paths)}
                for pair in self.pairs
            ],
            "groups": [group.to_dict() for group in self.groups],
        }


def find_duplicates(
    table: "FeatureTable",
    *,
    threshold: float = THRESHOLD,
    rule: SplitRule | None = None,
    max_pairs: int = 10_000,
    progress: Callable[[int, int], None] | None = None,
) -> Duplicates:
    """Find duplicate images: identical files, and files with nearly identical features.

    All pairs of images are compared. The similarity is the cosine of their features after subtracting the
    table's mean and damping the directions of largest variance (:mod:`featstore.duplicates.likeness`): 1 for
    identical images, around 0 for unrelated ones. It depends on what the backbone sees: MobileNetV2 does not
    distinguish a photo from its mirror image, ``scattering`` does. The method fails if nearly all images of
    the table are copies of one image, and with fewer than about 64 features, where any two images may be
    similar by chance.

    Parameters
    ----------
    table : FeatureTable
        Labels are not needed.
    threshold : float
        Smallest similarity of a pair, in (0, 1]. A higher threshold finds fewer, more certain pairs.
    rule : SplitRule, optional
        Rule that assigns the splits, to report groups that straddle them. Default: ``SplitRule()``.
    max_pairs : int
        Maximum number of pairs to list, the most similar ones; groups are always complete.
    progress : callable, optional
        Called as ``progress(done, total)`` with numbers of pairs.

    Returns
    -------
    Duplicates

    Raises
    ------
    DuplicatesError
        ``threshold`` is out of range, ``max_pairs`` is negative, or features are not finite.

    Examples
    --------
    >>> import featstore
    >>> found = featstore.find_duplicates(table)
    >>> found.n_images, found.n_copies, len(found.groups)
    (90, 1, 1)
    >>> [image.label for image in found.groups[0].images]
    ['daisy', 'daisy']
    """
    checked_threshold(threshold)
    if max_pairs < 0:
        raise DuplicatesError(f"max_pairs must be at least 0; found {max_pairs}")
    hashes = np.ascontiguousarray(table.content_hash_bytes)
    first_rows, content = _distinct(hashes)
    n_images, n_contents = len(hashes), len(first_rows)
    X = table.X
    pairs = close_pairs(
        X,
        first_rows,
        fit_likeness(X, hashes),
        threshold=threshold,
        max_pairs=max_pairs,
        progress=progress,
    )
    paths = np.asarray(table.paths)
    return Duplicates(
        threshold=float(threshold),
        n_images=n_images,
        n_copies=n_images - n_contents,
        n_pairs=pairs.n_pairs,
        pairs=tuple(
            DuplicatePair(
                similarity=min(1.0, float(similarity)),
                rows=(int(first), int(second)),
                paths=(str(paths[first]), str(paths[second])),
            )
            for first, second, similarity in zip(
                first_rows[pairs.first], first_rows[pairs.second], pairs.similarity, strict=True
            )
        ),
        groups=_groups(table, pairs, content, paths, rule or SplitRule()),
    )


def checked_threshold(threshold: float) -> float:
    """Return the threshold; raise DuplicatesError if it is not in (0, 1]."""
    if not 0 < threshold <= 1:
        raise DuplicatesError(f"the threshold must be a similarity above 0 and at most 1; found {threshold}")
    return threshold


def _distinct(hashes: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the first row of each content, ascending, and each row's content number."""
    _, first, inverse = np.unique(hashes.view("V32").ravel(), return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return first[order], rank[inverse]


def _groups(
    table: "FeatureTable",
    pairs: ClosePairs,
    content: NDArray[np.int64],
    paths: NDArray[np.str_],
    rule: SplitRule,
) -> tuple[DuplicateGroup, ...]:
    component = pairs.components[content]
    sizes = np.bincount(component, minlength=1)
    rows = np.flatnonzero(sizes[component] > 1)
    rows = rows[np.argsort(component[rows], kind="stable")]
    similarity = np.where(np.bincount(content)[content] > 1, 1.0, np.minimum(pairs.best[content], 1.0))
    labels, splits, hashes = np.asarray(table.label_texts), table.splits(rule), np.asarray(table.content_hash)
    groups = []
    for members in np.split(rows, np.flatnonzero(np.diff(component[rows])) + 1) if len(rows) else []:
        images = tuple(
            DuplicateImage(
                row=int(row),
                path=str(paths[row]),
                label=str(labels[row]),
                split=str(splits[row]),
                content_hash=str(hashes[row]),
                similarity=float(similarity[row]),
            )
            for row in members
        )
        groups.append(DuplicateGroup(images=images, similarity=max(image.similarity for image in images)))
    return tuple(
        sorted(
            groups,
            key=lambda group: (
                not group.has_label_conflict,
                not group.straddles_splits,
                -group.similarity,
                group.images[0].row,
            ),
        )
    )
