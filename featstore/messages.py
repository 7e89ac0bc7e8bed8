"""Texts for messages: numbers with their nouns, short lists, names without control characters."""

from collections.abc import Sequence

__all__ = ["count", "listed", "printable"]


def count(number: int, noun: str) -> str:
    """Return a number with its noun: ``1 image``, ``1,250 images``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def listed(names: Sequence[str], *, most: int = 8) -> str:
    """Return the first few names, and how many more there are."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def printable(value: object) -> str:
    """Return any text, such as a file name, as one line without control characters."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in str(value))
