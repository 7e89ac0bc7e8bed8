"""When two names of a class are one: Unicode forms, case and blanks."""

import unicodedata
from collections.abc import Iterable

__all__ = ["look_alikes", "look_alikes_told", "matching_name", "normalised_name"]

_SHOWN = 5


def normalised_name(name: str) -> str:
    r"""Return a name in the form that is stored and compared, Unicode's NFC.

    Examples
    --------
    >>> len("u\u0308"), len(normalised_name("u\u0308"))
    (2, 1)
    """
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def matching_name(name: str, known: Iterable[str]) -> str:
    """Return the known name that a name means: itself or, where it is none of them, another form of it.

    Parameters
    ----------
    name : str
    known : iterable of str

    Returns
    -------
    str
        ``name`` as it was given where no known name is the same.
    """
    known = known if isinstance(known, set | frozenset | dict) else list(known)
    if name in known or name.isascii():
        return name
    wanted = normalised_name(name)
    return next((one for one in known if normalised_name(one) == wanted), name)


def look_alikes(names: Iterable[str]) -> list[list[str]]:
    """Return the names that differ by Unicode form, case, blanks or invisible characters only, in groups.

    Examples
    --------
    >>> look_alikes(["Roses", "daisy", "roses", "red rose", "red  rose"])
    [['Roses', 'roses'], ['red  rose', 'red rose']]
    """
    groups: dict[str, list[str]] = {}
    for name in sorted(set(names)):
        groups.setdefault(_seen_as(name), []).append(name)
    return [group for group in groups.values() if len(group) > 1]


def look_alikes_told(names: Iterable[str]) -> str | None:
    """Return a sentence on classes whose names look alike; None where there are none."""
    groups = [" and ".join(map(repr, group)) for group in look_alikes(names)]
    if not groups:
        return None
    more = f" and {len(groups) - _SHOWN:,} more" if len(groups) > _SHOWN else ""
    return (
        f"some classes differ only by case, blanks or how letters are encoded: {'; '.join(groups[:_SHOWN])}"
        f"{more}; where they are one class, give it one name"
    )


def _seen_as(name: str) -> str:
    """Return what is left of a name for a reader in a hurry."""
    if name.isascii():
        return "".join(name.lower().split()) or name
    folded = unicodedata.normalize("NFKC", name).casefold()
    left = "".join(
        letter for letter in folded if not letter.isspace() and unicodedata.category(letter) != "Cf"
    )
    return unicodedata.normalize("NFKC", left) or name
