"""Column names of tables of images: ours, and those of other tools."""

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Self

from featstore.class_names import normalised_name
from featstore.errors import SourceError
from featstore.io.urls import is_url

__all__ = [
    "DEFAULT_SEPARATOR",
    "IMAGE_WORDS",
    "LABEL_WORDS",
    "MARKED",
    "PATH_WORDS",
    "ListOptions",
    "find_columns",
]

MARKED = "label "
"""What begins the place of a column that says of each image whether it has this label."""

DEFAULT_SEPARATOR = "|"

# What other tools call them: Keras' flow_from_dataframe, exports of labelling programs.
PATH_WORDS = (
    *("path", "filename", "file", "filepath", "file_name", "file_path"),
    *("image", "image_path", "img_path", "image_name"),
)
# Columns of the images themselves.
IMAGE_WORDS = ("image", "img", "picture", "photo", "jpg", "jpeg", "png")
LABEL_WORDS = ("label", "class", "category", "class_name")
_WORDS = {"path": PATH_WORDS, "label": LABEL_WORDS, "group": ("group",), "split": ("split",)}


@dataclass(frozen=True, kw_only=True)
class ListOptions:
    """How the columns of a list lead to images, where their names do not say so."""

    path_column: str | None = None
    label_column: str | None = None
    image_root: str | None = None
    suffix: str | None = None  # what paths lack, such as .jpg
    weight_column: str | None = None
    label_columns: tuple[str, ...] = ()  # of 0 and 1, one for each label
    label_separator: str | None = None
    target: str | None = None  # the column of the number that is to be predicted

    @property
    def separator(self) -> str:
        """What stands between the labels of an image."""
        return self.label_separator or DEFAULT_SEPARATOR

    @classmethod
    def checked(
        cls,
        path_column: str | None,
        label_column: str | None,
        image_root: str | os.PathLike[str] | None,
        suffix: str | None,
        weight_column: str | None = None,
        label_columns: Sequence[str] = (),
        label_separator: str | None = None,
        target: str | None = None,
    ) -> Self:
        """Return options that can be used; raise SourceError otherwise."""
        root = None if image_root is None else os.fsdecode(image_root)
        if root is not None and not is_url(root) and not os.path.isdir(root := os.path.abspath(root)):
            raise SourceError(
                f"image_root must be the folder that the list's paths start from; found {root!r}"
            )
        if suffix is not None and "." not in suffix:
            raise SourceError(f"suffix is what the list's paths lack, such as '.jpg'; found {suffix!r}")
        if label_separator is not None and not (label_separator and label_separator.isprintable()):
            raise SourceError(
                f"label_separator is what stands between labels, such as '|'; found {label_separator!r}"
            )
        if target is not None and (label_column is not None or label_columns or label_separator is not None):
            raise SourceError(
                "target is a column of numbers, and a catalog has either these or labels: leave out the "
                "options on labels, or extract twice under two names of catalogs; features are computed once"
            )
        if isinstance(label_columns, str):
            label_columns = [label_columns]
        names = tuple(normalised_name(name.strip()) for name in label_columns)
        if names and label_column is not None:
            raise SourceError(
                "label_column is one column of labels, label_columns one for each: give one of them"
            )
        separator = label_separator or DEFAULT_SEPARATOR
        if within := [name for name in names if separator in name]:
            raise SourceError(f"the label {within[0]!r} holds {separator!r}: choose another label_separator")
        return cls(
            path_column=path_column,
            label_column=label_column,
            image_root=root,
            suffix=suffix,
            weight_column=weight_column,
            label_columns=names,
            label_separator=label_separator,
            target=target,
        )

    def given(self) -> list[str]:
        """Return the names of the options that are given."""
        return [name for name, value in asdict(self).items() if value not in (None, ())]

    def completed(self, path: str) -> str:
        """Return a path of the list with the suffix that it lacks."""
        if self.suffix is None or path.lower().endswith(self.suffix.lower()):
            return path
        return path.rstrip() + self.suffix


def find_columns(header: Sequence[str], options: ListOptions) -> dict[str, int]:
    """Return the place of each of our columns in a header; raise ValueError if that is not clear."""
    names = [name.strip().lower() for name in header]
    places = {}
    given = {"path": options.path_column, "label": options.label_column}
    given |= {"weight": options.weight_column, "target": options.target}
    for column, words in (_WORDS | {"weight": (), "target": ()}).items():
        if column == "label" and options.target is not None:
            continue
        if not words and given[column] is None:
            continue
        found = [word for word in words if word in names]
        if column in found:
            found = [column]
        if (word := given.get(column)) is not None:
            found = [word.strip().lower()]
            if found[0] not in names:
                raise ValueError(f"there is no column {word!r}; found {', '.join(map(repr, header[:8]))}")
        if len(found) > 1:
            hint = f", or choose one with {column}_column" if column in given else ""
            raise ValueError(
                f"{' and '.join(map(repr, found))} may each be the column {column!r}; rename one of them so"
                f"{hint}"
            )
        if found and names.count(found[0]) > 1:
            raise ValueError(f"the column {found[0]!r} is named more than once")
        if found:
            places[column] = names.index(found[0])
    if options.label_columns:
        places.pop("label", None)
        for name in options.label_columns:
            if names.count(name.lower()) != 1:
                raise ValueError(
                    f"there is no column {name!r} of its own; found {', '.join(map(repr, header[:8]))}"
                )
            places[f"{MARKED}{name}"] = names.index(name.lower())
    for one, other in combinations(places, 2):
        if places[one] == places[other]:
            raise ValueError(f"the column {names[places[one]]!r} cannot be both {one} and {other}")
    return places
