"""Lists of what containers hold, kept in the cache folder: an unchanged container is not opened to list it.

Nothing here is required: what is lacking, damaged or unwritable is listed again.
"""

import hashlib
import json
import logging
import os
import time
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from featstore.errors import StoreError
from featstore.images.sources.containers.member import Container, Member
from featstore.io.atomic import replacing
from featstore.io.cache_folder import cache_folder
from featstore.io.stamps import FileStamp
from featstore.version import __version__

__all__ = ["listed_once"]

_log = logging.getLogger(__name__)

_FOLDER = "listings"


def listed_once(
    path: str,
    stamp: FileStamp,
    make: Callable[[], Container],
    *,
    place_of: Callable[[Any], Any],
    asked: Sequence[str | None] = (),
) -> Container:
    """Return what a container holds, as it was listed while it had this stamp, or list it now.

    ``place_of`` makes a member's place of its JSON values; ``asked`` is what else decides the list.
    """
    path = os.path.abspath(path)
    # By the version too, since a later one may list something else.
    key = [__version__, os.fsencode(path).hex(), [*stamp], *asked]
    name = os.fsencode(path) + json.dumps(asked).encode() * any(asked)
    file = os.path.join(cache_folder(), _FOLDER, hashlib.sha256(name).hexdigest())
    if (known := _read(file, key, place_of)) is not None:
        return known
    is_racy = stamp.is_racy(time.time_ns())
    container = make()
    if not is_racy:
        _write(file, key, container)
    return container


def _read(file: str, key: list[Any], place_of: Callable[[Any], Any]) -> Container | None:
    try:
        with open(file, "rb") as opened:
            found = json.loads(zlib.decompress(opened.read()))
        if found["key"] != key:
            return None
        return Container(
            members={
                name: Member(place_of(place), label, inner) for name, place, label, inner in found["members"]
            },
            failures=[(name, reason) for name, reason in found["failures"]],
            others=Counter(found["others"]),
            skipped=Counter(found["skipped"]),
            keys=set(found["keys"]),
        )
    except (OSError, ValueError, KeyError, TypeError, zlib.error) as error:
        if not isinstance(error, FileNotFoundError):
            _log.debug("the listing %s is not used: %s", file, error)
        return None


def _write(file: str, key: list[Any], container: Container) -> None:
    whole = {
        "key": key,
        "members": [(name, one.place, one.label, one.path) for name, one in container.members.items()],
        "failures": container.failures,
        "others": container.others,
        "skipped": container.skipped,
        "keys": sorted(container.keys),
    }
    try:
        os.makedirs(os.path.dirname(file), exist_ok=True)
        with replacing(file) as temporary, open(temporary, "wb") as opened:
            opened.write(zlib.compress(json.dumps(whole).encode(), 1))
    except (OSError, StoreError) as error:
        _log.debug("the listing %s cannot be written: %s", file, error)
