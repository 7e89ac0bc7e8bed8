"""Groups of near-duplicates: stable names, and their union with the user's groups."""

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from featstore.errors import StoreError
from featstore.store.segments.keys import HASH_BYTES

if TYPE_CHECKING:
    from featstore.store.catalogs.catalog import Catalog

__all__ = ["join_groups", "name_near_groups", "renamed_near_groups"]

_NAME_DIGITS = 16


def join_groups(groups: Sequence[str | None], near_groups: Sequence[str | None]) -> list[str | None]:
    """Merge the user's groups with those of near-duplicates, transitively."""
    # A merged group has the alphabetically first of the user's names in it, else the near-duplicates'
    # name.
    if not any(near_groups):
        return list(groups)
    # False sorts before True: the smallest of a component is one of the user's names, where it has one.
    parents: dict[tuple[bool, str], tuple[bool, str]] = {}

    def root(name: tuple[bool, str]) -> tuple[bool, str]:
        while (parent := parents.get(name, name)) != name:
            parents[name] = parents.get(parent, parent)
            name = parent
        return name

    for group, near in zip(groups, near_groups, strict=True):
        if group and near:
            low, high = sorted((root((False, group)), root((True, near))))
            parents[high] = low
    return [
        root((False, group))[1] if group else root((True, near))[1] if near else None
        for group, near in zip(groups, near_groups, strict=True)
    ]


def name_near_groups(
    content_groups: Iterable[Sequence[str]], catalogs: Iterable["Catalog"]
) -> dict[bytes, str]:
    """Name groups so that an existing one keeps its name, and with it its split."""
    members = sorted((_checked(group) for group in content_groups), key=lambda group: (-len(group), group))
    before: dict[bytes, str] = {}
    for catalog in catalogs:
        before |= catalog.near_group_by_content()
    named: dict[bytes, str] = {}
    taken: set[str] = set()
    for group in members:
        name = _free_name(group, before, taken)
        taken.add(name)
        for content in group:
            if content in named:
                raise StoreError(f"the content {content.hex()} is in two groups; a group must hold both")
            named[content] = name
    return named


def renamed_near_groups(near_groups: Sequence[str | None], contents: Collection[bytes]) -> list[str | None]:
    """Return the groups of images, with other names for those that are named after some contents."""
    named = {f"near-{content.hex()[:digits]}" for content in contents for digits in (_NAME_DIGITS, None)}
    names = {name: f"near-{hashlib.sha256(name.encode()).hexdigest()[:_NAME_DIGITS]}" for name in named}
    return [None if name is None else names.get(name, name) for name in near_groups]


def _free_name(group: Sequence[bytes], before: Mapping[bytes, str], taken: set[str]) -> str:
    earlier = Counter(before[content] for content in group if content in before)
    wanted = [name for name, _ in sorted(earlier.items(), key=lambda entry: (-entry[1], entry[0]))]
    wanted += [f"near-{content.hex()[:_NAME_DIGITS]}" for content in group]
    return next(name for name in [*wanted, f"near-{group[0].hex()}"] if name not in taken)


def _checked(group: Sequence[str]) -> list[bytes]:
    try:
        contents = sorted({bytes.fromhex(content) for content in group})
    except (TypeError, ValueError):
        contents = []
    if not contents or any(len(content) != HASH_BYTES for content in contents):
        raise StoreError(
            f"a group consists of content hashes of {2 * HASH_BYTES} hexadecimal digits; "
            f"found {str(list(group))[:80]}"
        )
    return contents
