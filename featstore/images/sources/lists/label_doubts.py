"""Warnings of labels that are probably not class names: several in one cell, or measurements."""

from collections import Counter
from collections.abc import Iterable, Mapping

from featstore.images.sources.records import ImageRecord
from featstore.messages import listed

__all__ = ["label_doubts", "separator_doubts"]

_SEPARATORS = "|;,"
_SHOWN = 3
# Numbers that are classes, such as digits or ages in years, are whole, and each is met again and again.
_MOST_NUMBERS = 50
_FEWEST_IMAGES = 3


def label_doubts(labels: Iterable[str | None] | Mapping[str | None, int]) -> list[str]:
    """Return a warning for each sign that the labels, or numbers of them, are not one class an image."""
    counts: Counter[str] = Counter(labels)  # type: ignore[arg-type]
    del counts[None]
    doubts = []
    if joined := _joined(counts):
        named = listed([*map(repr, joined)], most=_SHOWN)
        looks = "1 label looks" if len(joined) == 1 else f"{len(joined):,} labels look"
        doubts.append(
            f"{looks} like several in one: {named}. Each is treated as a separate class; for images with "
            "several labels, name what stands between them (--label-separator)"
        )
    if _are_measurements(counts):
        named = ", ".join(map(repr, list(counts)[:_SHOWN]))
        doubts.append(
            f"the labels look like measurements: {len(counts):,} different numbers, such as {named}. Each is "
            "treated as a class, and classes have no order; to predict a number, name its column (--target)"
        )
    return doubts


def separator_doubts(records: Iterable[ImageRecord], separator: str) -> list[str]:
    """Return a warning if no record has several labels, neither in one cell nor in several rows."""
    labelled = [(record.path, record.label) for record in records if record.label is not None]
    if any(separator in label for _, label in labelled) or len({path for path, _ in labelled}) < len(
        labelled
    ):
        return []
    shown = ", ".join(sorted({repr(label) for _, label in labelled})[:_SHOWN])
    return [
        f"no image has several labels: none of the labels, such as {shown}, has {separator!r} in it, and no "
        "image has two rows. If something else stands between the labels, name that (--label-separator)"
    ]


def _joined(counts: Counter[str]) -> list[str]:
    """Return the labels that are combinations of others."""
    parts = {label: found for label in counts if len(found := _parts(label)) > 1}
    met = Counter(part for found in parts.values() for part in set(found))
    # "haze primary", "clear primary", "clear water" …: more combinations than words.
    are_combined = len(parts) > len(met)
    return [
        label
        for label, found in parts.items()
        if all(
            part in counts or (met[part] > 1 and (are_combined or not _is_of_words(label))) for part in found
        )
    ]


def _parts(label: str) -> list[str]:
    for separator in _SEPARATORS:
        if separator in label:
            bare = label.strip("[]{}()")
            return [part.strip(" '\"") for part in bare.split(separator) if part.strip(" '\"")]
    return label.split()


def _is_of_words(label: str) -> bool:
    return not any(separator in label for separator in _SEPARATORS)


def _are_measurements(counts: Counter[str]) -> bool:
    try:
        numbers = [float(label) for label in counts]
    except ValueError:
        return False
    if not numbers:
        return False
    if not all(number.is_integer() for number in numbers):
        return True
    return len(numbers) > _MOST_NUMBERS and counts.total() < _FEWEST_IMAGES * len(numbers)
