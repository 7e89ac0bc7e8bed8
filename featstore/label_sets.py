"""Labels of images that have several: one text, joined by a separator."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["joined_labels", "label_matrix", "split_labels"]


def split_labels(text: str, separator: str) -> list[str]:
    """Return the labels in a text, sorted; none of a text that is the separator alone."""
    return sorted({part.strip() for part in text.split(separator)} - {""})


def joined_labels(labels: Iterable[str], separator: str) -> str:
    """Return labels as one text; of an image that is known to have none, the separator alone."""
    return separator.join(sorted({*labels})) or separator


def label_matrix(texts: Iterable[str | None], separator: str) -> "tuple[NDArray[np.str_], NDArray[np.bool_]]":
    """Return the classes, sorted, and which image has which, (n, n_classes)."""
    # Sources are listed without NumPy.
    import numpy as np

    sets = [None if text is None else split_labels(text, separator) for text in texts]
    classes = sorted({label for labels in sets if labels for label in labels})
    places = {label: number for number, label in enumerate(classes)}
    matrix = np.zeros((len(sets), len(classes)), np.bool_)
    for row, labels in enumerate(sets):
        matrix[row, [places[label] for label in labels or ()]] = True
    return np.array(classes, np.str_), matrix
