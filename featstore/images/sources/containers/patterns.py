"""Patterns that stand for the paths of several files: those of shells, and WebDataset's braces."""

import glob
import itertools
import re
from collections.abc import Iterator

from featstore.errors import SourceError
from featstore.images.sources.containers.kinds import kind_of

__all__ = ["matching_containers"]

_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d{1,12})\.\.(\d{1,12})")
_MAX_PATHS = 10**6


def matching_containers(pattern: str) -> list[str]:
    """Return the containers that a pattern such as ``train-*-of-*`` or ``{000..009}.tar`` matches, sorted.

    Raises SourceError if some of those that braces name are missing.
    """
    lacking, found = [], set()
    paths = [*itertools.islice(_expanded(pattern), _MAX_PATHS + 1)]
    if len(paths) > _MAX_PATHS:
        raise SourceError(f"the braces of {pattern!r} name more than {_MAX_PATHS:,} files; use * for numbers")
    for path in paths:
        matches = [match for match in glob.glob(path) if kind_of(match) is not None]
        found.update(matches)
        if not matches:
            lacking.append(path)
    if found and lacking:
        raise SourceError(
            f"{len(lacking):,} of the {len(paths):,} files that {pattern!r} names are not there, first "
            f"{lacking[0]!r}; name those that are there, or use * for numbers"
        )
    return sorted(found)


def _expanded(pattern: str) -> Iterator[str]:
    """Yield the patterns without braces: ``{08..10}`` keeps the width of its numbers, ``{a,b}`` is either."""
    match = _BRACES.search(pattern)
    if match is None:
        yield pattern
        return
    before, after = pattern[: match.start()], pattern[match.end() :]
    if numbers := _RANGE.fullmatch(match[1]):
        first, last = numbers.groups()
        width = len(first) if len(first) == len(last) or first.startswith("0") else 1
        words: Iterator[str] = (f"{number:0{width}d}" for number in range(int(first), int(last) + 1))
    elif "," in match[1]:
        words = iter(match[1].split(","))
    else:
        # As a shell has it, these stand for themselves.
        yield from (before + match[0] + rest for rest in _expanded(after))
        return
    for word in words:
        for rest in _expanded(after):
            yield before + word + rest
