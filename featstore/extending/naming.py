"""Names of the classes of an extended head."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featstore.class_names import matching_name
from featstore.errors import HeadError
from featstore.messages import listed

__all__ = ["Naming", "name_classes"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Naming:
    """The classes of an extended head."""

    classes: NDArray[np.str_]  # (n_classes,): sorted
    old: NDArray[np.intp]  # (n_old,): number in classes of each old class
    new: NDArray[np.intp]  # (n_new,): number in classes of each new label
    labels: dict[str, str]  # name of the class of each new label
    same: dict[str, str]  # labels that are old classes, and which
    twins: dict[str, str]  # labels kept apart from an old class of the same name, and their new names


def name_classes(
    old: Sequence[str], labels: Sequence[str], *, same: Mapping[str, str], catalog: str
) -> Naming:
    """Name the classes of an extended head."""
    # A label in `same` is the given old class. Any other label that is also an old class gets the catalog's
    # name in brackets: "daisy (flowers)".
    same = {matching_name(label, labels): matching_name(joined, old) for label, joined in same.items()}
    for label, joined in same.items():
        if label not in labels:
            raise HeadError(f"no new image has the label {label!r}; the labels are {listed(labels)}")
        if joined not in old:
            close = [name for name in old if joined.lower() in name.lower()]
            raise HeadError(
                f"the old head has no class {joined!r}" + (f"; it has {listed(close)}" if close else "")
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
