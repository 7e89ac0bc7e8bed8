"""Column names of tables of images: ours, and those of other tools."""

from collections.abc import Sequence

__all__ = ["COLUMNS", "PATH_WORDS", "find_columns"]

COLUMNS = ("path", "label", "group", "split")

# What other tools call them: Keras' flow_from_dataframe, exports of labelling programs.
PATH_WORDS = (
    *("path", "filename", "file", "filepath", "file_name", "file_path"),
    *("image", "image_path", "img_path", "image_name"),
)
_LABEL_WORDS = ("label", "class", "category", "class_name")
_WORDS = {"path": PATH_WORDS, "label": _LABEL_WORDS, "group": ("group",), "split": ("split",)}


def find_columns(header: Sequence[str]) -> dict[str, int]:
    """Return the place of each of our columns in a header; raise ValueError if two may be the same one."""
    names = [name.strip().lower() for name in header]
    places = {}
    for column, words in _WORDS.items():
        found = [word for word in words if word in names]
        if column in found:
            found = [column]
        if len(found) > 1:
            raise ValueError(
                f"{' and '.join(map(repr, found))} may each be the column {column!r}; rename one of them so"
            )
        if found and names.count(found[0]) > 1:
            raise ValueError(f"the column {found[0]!r} is named more than once")
        if found:
            places[column] = names.index(found[0])
    return places
