"""Groups of near-duplicates: how they get names that last, and how they join the user's own groups."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from featstore.errors import StoreError
from featstore.store.keys import HASH_BYTES

if TYPE_CHECKING:
    from featstore.store.catalog import Catalog

__all__ = ["join_groups", "name_near_groups"]

_NAME_DIGITS = 16


def join_groups(groups: Sequence[str | None], near_groups: Sequence[str | None]) -> list[str | None]:
    """Make one column of the user's groups and those of near-duplicates.

    Images share a group where they share either, or hang together by a chain of both. It is named after the
    first, in the alphabet, of the user's groups in it, and where there is none after the near-duplicates'.

    Parameters
    ----------
    groups, near_groups : sequence of n str or None

    Returns
    -------
    list of n str or None

    Examples
    --------
    >>> join_groups(["plant 1", "plant 2", None, None, "plant 3"], [None, "near-a", "near-a", "near-b", None])
    ['plant 1', 'plant 2', 'plant 2', 'near-b', 'plant 3']
    """
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
    """Name groups so that one that was there before keeps its name, and with it its split.

    Parameters
    ----------
    content_groups : iterable of sequence of str
        The content hashes in each group, as 64 hexadecimal digits.
    catalogs : iterable of Catalog
        What the names were before.

    Returns
    -------
    dict of bytes to str
        The group's name for each content hash: of the names that its contents had, the most frequent one that
        no larger group has taken, or else one after its smallest content hash.

    Raises
    ------
    StoreError
        A content hash is none, or is in two groups.
    """
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
