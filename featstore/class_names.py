"""Comparison of class names that differ by Unicode form, case or white space only."""

import unicodedata
from collections.abc import Iterable

__all__ = ["look_alike_warning", "look_alikes", "matching_name", "normalised_name"]

_SHOWN = 5


def normalised_name(name: str) -> str:
    r"""Return a name in Unicode's NFC, the form that is stored and compared."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def matching_name(name: str, known: Iterable[str]) -> str:
    """Return the known name equal to ``name`` up to its Unicode form; ``name`` itself if there is none."""
    known = known if isinstance(known, set | frozenset | dict) else list(known)
    if name in known or name.isascii():
        return name
    wanted = normalised_name(name)
    return next((one for one in known if normalised_name(one) == wanted), name)


def look_alikes(names: Iterable[str]) -> list[list[str]]:
    """Group the names that differ by Unicode form, case, white space or invisible characters only."""
    groups: dict[str, list[str]] = {}
    for name in sorted(set(names)):
        groups.setdefault(_visible_form(name), []).append(name)
    return [group for group in groups.values() if len(group) > 1]


def look_alike_warning(names: Iterable[str]) -> str | None:
    """Return a warning about classes whose names look alike; None if there are none."""
    groups = [" and ".join(map(repr, group)) for group in look_alikes(names)]
    if not groups:
        return None
    more = f" and {len(groups) - _SHOWN:,} more" if len(groups) > _SHOWN else ""
    return (
        f"some classes differ only by case, white space or Unicode form: {'; '.join(groups[:_SHOWN])}"
        f"{more}; if they are one class, give it one name"
    )


def _visible_form(name: str) -> str:
    """Return the name without what a reader does not see: case, white space, encoding."""
    if name.isascii():
        return "".join(name.lower().split()) or name
    folded = unicodedata.normalize("NFKC", name).casefold()
    left = "".join(
        letter for letter in folded if not letter.isspace() and unicodedata.category(letter) != "Cf"
    )
    return unicodedata.normalize("NFKC", left) or name
