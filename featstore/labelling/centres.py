"""The most typical images of each class."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from featstore.errors import SearchError
from featstore.labelling.directions import direction_blocks
from featstore.store.tables.neighbors import unit_vectors

if TYPE_CHECKING:
    from featstore.store import FeatureTable

__all__ = ["ClassCentre", "TypicalImage", "find_centres"]


@dataclass(frozen=True, kw_only=True, slots=True)
class TypicalImage:
    """An image near the centre of its class.

    Parameters
    ----------
    row : int
        Row in the table.
    path : str
        Absolute path.
    similarity : float
        Cosine of its features and the class's centre, in [-1, 1].
    content_hash : str
        SHA-256 of the file's content, 64 hexadecimal digits.

    Examples
    --------
    >>> import featstore
    >>> featstore.find_centres(table, top=1)[0].images[0].path
    '/data/flowers/daisy/51.jpg'
    """

    row: int
    path: str
    similarity: float
    content_hash: str


@dataclass(frozen=True, kw_only=True)
class ClassCentre:
    """The most typical images of one class.

    Parameters
    ----------
    label : str
    n_images : int
        Number of images of the class.
    images : tuple of TypicalImage
        The most typical first; of copies, the first.

    Examples
    --------
    >>> import featstore
    >>> [(one.label, one.n_images) for one in featstore.find_centres(table)]
    [('daisy', 31), ('roses', 30), ('tulips', 29)]
    """

    label: str
    n_images: int
    images: tuple[TypicalImage, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values; the keys are stable."""
        return {**asdict(self), "images": [asdict(image) for image in self.images]}


def find_centres(
    table: "FeatureTable",
    *,
    top: int = 5,
    classes: Sequence[str] | None = None,
    progress: Callable[[int, int], Any] | None = None,
) -> list[ClassCentre]:
    """Find the most typical images of each class: those nearest to its centre.

    The centre is the mean of the class's features, each image's scaled to length 1; images are ranked by
    their cosine with it. Of joined spaces each counts the same. The features are read twice, in blocks.

    Parameters
    ----------
    table : FeatureTable
        Images without a label are left out. With views, each is a separate row.
    top : int
        Number of images for each class, at least 1.
    classes : sequence of str, optional
        Classes to list, in this order; by default all, sorted.
    progress : callable, optional
        Called as ``progress(done, total)`` with numbers of rows read, twice those of the images.

    Returns
    -------
    list of ClassCentre

    Raises
    ------
    SearchError
        ``top`` is below 1, no image has a label, or a class has no images.

    Examples
    --------
    >>> import featstore
    >>> daisies, *_ = featstore.find_centres(table, top=2)
    >>> daisies.label, [round(image.similarity, 2) for image in daisies.images]
    ('daisy', [0.77, 0.76])
    """
    if top < 1:
        raise SearchError(f"top must be at least 1; found {top}")
    wanted = table.classes.tolist() if classes is None else list(classes)
    if not len(table.classes):
        raise SearchError(f"no image of the catalog {table.catalog_name} has a label; centres are of classes")
    if lacking := [label for label in wanted if label not in set(table.classes.tolist())]:
        raise SearchError(f"the catalog {table.catalog_name} has no images of {', '.join(lacking)}")
    numbers = {label: number for number, label in enumerate(wanted)}
    rows = np.flatnonzero(np.isin(table.y, wanted))
    y = np.array([numbers[label] for label in table.y[rows].tolist()], np.int64)
    sums = np.zeros((len(wanted), table.feature_dim))
    for block, part in direction_blocks(table, rows):
        for number in np.unique(y[part]).tolist():
            sums[number] += block[y[part] == number].sum(axis=0, dtype=np.float64)
        if progress is not None:
            progress(part.stop, 2 * len(rows))
    centres, cosines = unit_vectors(sums), np.empty(len(rows), np.float32)
    for block, part in direction_blocks(table, rows):
        cosines[part] = np.vecdot(block, centres[y[part]])
        if progress is not None:
            progress(len(rows) + part.stop, 2 * len(rows))
    paths, hashes = table.paths, table.content_hash
    found = []
    for number, label in enumerate(wanted):
        own = np.flatnonzero(y == number)
        own = own[np.argsort(-cosines[own], kind="stable")]
        _, first = np.unique(hashes[rows[own]], return_index=True)
        images = [
            TypicalImage(
                row=int(rows[at]),
                path=str(paths[rows[at]]),
                similarity=float(np.clip(cosines[at], -1, 1)),
                content_hash=str(hashes[rows[at]]),
            )
            for at in own[np.sort(first)[:top]].tolist()
        ]
        found.append(ClassCentre(label=label, n_images=len(own), images=tuple(images)))
    return found
