"""What the classes of an extended head are called, and which of them an old and a new class share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featstore.class_names import matching_name
from featstore.errors import HeadError

__all__ = ["Naming", "name_classes"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Naming:
    """The classes of an extended head.

    Parameters
    ----------
    classes : ndarray of shape (n_classes,), str
        Sorted.
    old : ndarray of shape (n_old,), int
        For each class of the old head its number among ``classes``.
    new : ndarray of shape (n_new,), int
        The same for each label of the new images.
    labels : dict of str to str
        For each of these labels what its class is called.
    same : dict of str to str
        The labels that are old classes, and which.
    twins : dict of str to str
        Labels that an old class has too and that stay apart from it, and what they are called.
    """

    classes: NDArray[np.str_]
    old: NDArray[np.intp]
    new: NDArray[np.intp]
    labels: dict[str, str]
    same: dict[str, str]
    twins: dict[str, str]


def name_classes(
    old: Sequence[str], labels: Sequence[str], *, same: Mapping[str, str], catalog: str
) -> Naming:
    """Name the classes of an extended head.

    A label that ``same`` says is an old class is that class. Another that an old class has too gets the
    catalog's name in brackets: ``"daisy (flowers)"``.

    Parameters
    ----------
    old : sequence of str
        The old head's classes.
    labels : sequence of str
        The new images', all different.
    same : mapping of str to str
        New labels and the old classes that they are.
    catalog : str

    Raises
    ------
    HeadError
        ``same`` names a label or a class that there is not.
    """
    same = {matching_name(label, labels): matching_name(joined, old) for label, joined in same.items()}
    for label, joined in same.items():
        if label not in labels:
            raise HeadError(f"no new image is labelled {label!r}; the labels are {_listed(labels)}")
        if joined not in old:
            close = [name for name in old if joined.lower() in name.lower()]
            raise HeadError(
                f"the old head has no class {joined!r}" + (f"; it has {_listed(close)}" if close else "")
            )
    taken = {*old, *(label for label in labels if label not in same)}
    called, twins = {}, {}
    for label in labels:
        called[label] = same.get(label, label)
        if matching_name(label, old) in old and label not in same:
            called[label] = twins[label] = _free(f"{label} ({catalog}", taken)
            taken.add(called[label])
    classes = np.unique(np.array([*old, *called.values()], np.str_))
    return Naming(
        classes=classes,
        old=np.searchsorted(classes, np.array(old, np.str_)),
        new=np.searchsorted(classes, np.array([called[label] for label in labels], np.str_)),
        labels=called,
        same=dict(same),
        twins=twins,
    )


def _free(name: str, taken: set[str]) -> str:
    number, found = 1, f"{name})"
    while found in taken:
        number += 1
        found = f"{name} {number})"
    return found


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5:,} more" if len(names) > 5 else "")
